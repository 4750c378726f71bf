"""Challengers in shadow: what they answer, what is kept of it, and that nobody ever waits for them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from server.errors import BackendRefused, BackendTimeout, StoreUnavailable
from server.rollout import shadow as module
from server.rollout.registry import Assignment
from server.rollout.routed import FixedRoutes, Routed, Shadowed
from server.rollout.shadow import Given, Shadow, chosen
from server.rollout.shadowing import ShadowAnswer
from server.rollout.types import Kind
from server.stages.prompt import Material
from server.types import FinishReason, Generation, Sampling, Score, Turn
from tests.path import Path
from tests.turns import a_candidate, a_turn


class Kept:
    """Keeps answers, unless Postgres is `away`."""

    def __init__(self) -> None:
        self.answers: list[ShadowAnswer] = []
        self.away = False

    async def add(self, answer: ShadowAnswer) -> None:
        if self.away:
            raise StoreUnavailable("Postgres is away.")
        self.answers.append(answer)


class Judge:
    """A reward that scores texts by `by`, or fails."""

    def __init__(self, by: Callable[[str], float], failure: Exception | None = None) -> None:
        self.by, self.failure = by, failure
        self.asked: list[tuple[str, str, tuple[str, ...]]] = []
        self.release: Any = SimpleNamespace(id="reward-000001")

    async def score(self, context: str, query: str, responses: Sequence[str], timeout: float) -> list[Score]:
        self.asked.append((context, query, tuple(responses)))
        if self.failure:
            raise self.failure
        return [Score(self.by(text), 0.0) for text in responses]


class Drawer:
    """A policy whose candidates are its `texts` in turn."""

    def __init__(self, *texts: str, failure: Exception | None = None) -> None:
        self.texts, self.failure = texts, failure
        self.prompts: list[tuple[str, Sampling]] = []

    def window(self, max_output_tokens: int) -> tuple[int, int]:
        return 1000, max_output_tokens // 2

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        return "|".join(f"{message['role']}: {message['content']}" for message in messages)

    def count(self, text: str) -> int:
        return len(text.split())

    def tail(self, text: str, tokens: int) -> str:
        return " ".join(text.split()[-tokens:])

    async def generate(self, prompt: str, sampling: Sampling, timeout: float) -> Generation:
        if self.failure:
            raise self.failure
        self.prompts.append((prompt, sampling))
        return Generation(self.texts[(len(self.prompts) - 1) % len(self.texts)], FinishReason.STOP, 3)


def a_given(**changes: Any) -> Given:
    candidates = (a_candidate(0, "short"), a_candidate(1, "a longer one"), a_candidate(2, error="Late."))
    basis = Given(a_turn(), Material(context="given"), candidates, "context of rewards", Judge(len_part), "")
    return replace(basis, **changes)


def of_reward(challenger: Judge, share: float = 1.0) -> Shadowed:
    return Shadowed("rollout", Kind.REWARD, share, reward=challenger)


def of_policy(challenger: Any) -> Shadowed:
    return Shadowed("rollout", Kind.POLICY, 1.0, policy=challenger)


def len_part(text: str) -> float:
    return min(len(text), 20) / 20


@asynccontextmanager
async def shadowing(kept: Kept, busy: Callable[[], bool] = lambda: False) -> AsyncIterator[Shadow]:
    with ThreadPoolExecutor(1) as threads:
        shadow = Shadow(kept, threads=threads, evidence_tokens=100, busy=busy)
        shadow.start()
        yield shadow
        await shadow.stop()


async def answers(kept: Kept, *offers: tuple[Given, Shadowed]) -> list[ShadowAnswer]:
    """What is kept of the offers, once all were looked at."""
    async with shadowing(kept) as shadow:
        for given, shadowed in offers:
            shadow.offer(given, [shadowed])
        await looked_at(shadow)
    return kept.answers


async def looked_at(shadow: Shadow) -> None:
    async with asyncio.timeout(10):
        await shadow.idle()


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REST", 0.0)


@pytest.mark.parametrize("number", [2, 3], ids=["challenger first", "champion first"])
async def test_a_reward_scores_the_same_candidates_beside_the_champion(number: int) -> None:
    given = a_given(turn=a_turn(response_id=UUID(int=number)))
    challenger = Judge(lambda text: 1 - len_part(text))
    found = await answers(Kept(), (given, of_reward(challenger)))
    assert [(one.scores, one.champion_scores, one.same_choice, one.error) for one in found] == [
        ((0.75, 0.4), (0.25, 0.6), False, "")
    ]
    assert (found[0].rollout_id, found[0].response_id) == ("rollout", UUID(int=number))
    assert challenger.asked == [("context of rewards", given.turn.query, ("short", "a longer one"))]


async def test_the_champions_scores_are_those_that_were_logged_so_that_ratings_can_be_matched_to_them() -> None:
    """Batches round differently. Where another release judged the reply, the champion's new ones are kept."""
    for release, scores in (("reward-000001", (0.5, 0.5)), ("reward-fallback", (0.25, 0.6))):
        found = await answers(Kept(), (a_given(release=release), of_reward(Judge(len_part))))
        assert [one.champion_scores for one in found] == [scores]


