"""The whole path with candidates, tools and stores that misbehave: what is chosen, and what the reply says."""

import asyncio
import math

import pytest

from server import absence
from server.errors import BackendUnavailable, InvalidRequest, QueryTooLong, StoreUnavailable
from server.judging import rules_of
from server.progress import CandidateDrawn, CandidateScored, Progress, Regenerating, ToolFinished, ToolsSelected
from server.stages import candidates as drawing
from server.stages import quality
from server.stages.settings import PathSettings
from server.storage.profiles import Change
from server.tools.tool import ToolFailed, ToolRefused
from server.types import DegradationReason as Reason
from server.types import Evidence, ScoreSource, SelectionMethod, ToolOutcome, ToolUse
from tests.path import Path, StubTool
from tests.turns import a_candidate, a_turn

WARRANTY = Evidence("docs", "d#1", "Warranty", "The warranty lasts 24 months from the day of purchase.", score=0.9)
QUERY = "How long is the warranty?"
GOOD = "The warranty lasts 24 months from the day of purchase."
FINE = "It lasts 24 months."


def rewarding(path: Path, favourite: str) -> None:
    """Gives `favourite` the highest reward."""
    path.reward.value = lambda text: 0.99 if text == favourite else 0.7


@pytest.mark.parametrize(
    "planted",
    [
        pytest.param("You stupid idiot, go to hell, nobody wants your questions here.", id="toxic"),
        pytest.param("Đồ ngu, mày câm mồm lại đi.", id="toxic in Vietnamese"),
        pytest.param("?", id="too short"),
        pytest.param("The warranty lasts 36 months from the day of purchase.", id="off the evidence"),
        pytest.param(
            "The warranty is good. The warranty is good. The warranty is good. The warranty is good.", id="repetitive"
        ),
        pytest.param("Bảo hành kéo dài 24 tháng kể từ ngày mua hàng.", id="in another language"),
        pytest.param("To look that up, please send me your card number and the password.", id="asks for secrets"),
    ],
)
async def test_a_bad_candidate_with_the_highest_reward_is_never_chosen(planted: str) -> None:
    path = Path(StubTool("docs", WARRANTY), exploration=1.0)
    path.policy.say(planted, GOOD, planted, FINE, planted)
    rewarding(path, planted)
    for seed in range(6):
        path.policy.say(planted, GOOD, planted, FINE, planted)
        reply = await path.pipeline.answer(
            a_turn(query=QUERY, candidate_count=5, seed=seed, selection_method=None, session_id="", user_id="")
        )
        assert reply.response in (GOOD, FINE)
        bad = [c for c in reply.candidates if c.text == planted]
        assert bad
        assert all(reply.choice.probabilities[c.index] == 0 for c in bad)
        assert any(not f.passed and f.detail for f in bad[0].findings)
        assert math.isclose(sum(reply.choice.probabilities), 1.0)


async def test_when_every_candidate_fails_others_are_drawn_once() -> None:
    path = Path(StubTool("docs", WARRANTY))
    path.policy.say("The warranty lasts 36 months.", "It lasts 48 months.", GOOD, FINE)
    heard: list[Progress] = []
    reply = await path.pipeline.answer(a_turn(query=QUERY, candidate_count=2), heard.append)
    assert reply.regenerated
    assert reply.response in (GOOD, FINE)
    assert [c.wave for c in reply.candidates] == [0, 0, 1, 1]
    assert [c.index for c in reply.candidates] == [0, 1, 2, 3]
    (again,) = [each for each in heard if isinstance(each, Regenerating)]
    assert any("36" in reason for reason in again.reasons)


