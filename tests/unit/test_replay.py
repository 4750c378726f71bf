"""How a logged request is asked again, and that asking it leaves no trace."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path as Directory
from typing import Any
from uuid import uuid4

import pytest

from server.errors import BackendUnavailable, ConfigurationError
from server.replay.recorded import NoLearner
from server.replay.replayer import Failed, Replayed, Replayer
from server.replay.request import Changes, asked_method, overruled, presets_of, settings_for, turn_of
from server.settings import Settings, load
from server.stages.settings import PRESETS
from server.storage.history import Logged, Place, ReplyNotFound, logged_of
from server.storage.rows import COLUMNS, LogEntry, values
from server.types import Evidence, Exchange, Preset, Profile, SelectionMethod, ToolOutcome
from tests.path import Path, StubTool
from tests.turns import a_candidate, a_turn, an_entry

PASSAGE = Evidence("docs", "d1#0", "Returns", "Return it within 30 days.", score=0.9)


def settings(**given: Any) -> Settings:
    return load(given, environment={})


def row(entry: LogEntry, **changes: Any) -> Mapping[str, Any]:
    return dict(zip(COLUMNS, values(entry), strict=True)) | changes


async def a_logged(*tools: StubTool, **changes: Any) -> tuple[Logged, Path]:
    """A request as the log has it after it went the whole path, and the path."""
    path = Path(*tools)
    path.profiles.profiles["default", "ann"] = Profile("default", "ann", {"tier": "gold"}, weight=3.0)
    path.memory.sessions["default", "ann", "s1"] = [Exchange("Hello", "Hi.")]
    await path.pipeline.answer(a_turn(**changes))
    return logged_of(row(path.log.entries[-1])), path


class StubParts:
    """The parts of a replay over the stubs of a path; `logged` is what every id holds."""

    def __init__(self, logged: Logged, path: Path) -> None:
        self.path, self.logged = path, logged
        self.history = self
        self.releases = self
        self.missing: set[Any] = set()
        self.reading = self.most = 0

    async def read(self, place: Place) -> Logged:
        if place.response_id in self.missing:
            raise ReplyNotFound("erased")
        self.reading += 1
        self.most = max(self.most, self.reading)
        await asyncio.sleep(0.001)
        self.reading -= 1
        return self.logged

    async def named(self, kind: str, release_id: str) -> Directory:
        if release_id == "gone":
            raise ConfigurationError("gone is gone")
        return Directory(release_id)

    async def services(self, policy: Directory, reward: Directory, *, drawing: bool) -> Any:
        services = self.path.pipeline._services
        return replace(services, learner=NoLearner(self.path.profiles, "m"), tools=(), log=None)  # type: ignore[arg-type]


def place(logged: Logged, **changes: Any) -> Place:
    found = Place("default", logged.reply.response_id, "policy-000001", "reward-000001")
    return replace(found, **changes)


async def replayed(logged: Logged, path: Path, **changes: Any) -> Replayed:
    asked = Changes(**{"settings": settings(), **changes})
    (found,) = [each async for each in Replayer(StubParts(logged, path), asked).run([place(logged)], 1)]  # type: ignore[arg-type]
    assert isinstance(found, Replayed), found
    return found


async def test_the_policy_is_shown_what_it_was_shown_then_and_nothing_is_kept() -> None:
    tool = StubTool("docs", PASSAGE)
    logged, path = await a_logged(tool, context="given facts")
    shown = path.policy.prompts[-1]
    assert "tier = gold" in shown
    assert "30 days" in shown
    kept = [*path.memory.sessions["default", "ann", "s1"]], dict(path.profiles.profiles), len(path.log.entries)
    path.memory.sessions["default", "ann", "s1"] = [Exchange("Something", "else since.")]
    path.profiles.profiles["default", "ann"] = Profile("default", "ann", {"tier": "none"})
    tool.evidence = ()
    found = await replayed(logged, path)
    assert path.policy.prompts[-1] == shown
    assert found.comparison.after.tool_runs[0].evidence == (PASSAGE,)
    assert path.memory.sessions["default", "ann", "s1"] == [Exchange("Something", "else since.")]
    assert len(path.log.entries) == kept[2]
    assert path.learner._lessons.qsize() == 1  # of the request itself
    assert found.comparison.after.response_id == logged.reply.response_id


async def test_a_tool_that_failed_fails_again() -> None:
    tool = StubTool("docs", PASSAGE)
    tool.failures = [RuntimeError("a defect")]
    logged, path = await a_logged(tool)
    found = await replayed(logged, path)
    (run,) = found.comparison.after.tool_runs
    assert (run.outcome, run.evidence) == (ToolOutcome.FAILED, ())
    assert found.comparison.changes == ()


async def test_another_threshold_refuses_and_the_logged_one_does_not() -> None:
    logged, path = await a_logged()
    assert not (await replayed(logged, path, settings=settings(minimum_reward=0.99))).comparison.after.refused
    asked = settings(minimum_reward=0.99)
    found = await replayed(logged, path, settings=asked, given=frozenset(["minimum_reward"]))
    assert found.comparison.after.refused
    assert (found.minimum_before, found.minimum_after) == (0.0, 0.99)


async def test_rescoring_draws_nothing_and_judges_the_logged_texts() -> None:
    logged, path = await a_logged()
    drawn = len(path.policy.prompts)
    same = await replayed(logged, path, rescore=True)
    assert same.comparison.changes == ()
    assert [c.text for c in same.comparison.after.candidates] == [c.text for c in logged.reply.candidates]
    asked = settings(selection="weighted", selection_temperature=10.0)
    given = frozenset(["selection", "selection_temperature"])
    texts = set()
    for seed in range(20):
        found = await replayed(logged, path, rescore=True, seed=seed, settings=asked, given=given)
        assert [c.text for c in found.comparison.after.candidates] == [c.text for c in logged.reply.candidates]
        texts.add(found.comparison.after.response)
    assert len(texts) == 3  # at so high a temperature, every candidate is chosen by some seed
    assert len(path.policy.prompts) == drawn


async def test_rescoring_a_candidate_that_was_not_drawn_leaves_it_so() -> None:
    path = Path()
    path.policy.failures = [BackendUnavailable("away")]
    await path.pipeline.answer(a_turn())
    logged = logged_of(row(path.log.entries[-1]))
    found = await replayed(logged, path, rescore=True)
    assert [c.error for c in found.comparison.after.candidates] == ["away", "", ""]
    assert found.comparison.changes == ()


async def test_results_come_in_order_and_no_more_than_asked_run_at_once() -> None:
    logged, path = await a_logged()
    parts = StubParts(logged, path)
    ids = [uuid4() for _ in range(9)]
    parts.missing = {ids[4]}
    places = [place(logged, response_id=each) for each in ids]
    places[7] = replace(places[7], reward_release="gone")
    found = [each async for each in Replayer(parts, Changes(settings())).run(places, 3)]  # type: ignore[arg-type]
    assert [each.place.response_id for each in found] == ids
    assert [n for n, each in enumerate(found) if isinstance(each, Failed)] == [4, 7]
    assert parts.most == 3


async def test_whoever_stops_listening_leaves_no_replay_running() -> None:
    logged, path = await a_logged()
    path.policy.delay = 60
    running = Replayer(StubParts(logged, path), Changes(settings())).run([place(logged)] * 3, 2)  # type: ignore[arg-type]
    listening = asyncio.ensure_future(anext(running))  # type: ignore[arg-type]
    while not path.policy.prompts[3:]:
        await asyncio.sleep(0.001)
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    await running.aclose()  # type: ignore[attr-defined]
    assert path.policy.cancelled >= 3


async def test_what_was_logged_holds_and_a_flag_wins() -> None:
    logged, _ = await a_logged(candidate_count=2, max_output_tokens=17, seed=5, selection_method=None)
    now = settings(candidates=4, max_output_tokens=99, exploration=0.5, selection="ensemble")
    same = turn_of(logged, Changes(now))
    assert (same.candidate_count, same.max_output_tokens, same.seed) == (2, 17, 5)
    assert settings_for(logged, Changes(now), "reward-000001").exploration == 0.0
    assert settings_for(logged, Changes(settings(instructions="New.")), "reward-000001").instructions == ""
    given = frozenset(["candidates", "max_output_tokens", "exploration"])
    other = turn_of(logged, Changes(now, given, seed=6))
    assert (other.candidate_count, other.max_output_tokens, other.seed) == (4, 99, 6)
    found = settings_for(logged, Changes(now, given), "reward-000001")
    assert (found.exploration, found.selection) == (0.5, "best")


async def test_a_threshold_stays_with_the_release_that_it_was_set_for() -> None:
    logged, _ = await a_logged()
    assert settings_for(logged, Changes(settings()), "reward-000001").minimum_reward == 0.0
    assert settings_for(logged, Changes(settings()), "reward-000002").minimum_reward is None


async def test_what_the_request_asked_for_is_asked_again_unless_a_flag_overrules_it() -> None:
    logged, _ = await a_logged(minimum_reward=0.1, selection_method=SelectionMethod.WEIGHTED)
    turn = turn_of(logged, Changes(settings()))
    assert (turn.minimum_reward, turn.selection_method) == (0.1, SelectionMethod.WEIGHTED)
    changes = Changes(settings(minimum_reward=0.9), frozenset(["minimum_reward"]))
    assert turn_of(logged, changes).minimum_reward is None
    (note,) = overruled(logged, changes)
    assert "minimum reward 0.1" in note


async def test_a_row_of_an_older_ratchet_replays_and_says_what_it_lacks() -> None:
    entry = an_entry(a_turn(seed=3))
    old = row(entry, selection="{}", context='{"given": "facts", "turns": [{"query": "a", "response": "b"}]}')
    logged = logged_of(old)
    assert len(logged.missing) == 3
    turn = turn_of(logged, Changes(settings()))
    assert (turn.candidate_count, turn.max_output_tokens, turn.context) == (2, 64, "facts")
    assert turn.selection_method is SelectionMethod.BEST  # there was no exploration then
    found = await replayed(logged, Path())
    assert set(logged.missing) <= set(found.notes)


async def test_a_row_says_which_method_the_request_named() -> None:
    open_one, _ = await a_logged(selection_method=None)
    assert asked_method(open_one) is None
    named, _ = await a_logged(selection_method=SelectionMethod.ENSEMBLE)
    assert asked_method(named) is SelectionMethod.ENSEMBLE


@pytest.mark.parametrize(
    ("used", "now", "expected"),
    [
        ("ab", "abc", "abc"),
        ("abca", "abc", "abc"),
        ("abab", "abc", "ab"),
        ("xyzxy", "abc", "xyz"),
        ("xxx", "abc", "x"),
    ],
)
def test_the_presets_of_then_are_read_off_the_candidates(used: str, now: str, expected: str) -> None:
    def presets(names: Sequence[str]) -> tuple[Preset, ...]:
        return tuple(Preset(name) for name in names)

    candidates = [
        replace(a_candidate(n), sampling=replace(a_candidate(n).sampling, preset=preset))
        for n, preset in enumerate(presets(used))
    ]
    assert presets_of(candidates, presets(now)) == presets(expected)


def test_the_usual_presets_are_found_again() -> None:
    candidates = [
        replace(a_candidate(n), sampling=replace(a_candidate(n).sampling, preset=PRESETS[n % 3])) for n in range(5)
    ]
    assert presets_of(candidates, PRESETS) == PRESETS