async def test_equal_texts_are_scored_once_so_that_ties_do_not_count_as_agreement() -> None:
    given = a_given(candidates=(a_candidate(0, "same"), a_candidate(1, "same"), a_candidate(2, "other one")))
    found = await answers(Kept(), (given, of_reward(Judge(len_part))))
    assert [len(one.scores) for one in found] == [2]
    assert found[0].same_choice is True


@pytest.mark.parametrize(
    ("failure", "why"),
    [(BackendTimeout("Late."), "did not answer within 10 s"), (BackendRefused("A torn graph."), "A torn graph")],
)
async def test_a_challenger_that_fails_is_an_answer_with_its_error_and_without_scores(
    failure: Exception, why: str
) -> None:
    found = await answers(Kept(), (a_given(), of_reward(Judge(len_part, failure))))
    assert [(one.scores, one.champion_scores, one.same_choice) for one in found] == [((), (0.25, 0.6), None)]
    assert why in found[0].error


async def test_a_champion_that_fails_is_nothing_that_the_challenger_did() -> None:
    given = a_given(judge=Judge(len_part, BackendTimeout("Late.")))
    assert await answers(Kept(), (given, of_reward(Judge(len_part))), (given, of_policy(Drawer("tiny")))) == []


async def test_a_policy_answers_the_same_conversation_by_its_own_template_and_window() -> None:
    drawer = Drawer("tiny", "quite a bit longer")
    given = a_given()
    found = await answers(Kept(), (given, of_policy(drawer)))
    assert [(one.scores, one.champion_scores, one.same_choice) for one in found] == [
        ((0.2, 0.9, 0.2), (0.25, 0.6), None)
    ]
    assert found[0].champion_seconds == 0.25  # the reply's slowest candidate
    assert len(drawer.prompts) == 3  # as many as the reply's, its failed one too
    for prompt, sampling in drawer.prompts:
        assert "given" in prompt
        assert given.turn.query in prompt
        assert sampling.max_tokens == given.turn.max_output_tokens // 2
    assert [sampling.seed for _, sampling in drawer.prompts] == [c.sampling.seed for c in given.candidates]


async def test_a_policy_that_draws_nothing_is_an_answer_with_its_error() -> None:
    found = await answers(Kept(), (a_given(), of_policy(Drawer(failure=BackendRefused("No room.")))))
    assert [(one.scores, one.champion_scores) for one in found] == [((), (0.25, 0.6))]
    assert "No room" in found[0].error


async def test_only_the_planned_share_of_replies_is_answered_and_each_rollout_draws_its_own() -> None:
    ids = [UUID(int=number) for number in range(4000)]
    shadows = [replace(of_reward(Judge(len_part), share=0.1), rollout_id=name) for name in ("one", "two")]
    first, second = ({each for each in ids if chosen(shadow, "t", each)} for shadow in shadows)
    assert abs(len(first) - 400) < 100
    assert abs(len(first & second) - 40) < 30


