"""The request path end to end, with every part able to fail alone."""

import asyncio

import pytest

from server.errors import BackendUnavailable, DeadlineExceeded, LogUnavailable, PolicyUnavailable, RequestIdReused
from server.storage.memory import MemoryUnavailable
from server.types import DegradationReason as Reason
from server.types import Exchange
from tests.path import Path
from tests.turns import a_turn


async def test_the_best_of_n_answers_and_everything_is_logged() -> None:
    path = Path()
    reply = await path.pipeline.answer(a_turn(candidate_count=3))
    assert reply.response == "an answer of middling length"
    assert reply.generation_method == "top_k_50"
    assert reply.candidates_count == 3
    assert reply.reward_score == max(c.reward_score or 0 for c in reply.candidates)
    assert list(reply.latencies) == [
        "context",
        "prompt",
        "candidates",
        "scoring",
        "quality",
        "selection",
        "log",
        "memory",
    ]
    assert reply.degradations == ()
    (entry,) = path.log.entries
    assert entry.reply.response == reply.response
    assert len(entry.reply.candidates) == 3


async def test_the_session_is_remembered_and_the_reward_model_sees_it() -> None:
    path = Path()
    await path.pipeline.answer(a_turn(query="first"))
    await path.pipeline.answer(a_turn(query="second", context="given facts"))
    assert path.policy.prompts[-1].startswith("<system> given facts <user> first <assistant>")
    assert path.reward.contexts[-1].startswith("given facts\nUser: first\nAssistant: ")
    assert [e.query for e in path.memory.sessions["default", "ann", "s1"]] == ["first", "second"]


async def test_the_log_keeps_the_very_context_that_the_reward_model_was_given() -> None:
    path = Path()
    await path.pipeline.answer(a_turn(query="đầu tiên"))
    await path.pipeline.answer(a_turn(query="thứ hai", context="given facts"))
    assert [entry.reward_context for entry in path.log.entries] == ["", path.reward.contexts[-1]]
    assert path.reward.contexts[-1] == f"given facts\nUser: đầu tiên\nAssistant: {path.log.entries[0].reply.response}"


async def test_sessions_of_two_users_never_mix() -> None:
    path = Path()
    await path.pipeline.answer(a_turn(user_id="ann", query="secret"))
    await path.pipeline.answer(a_turn(user_id="bob", query="hello"))
    assert "secret" not in path.policy.prompts[-1]


async def test_without_the_memory_the_answer_says_so() -> None:
    path = Path()
    path.memory.failures = [MemoryUnavailable("away")] * 3
    reply = await path.pipeline.answer(a_turn())
    assert [d.reason for d in reply.degradations] == [Reason.MEMORY_UNAVAILABLE, Reason.MEMORY_NOT_UPDATED]
    assert reply.response


async def test_without_the_reward_model_a_score_is_not_invented() -> None:
    path = Path()
    path.reward.failures = [BackendUnavailable("away")]
    reply = await path.pipeline.answer(a_turn())
    assert reply.reward_score is None
    assert reply.reward_release == ""
    assert reply.response == "short"
    assert [d.reason for d in reply.degradations] == [Reason.SCORING_UNAVAILABLE]


async def test_a_missing_candidate_is_told() -> None:
    path = Path()
    path.policy.failures = [BackendUnavailable("away")]
    reply = await path.pipeline.answer(a_turn(candidate_count=3))
    assert reply.candidates_count == 2
    assert [d.reason for d in reply.degradations] == [Reason.CANDIDATES_MISSING]


async def test_without_any_candidate_there_is_no_reply_and_no_row() -> None:
    path = Path()
    path.policy.failures = [BackendUnavailable("away")] * 3
    with pytest.raises(PolicyUnavailable):
        await path.pipeline.answer(a_turn())
    assert path.log.entries == []


async def test_a_reply_never_leaves_without_its_row() -> None:
    path = Path()
    path.log.failures = [LogUnavailable("away")]
    with pytest.raises(LogUnavailable):
        await path.pipeline.answer(a_turn())
    assert path.memory.sessions == {}


async def test_a_repeated_request_id_gets_the_first_reply() -> None:
    path = Path()
    first = await path.pipeline.answer(a_turn(request_id="r1"))
    again = await path.pipeline.answer(a_turn(request_id="r1"))
    assert again.response_id == first.response_id
    assert again.replayed
    assert again.response == first.response
    assert [c.text for c in again.candidates] == [c.text for c in first.candidates]
    assert len(path.log.entries) == 1


async def test_a_replayed_exchange_is_remembered_once() -> None:
    path = Path()
    path.memory.failures = [MemoryUnavailable("away")] * 3
    await path.pipeline.answer(a_turn(request_id="r1", query="first"))
    assert path.memory.sessions == {}
    path.memory.failures = []
    for _ in range(2):
        await path.pipeline.answer(a_turn(request_id="r1", query="first"))
    assert [e.query for e in path.memory.sessions["default", "ann", "s1"]] == ["first"]


async def test_what_the_reward_model_could_not_see_is_told() -> None:
    path = Path()
    path.reward.truncated = True
    reply = await path.pipeline.answer(a_turn())
    assert [d.reason for d in reply.degradations] == [Reason.SCORING_TRUNCATED]


async def test_looking_up_a_request_id_takes_a_small_part_of_the_time_that_is_left() -> None:
    path = Path()
    loop = asyncio.get_running_loop()
    for seconds in (1, 60):
        await path.pipeline.answer(a_turn(request_id=f"part-{seconds}", deadline=loop.time() + seconds))
    short, long = (path.log.lookups[0], path.log.lookups[2])  # each row's own one comes between
    assert 0 < short <= 0.15
    assert long == 0.3


async def test_a_request_id_of_another_question_is_refused() -> None:
    path = Path()
    await path.pipeline.answer(a_turn(request_id="r1", query="one"))
    with pytest.raises(RequestIdReused):
        await path.pipeline.answer(a_turn(request_id="r1", query="two"))


async def test_a_given_seed_that_can_not_be_honored_is_told() -> None:
    reply = await Path().pipeline.answer(a_turn(seed=5, seed_given=True))
    assert [d.reason for d in reply.degradations] == [Reason.SEED_NOT_HONORED]


async def test_a_log_that_hangs_ends_at_the_deadline() -> None:
    path = Path()
    path.log.append = lambda entry: asyncio.sleep(60)  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(DeadlineExceeded):
        await path.pipeline.answer(a_turn(deadline=asyncio.get_running_loop().time() + 0.1))


async def test_a_deadline_in_the_past_costs_nothing() -> None:
    path = Path()
    with pytest.raises(DeadlineExceeded):
        await path.pipeline.answer(a_turn(deadline=asyncio.get_running_loop().time() - 1))
    assert path.policy.prompts == []


async def test_a_user_is_not_asked_for_feedback_twice_in_a_row() -> None:
    path = Path()
    path.reward.failures = [BackendUnavailable("away")] * 2  # an unscored answer is worth asking about
    asked = [(await path.pipeline.answer(a_turn())).feedback_prompt for _ in range(2)]
    assert asked == [True, False]


async def test_old_exchanges_leave_the_prompt_before_the_query_does() -> None:
    path = Path()
    path.memory.sessions["default", "ann", "s1"] = [Exchange("word " * 500, "word " * 60), Exchange("b", "c")]
    reply = await path.pipeline.answer(a_turn(query="now"))
    assert path.policy.prompts[-1] == "<user> b <assistant> c <user> now"
    assert [d.reason for d in reply.degradations] == [Reason.CONTEXT_TRUNCATED]