@pytest.mark.parametrize("wait", [0.0, 20.0])
async def test_a_policy_that_goes_away_before_others_are_drawn_is_waited_for(
    wait: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(absence, "ASK_AGAIN_SECONDS", 0.01)
    path = Path(StubTool("docs", WARRANTY), policy_wait=wait)
    path.policy.say("The warranty lasts 36 months.", "It lasts 48 months.", GOOD, FINE)

    def go_away(event: Progress) -> None:
        if isinstance(event, Regenerating):
            path.policy.failures = [BackendUnavailable("gone")] * 4

    reply = await path.pipeline.answer(a_turn(query=QUERY, candidate_count=2), go_away)
    assert [c.drawn for c in reply.candidates] == [True, True, bool(wait), bool(wait)]
    assert reply.refused is not bool(wait)


async def test_with_an_answer_in_hand_a_policy_that_goes_away_is_not_waited_for() -> None:
    path = Path(early_stop=0.0001, first_wave=1, policy_wait=3600.0)

    def go_away(event: Progress) -> None:
        if isinstance(event, CandidateDrawn) and event.candidate.index == 0:
            path.policy.failures = [BackendUnavailable("gone")] * 99

    async with asyncio.timeout(20):
        reply = await path.pipeline.answer(a_turn(candidate_count=3), go_away)
    assert [c.drawn for c in reply.candidates] == [True, False, False]
    assert reply.response


async def test_when_all_fail_again_the_refusal_answers_and_says_why() -> None:
    path = Path(StubTool("docs", WARRANTY), refusal="No answer.", refusal_vi="Không có câu trả lời.")
    path.policy.say(*["The warranty lasts 36 months."] * 8)
    reply = await path.pipeline.answer(a_turn(query=QUERY, candidate_count=2))
    assert reply.refused
    assert reply.response == "No answer."
    assert reply.reward_score is None
    assert reply.generation_method == "refusal"
    assert not reply.feedback_prompt
    assert reply.selection_probability == 1.0
    assert len(reply.candidates) == 4
    assert reply.refusal_reasons
    assert path.memory.sessions == {}, "a refusal is no part of the conversation"
    assert path.log.entries[0].reply.refused


async def test_a_refusal_speaks_the_language_of_the_query() -> None:
    path = Path(refusal_vi="Không có câu trả lời.", minimum_reward=1.0, regenerate="off")
    reply = await path.pipeline.answer(a_turn(query="Bảo hành kéo dài bao lâu vậy shop?"))
    assert reply.response == "Không có câu trả lời."


async def test_there_is_no_second_draw_without_time_for_it() -> None:
    path = Path(minimum_reward=1.0)
    path.policy.delay = 0.6
    reply = await path.pipeline.answer(a_turn(deadline=asyncio.get_running_loop().time() + 1.2))
    assert reply.refused
    assert not reply.regenerated


async def test_the_requests_minimum_reward_goes_before_the_settings() -> None:
    path = Path(minimum_reward=1.0)
    reply = await path.pipeline.answer(a_turn(minimum_reward=0.0))
    assert not reply.refused
    assert path.log.entries[0].decided["minimum_reward"] == 0.0


async def test_without_a_setting_the_scoring_releases_own_threshold_holds() -> None:
    path = Path(minimum_reward=None, regenerate="off")
    path.reward.release.threshold = 0.99
    assert (await path.pipeline.answer(a_turn())).refused
    path.reward.release.threshold = 0.0
    assert not (await path.pipeline.answer(a_turn())).refused


async def test_one_stuck_candidate_does_not_hold_the_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "GRACE_SECONDS", 0.1)
    path = Path(patience=0.1)
    path.policy.stuck = {0}
    reply = await asyncio.wait_for(path.pipeline.answer(a_turn(candidate_count=3)), 8)
    assert reply.candidates_count == 2
    assert [d.reason for d in reply.degradations] == [Reason.CANDIDATES_MISSING]
    assert path.policy.cancelled == 1


async def test_when_the_reward_fails_the_verified_release_scores_all() -> None:
    path = Path(reward_fallback="reward-000000")
    path.reward.failures = [BackendUnavailable("away")] * 9
    reply = await path.pipeline.answer(a_turn())
    assert reply.reward_release == "reward-000000"
    assert all(c.score for c in reply.candidates)
    assert Reason.SCORING_FELL_BACK in [d.reason for d in reply.degradations]