async def test_replies_without_texts_or_without_a_reward_are_not_answered() -> None:
    judge = Judge(len_part)
    nothing = a_given(candidates=(a_candidate(0, error="Late."),))
    assert await answers(Kept(), (nothing, of_reward(judge)), (a_given(reward_context=None), of_reward(judge))) == []
    assert judge.asked == []


async def test_a_busy_server_has_no_shadow() -> None:
    kept, judge = Kept(), Judge(len_part)
    async with shadowing(kept, busy=lambda: True) as shadow:
        shadow.offer(a_given(), [of_reward(judge)])
        await looked_at(shadow)
    assert judge.asked == []


async def test_who_offers_never_waits_and_what_is_too_much_is_dropped() -> None:
    """A challenger that hangs: offers return at once, and no more than the bound waits."""
    hanging = asyncio.Event()

    class Hanging(Judge):
        async def score(self, *given: Any) -> list[Score]:
            await hanging.wait()
            return await super().score(*given)

    kept, judge = Kept(), Hanging(len_part)
    async with shadowing(kept) as shadow:
        for _ in range(3 * module.WAITING):
            shadow.offer(a_given(), [of_reward(judge)])
        await asyncio.sleep(0)
        hanging.set()
        await looked_at(shadow)
    assert len(kept.answers) == module.WAITING


async def test_a_shadow_that_can_not_be_kept_ends_nothing() -> None:
    kept = Kept()
    async with shadowing(kept) as shadow:
        kept.away = True
        shadow.offer(a_given(), [of_reward(Judge(len_part))])
        shadow.offer(a_given(), [of_reward(Judge(len_part, ZeroDivisionError("a defect")))])
        await looked_at(shadow)
        kept.away = False
        shadow.offer(a_given(), [of_reward(Judge(len_part))])
        await looked_at(shadow)
    assert len(kept.answers) == 1


async def test_it_ends_while_an_answer_is_under_way() -> None:
    class Hanging(Judge):
        async def score(self, *_: Any) -> list[Score]:
            await asyncio.Event().wait()
            raise AssertionError

    async with shadowing(Kept()) as shadow:
        shadow.offer(a_given(), [of_reward(Hanging(len_part))])
        await asyncio.sleep(0)


class Offered:
    """Notes what is offered, and how many rows the log had by then."""

    def __init__(self) -> None:
        self.given: list[tuple[Given, Sequence[Shadowed], int]] = []
        self.path: Path | None = None

    def offer(self, given: Given, shadows: Sequence[Shadowed]) -> None:
        assert self.path is not None
        self.given.append((given, shadows, len(self.path.log.entries)))


class InShadow:
    """`Router` of one release each, and one in shadow."""

    def __init__(self, shadow: Shadowed) -> None:
        self.shadow = shadow
        self.path: Path | None = None

    def of(self, turn: Turn) -> Routed:
        assert self.path is not None
        return replace(FixedRoutes(self.path.policy, self.path.judges).of(turn), shadows=(self.shadow,))

    def failed(self, turn: Turn, assignments: Sequence[Assignment], reason: str) -> None:
        raise AssertionError("There are no experiments.")


def a_path() -> tuple[Path, Offered]:
    offered, routes = Offered(), InShadow(of_reward(Judge(len_part)))
    offered.path = routes.path = Path(routes=routes, shadow=offered)
    return offered.path, offered


async def test_a_reply_is_offered_once_its_row_is_logged_with_all_candidates() -> None:
    path, offered = a_path()
    turn = a_turn(session_id="")
    reply = await path.pipeline.answer(turn)
    ((given, shadows, rows),) = offered.given
    assert rows == 1
    assert [shadow.rollout_id for shadow in shadows] == ["rollout"]
    assert given.turn is turn
    assert given.candidates == reply.candidates
    assert given.reward_context == path.reward.contexts[0]
    assert given.judge is path.reward


async def test_a_repeated_request_is_not_offered_again() -> None:
    path, offered = a_path()
    for _ in range(2):
        await path.pipeline.answer(a_turn(session_id="", request_id="once"))
    assert len(offered.given) == 1