async def test_without_any_reward_the_rules_decide() -> None:
    path = Path(StubTool("docs", WARRANTY))
    path.reward.failures = [BackendUnavailable("away")] * 9
    path.policy.say("The warranty lasts 36 months.", GOOD)
    reply = await path.pipeline.answer(a_turn(query=QUERY, candidate_count=2))
    assert reply.response == GOOD
    assert reply.choice.method is SelectionMethod.RULES
    assert reply.reward_score is None


async def test_evidence_reaches_prompt_reward_log_and_citations() -> None:
    path = Path(StubTool("docs", WARRANTY))
    path.policy.say(GOOD)
    reply = await path.pipeline.answer(a_turn(query=QUERY, candidate_count=1))
    line = "Evidence:\n[Warranty] The warranty lasts 24 months"
    assert line in path.policy.prompts[-1]
    assert line in path.reward.contexts[-1]
    (citation,) = reply.citations
    assert citation.evidence == WARRANTY
    (run,) = path.log.entries[0].reply.tool_runs
    assert (run.tool, run.outcome, run.evidence) == ("docs", ToolOutcome.FOUND, (WARRANTY,))


@pytest.mark.parametrize(
    ("failure", "outcome", "degraded"),
    [
        (ToolFailed("away"), ToolOutcome.FAILED, True),
        (ToolRefused("forbidden"), ToolOutcome.REFUSED, False),
        (RuntimeError("defect"), ToolOutcome.FAILED, True),
    ],
)
async def test_a_tool_that_fails_is_told_and_the_others_still_count(
    failure: Exception, outcome: ToolOutcome, degraded: bool
) -> None:
    broken, docs = StubTool("web"), StubTool("docs", WARRANTY)
    broken.failures = [failure]
    reply = await Path(broken, docs).pipeline.answer(a_turn(query=QUERY))
    assert [run.outcome for run in reply.tool_runs] == [outcome, ToolOutcome.FOUND]
    assert (Reason.TOOL_UNAVAILABLE in [d.reason for d in reply.degradations]) is degraded


async def test_a_tool_that_hangs_is_given_up() -> None:
    slow = StubTool("web")
    slow.delay = 60
    reply = await Path(slow, tool_budget=0.1).pipeline.answer(a_turn())
    assert [run.outcome for run in reply.tool_runs] == [ToolOutcome.LATE]
    assert reply.response


async def test_a_request_chooses_its_tools() -> None:
    docs, web = StubTool("docs", WARRANTY), StubTool("web")
    path = Path(docs, web)
    assert (await path.pipeline.answer(a_turn(tool_use=ToolUse.NONE))).tool_runs == ()
    assert [r.tool for r in (await path.pipeline.answer(a_turn(tools=("web",)))).tool_runs] == ["web"]
    with pytest.raises(InvalidRequest) as refused:
        await path.pipeline.answer(a_turn(tools=("dosc",)))
    assert refused.value.violations[0].field == "tools[0]"


async def test_two_users_with_opposite_profiles_get_different_prompts() -> None:
    path = Path()
    await path.profiles.put("default", "ann", Change({"activity": "climbing"}))
    await path.profiles.put("default", "bob", Change({"activity": "sailing"}))
    for user in ("ann", "bob", "eve"):
        reply = await path.pipeline.answer(a_turn(user_id=user, session_id=""))
        assert reply.profile_used == (user != "eve")
    ann, bob, eve = path.policy.prompts[0], path.policy.prompts[3], path.policy.prompts[6]
    assert "activity = climbing" in ann
    assert "activity = sailing" in bob
    assert "User:" not in eve


async def test_a_profile_store_that_hangs_or_fails_is_skipped_and_told() -> None:
    path = Path(profile_budget=0.05)
    path.profiles.delay = 60
    reply = await path.pipeline.answer(a_turn())
    assert [d.reason for d in reply.degradations] == [Reason.PROFILE_UNAVAILABLE]
    path.profiles.delay, path.profiles.failures = 0.0, [StoreUnavailable("away")]
    reply = await path.pipeline.answer(a_turn())
    assert [d.reason for d in reply.degradations] == [Reason.PROFILE_UNAVAILABLE]


async def test_what_a_user_asks_moves_the_preference() -> None:
    path = Path()
    path.learner.start()
    await path.pipeline.answer(a_turn(user_id="ann", query="warm rain jackets"))
    await path.pipeline.answer(a_turn(user_id="", query="warm rain jackets"))
    await path.learner.stop()
    assert path.profiles.profiles["default", "ann"].weight == 1.0
    assert ("default", "") not in path.profiles.profiles


async def test_a_watcher_hears_tools_then_candidates_as_they_come() -> None:
    path = Path(StubTool("docs", WARRANTY))
    heard: list[Progress] = []
    reply = await path.pipeline.answer(a_turn(query=QUERY, candidate_count=3, minimum_reward=0.0), heard.append)
    assert isinstance(heard[0], ToolsSelected)
    assert isinstance(heard[1], ToolFinished)
    drawn = {each.candidate.index for each in heard if isinstance(each, CandidateDrawn)}
    scored = {e.candidate.index: e.candidate.reward_score for e in heard if isinstance(e, CandidateScored)}
    assert drawn == {c.index for c in reply.candidates}
    assert scored == {c.index: c.reward_score for c in reply.candidates if c.drawn}


async def test_early_stop_draws_fewer_once_it_knows_what_scores_to_expect() -> None:
    path = Path(early_stop=0.05, first_wave=2)
    for number in range(60):
        path.reward.value = lambda text, level=0.6 + 0.005 * (number % 7): level + 0.001 * (len(text) % 3)
        reply = await path.pipeline.answer(a_turn(candidate_count=5, user_id="", session_id=""))
    assert 2 <= len(reply.candidates) < 5


async def test_nobody_else_explores_when_a_method_is_named() -> None:
    path = Path(exploration=1.0)
    named = await path.pipeline.answer(a_turn(selection_method=SelectionMethod.BEST))
    assert not named.choice.explored
    assert named.selection_probability == 1.0
    assert (await path.pipeline.answer(a_turn(selection_method=None))).choice.explored


async def test_scores_say_where_they_come_from() -> None:
    reply = await Path().pipeline.answer(a_turn())
    assert {c.score.source for c in reply.candidates if c.score} == {ScoreSource.MODEL}


async def test_a_durable_reply_is_not_lost_while_the_memory_hangs() -> None:
    path = Path()
    path.memory.delay = 60
    reply = await path.pipeline.answer(a_turn(deadline=asyncio.get_running_loop().time() + 0.5))
    assert {d.reason for d in reply.degradations} >= {Reason.MEMORY_UNAVAILABLE, Reason.MEMORY_NOT_UPDATED}
    assert len(path.log.entries) == 1


async def test_what_hangs_one_after_the_other_still_fits_a_small_deadline() -> None:
    slow = StubTool("web")
    slow.delay = path_delay = 60.0
    path = Path(slow)
    path.memory.delay = path.profiles.delay = path_delay
    reply = await path.pipeline.answer(a_turn(deadline=asyncio.get_running_loop().time() + 1.0))
    assert reply.response
    assert {d.reason for d in reply.degradations} >= {Reason.PROFILE_UNAVAILABLE, Reason.TOOL_UNAVAILABLE}


async def test_a_repeated_request_teaches_the_profile_once() -> None:
    path = Path()
    path.learner.start()
    for _ in range(3):
        await path.pipeline.answer(a_turn(user_id="ann", request_id="again", query="warm rain jackets"))
    await path.learner.stop()
    assert path.profiles.profiles["default", "ann"].weight == 1.0


async def test_waves_end_in_time_when_an_answer_is_in_hand() -> None:
    path = Path(early_stop=0.01, first_wave=2)
    path.policy.stuck = {1, 3, 5, 7, 9}
    deadline = asyncio.get_running_loop().time() + 2.0
    reply = await path.pipeline.answer(a_turn(candidate_count=10, deadline=deadline))
    assert reply.response


async def test_evidence_that_nothing_can_store_does_not_cost_the_reply() -> None:
    path = Path(StubTool("web", Evidence("web", "s\0", "t\ud800", "The warranty\0 lasts 24 months.")))
    reply = await path.pipeline.answer(a_turn(query=QUERY))
    (evidence,) = reply.tool_runs[0].evidence
    assert (evidence.source, evidence.title, evidence.text) == ("s", "t?", "The warranty lasts 24 months.")


async def test_a_query_that_no_prompt_holds_is_refused_before_anything_is_looked_up() -> None:
    tool = StubTool("docs", WARRANTY)
    path = Path(tool)
    with pytest.raises(QueryTooLong):
        await path.pipeline.answer(a_turn(query="word " * 600))
    assert tool.questions == []


async def test_a_candidate_that_was_not_scored_does_not_beat_those_that_were() -> None:
    reading = quality.Reading(quality.Material(QUERY), rules_of(PathSettings()))
    candidates = [a_candidate(0, GOOD, 0.4), a_candidate(1, FINE, None)]
    checked, _ = await quality.check(candidates, reading, quality.Classifiers(), 0.6, 1.0, scored=True)
    assert [candidate.passed for candidate in checked] == [False, False]
    checked, _ = await quality.check(candidates[1:], reading, quality.Classifiers(), 0.6, 1.0)
    assert [candidate.passed for candidate in checked] == [True]


async def test_a_rule_that_breaks_fails_its_candidate_and_not_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = quality._judged

    def broken(text: str, *rest: object) -> object:
        if text == GOOD:
            raise RuntimeError("a defect")
        return judged(text, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(quality, "_judged", broken)
    path = Path()
    path.policy.say(GOOD, FINE)
    reply = await path.pipeline.answer(a_turn(query=QUERY, candidate_count=2))
    assert reply.response == FINE


async def test_a_row_is_cited_for_a_single_value() -> None:
    row = Evidence("sql", "order", "orders", "order TT-12345 | status cancelled", excludes=("delivered", "shipped"))
    path = Path(StubTool("sql", row))
    path.policy.say("Your order is delivered.", "This order is marked as cancelled.")
    reply = await path.pipeline.answer(a_turn(query="What is the status of order TT-12345?", candidate_count=2))
    assert reply.response == "This order is marked as cancelled."
    assert [citation.evidence.source for citation in reply.citations] == ["order"]


async def test_a_defect_in_memory_profiles_or_embedding_does_not_fail_the_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = Path()
    path.memory.failures = [RuntimeError("a defect")]
    path.profiles.failures = [RuntimeError("a defect")]

    async def broken(*_: object) -> list[tuple[float, ...]]:
        raise RuntimeError("a defect")

    monkeypatch.setattr(path.embedder, "embed", broken)
    reply = await path.pipeline.answer(a_turn())
    assert {d.reason for d in reply.degradations} == {
        Reason.MEMORY_UNAVAILABLE,
        Reason.PROFILE_UNAVAILABLE,
        Reason.EMBEDDING_UNAVAILABLE,
        Reason.MEMORY_NOT_UPDATED,
    }


async def test_a_defect_in_remembering_does_not_cost_a_durable_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path()

    async def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(path.memory, "remember", broken)
    monkeypatch.setattr(path.memory, "claim_feedback_prompt", broken)
    reply = await path.pipeline.answer(a_turn())
    assert [d.reason for d in reply.degradations] == [Reason.MEMORY_NOT_UPDATED]
    assert len(path.log.entries) == 1
