"""What is observed of a rollout becomes evidence: who counts where, which guardrail breaks, how long it still takes."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from server.rollout.comparison import Compared, compare, of_shadow
from server.rollout.evidence import LATE, MOST, Followed
from server.rollout.observed import (
    Failures,
    Mark,
    News,
    Observed,
    Rating,
    Replies,
    Report,
    key_of_reply,
    key_of_unit,
    unit_of_nobody,
)
from server.rollout.plan import Plan, Stage
from server.rollout.shadowing import ShadowFigures
from server.rollout.statistics.findings import Criterion as Line
from server.rollout.statistics.findings import State as Said
from server.rollout.tally import Tally
from server.rollout.types import Finding, Guardrail, Outcome, Rollout, State, Verdict
from tests.rollouts import RETURN, rollout

DAY = 86_400.0
NAMES = ("end to end", "scoring")
PLAN = Plan(salt="salt", shadow=None, stages=(Stage(share=0.5), Stage(share=1)), holdback=0.2)


def canary(stage: int = 0, plan: Plan = PLAN) -> Rollout:
    return rollout(State.CANARY, plan=plan, stage=stage)


def replies(users: int, share: float = 0.5, stage: int = 0, first: int = 0, **of: Any) -> Replies:
    """One reply a user, units from `first` on, the last ones the challenger's; `of` gives columns, or makes them."""
    unit = np.arange(first, first + users)
    challenger = unit - first >= round(users * (1 - share))
    rng = np.random.default_rng(first)
    columns: dict[str, Any] = {
        "reply": unit * 7 + stage,
        "unit": unit,
        "stage": np.full(users, stage),
        "challenger": challenger,
        "share": np.full(users, share),
        "failed": np.zeros(users, dtype=bool),
        "quality": 0.8 + 0.1 * rng.random(users),
        "seconds": {name: np.exp(0.1 * rng.standard_normal(users)) for name in NAMES},
    }
    return Replies(**(columns | {name: each(challenger) if callable(each) else each for name, each in of.items()}))


def liked(of: Replies, champion: float, challenger: float) -> list[Rating]:
    """Ratings of all replies: so many thumbs up in each arm, exactly."""
    found = []
    for arm, part in ((False, champion), (True, challenger)):
        keys = of.reply[of.challenger == arm].tolist()
        up = round(part * len(keys))
        found += [Rating(UUID(int=key), key, float(place < up)) for place, key in enumerate(keys)]
    return found


def broken(found: Compared) -> set[Guardrail]:
    return {each.guardrail for each in found.findings}


def test_users_count_in_their_stage_and_arm_and_each_once() -> None:
    """Who came as the champion's in the first stage is no new throw when the second one treats them."""
    first, second = replies(400), replies(400, 0.8, stage=1, first=100)
    both = Replies.join([first, second])
    found = compare(canary(1), Observed(both, liked(both, 0.5, 0.5)), DAY)
    strata = found.figures["strata"]
    assert [(each["champion"], each["challenger"], each["share"]) for each in strata] == [
        (200, 200, 0.5),
        (0, 100, 0.8),
    ]
    assert found.figures["ratings"] == 800
    assert found.samples == 80  # the holdback's of the present stage


def test_replies_of_a_pause_and_of_no_stage_are_left_out() -> None:
    paused = replace(replies(300, first=1000), share=np.zeros(300))
    strange = replies(10, first=5000, stage=9)
    known = replies(100)
    tally = Tally.of(PLAN, Observed(Replies.join([known, paused, strange]), liked(paused, 1, 1)))
    assert len(tally.replies) == 100
    assert len(tally.ratings.user) == 0


def test_a_challenger_that_is_better_and_no_slower_passes_and_says_so() -> None:
    known = replies(8000)
    found = compare(canary(), Observed(known, liked(known, 0.7, 0.8)), DAY)
    assert (found.satisfaction, found.quality) == (Verdict.SUPERIOR, Verdict.NON_INFERIOR)
    assert (found.findings, found.mismatch, found.samples) == ((), "", 4000)
    assert {each.outcome for each in found.criteria} == {Outcome.MET}
    assert {each["state"] for each in found.figures["measures"]} <= {"met", "undecided"}
    assert found.figures["days_left"] == 0.0


def test_nothing_is_said_of_nobody() -> None:
    found = compare(canary(), Observed(Replies.of((), NAMES)), DAY)
    assert (found.satisfaction, found.quality, found.samples) == (Verdict.UNDECIDED, Verdict.UNDECIDED, 0)
    assert (found.findings, found.mismatch, found.figures["days_left"]) == ((), "", None)
    assert {each.outcome for each in found.criteria} == {Outcome.UNDECIDED}


@pytest.mark.parametrize(
    ("of", "guardrail"),
    [
        ({"quality": lambda own: np.where(own, 0.6, 0.8)}, Guardrail.QUALITY),
        ({"failed": lambda own: own & (np.arange(len(own)) % 10 == 0)}, Guardrail.FAILURES),
    ],
)
def test_each_defect_breaks_its_guardrail(of: dict[str, Any], guardrail: Guardrail) -> None:
    known = replies(4000, **of)
    assert broken(compare(canary(), Observed(known, liked(known, 0.7, 0.7)), DAY)) == {guardrail}


def test_a_slow_stage_breaks_the_guardrail_though_it_is_little_of_the_whole() -> None:
    known = replies(4000)
    scoring = known.seconds["scoring"] * np.where(known.challenger, 1.25, 1.0)
    slow = replace(known, seconds={**known.seconds, "scoring": scoring})
    found = compare(canary(), Observed(slow, liked(slow, 0.7, 0.7)), DAY)
    assert broken(found) == {Guardrail.LATENCY}
    assert all("scoring" in each.sentence for each in found.findings)


def test_what_is_rated_worse_is_inferior_and_breaks_the_guardrail() -> None:
    known = replies(4000)
    found = compare(canary(), Observed(known, liked(known, 0.8, 0.6)), DAY)
    assert (found.satisfaction, broken(found)) == (Verdict.INFERIOR, {Guardrail.SATISFACTION})


def test_that_it_is_worse_is_said_with_the_guardrails_share_of_alpha_alone() -> None:
    """Of 0.80 and 0.77 the interval of 95 % says worse, that of the guardrails does not yet."""
    known = replies(8000)
    found = compare(canary(), Observed(known, liked(known, 0.80, 0.77)), DAY)
    lines = [each for each in found.figures["measures"] if each["name"] == "satisfaction"]
    assert [line["upper"] < 0 for line in lines] == [True, False]
    assert (found.satisfaction, found.findings) == (Verdict.UNDECIDED, ())


def test_calls_without_a_reply_are_failures_of_their_user() -> None:
    """A user with ten calls of which one failed has failed in a tenth of them, as one user."""
    known = Replies.join([replies(2000)] * 9)
    lost = [Failures(unit, 0, unit >= 1000, 1) for unit in range(2000)]
    tally = Tally.of(PLAN, Observed(known, failures=lost))
    assert tally.users().tolist() == [[1000, 1000], [0, 0]]
    found = tally.calls.outcomes()
    assert (found.total.sum(), found.count.sum()) == (2000, 20_000)
    line = next(
        each
        for each in compare(canary(), Observed(known, failures=lost), DAY).figures["measures"]
        if each["subject"] == "Failed calls"
    )
    assert line["value"] == pytest.approx(0.1)


def test_who_came_and_got_no_reply_by_nobodys_fault_is_a_user_and_no_failure() -> None:
    """A tenth of all users ask what only the challenger can read: they are missing in neither arm."""
    known = replies(20_000)
    unread = ~known.challenger & (known.unit % 10 == 0)
    lost = [Failures(unit, 0, challenger=False, calls=0) for unit in known.unit[unread].tolist()]
    read = known.where(~unread)
    assert compare(canary(), Observed(read), DAY).mismatch
    found = compare(canary(), Observed(read, failures=lost), DAY)
    assert (found.mismatch, found.findings) == ("", ())
    tally = Tally.of(PLAN, Observed(read, failures=lost))
    assert tally.users().tolist() == [[10_000, 10_000], [0, 0]]
    assert (tally.evidence().failed.sum(), tally.calls.outcomes().total.sum()) == (0, 0)
    back = [replace(each, challenger=True) for each in lost]
    assert compare(canary(plan=RETURN), Observed(Replies.of((), NAMES), failures=back), DAY).findings == ()


def test_calls_of_nobody_are_judged_as_well_but_for_ratings() -> None:
    """Where callers send neither user nor session, nothing else would tell that a challenger fails."""
    known = replies(4000, failed=lambda own: own & (np.arange(len(own)) % 10 == 0))
    nobodys = replace(known, unit=~known.unit)
    found = compare(canary(), Observed(nobodys, liked(nobodys, 0.8, 0.5)), DAY)
    assert broken(found) == {Guardrail.FAILURES}
    assert (found.samples, found.figures["ratings"], found.figures["replies_of_nobody"]) == (0, 0, 4000)
    lost = [Failures(~unit, 0, challenger=True, calls=1) for unit in range(4000, 4100)]
    assert broken(compare(canary(plan=RETURN), Observed(nobodys, failures=lost), DAY)) == {Guardrail.FAILURES}


def test_missing_users_of_an_arm_are_a_mismatch_and_no_finding() -> None:
    known = replies(4000)
    kept = known.where(~known.challenger | (known.unit % 3 == 0))
    found = compare(canary(), Observed(kept), DAY)
    assert "Shares of users" in found.mismatch
    assert found.findings == ()


def test_a_report_counts_once_for_its_user_until_it_is_dismissed() -> None:
    known = replies(1000)
    ids = [UUID(int=number) for number in range(5)]
    reports = [Report(ids[0], None, 900, 0), Report(ids[1], True, 900, 0), Report(ids[2], None)]
    for more, users in (([], 2), ([Report(ids[3], False, 950, 0)], 2), ([Report(ids[4], None, 950, 1)], 3)):
        tallied = Tally.of(PLAN, Observed(known, reports=[*reports, *more])).evidence()
        assert tallied.reported.sum(axis=0).tolist() == [0, users]
    found = compare(canary(), Observed(known, reports=reports), DAY)
    safety = [each["state"] for each in found.figures["measures"] if each["name"] == "safety"]
    assert (safety, found.findings) == (["missed", "missed"], ())  # people are asked, see `types.Safety`


def test_a_report_by_a_user_of_whom_nothing_else_is_known_counts() -> None:
    found = compare(canary(), Observed(Replies.of((), NAMES), reports=[Report(UUID(int=1), None)]), DAY)
    assert Outcome.MISSED in {each.outcome for each in found.criteria}


def test_a_return_is_compared_with_nobody_and_judged_by_its_failures() -> None:
    known = replies(1000, 1.0)
    fine = compare(canary(plan=RETURN), Observed(known), DAY)
    assert (fine.findings, fine.criteria) == ((), ())
    lost = [Failures(unit, 0, challenger=True, calls=2) for unit in range(100)]
    found = compare(canary(plan=RETURN), Observed(known, failures=lost), DAY)
    assert broken(found) == {Guardrail.FAILURES}
    assert compare(canary(plan=RETURN), Observed(Replies.of((), NAMES)), DAY).findings == ()


def test_days_left_are_those_of_the_slowest_of_time_samples_and_ratings() -> None:
    known = replies(4000)
    ratings = liked(known, 0.7, 0.8)
    waits = PLAN.model_copy(update={"stages": (Stage(share=0.5, minimum_seconds=3 * DAY), PLAN.stages[1])})
    assert compare(canary(plan=waits), Observed(known, ratings), DAY).figures["days_left"] == pytest.approx(2.0)
    many = PLAN.model_copy(update={"stages": (Stage(share=0.5, minimum_samples=20_000), PLAN.stages[1])})
    assert compare(canary(plan=many), Observed(known, ratings), DAY).figures["days_left"] == pytest.approx(9.0)
    alike = compare(canary(), Observed(known, liked(known, 0.7, 0.7)), DAY).figures["days_left"]
    assert 10 < alike < 100
    assert compare(canary(1), Observed(known, ratings), DAY).figures["days_left"] is None  # nobody in that stage yet


LAST = PLAN.model_copy(update={"stages": (Stage(share=0.5),)})


def slower(known: Replies, by: float, spread: float) -> Replies:
    """With times that are long and differ much, the challenger's longer by a part."""
    rng = np.random.default_rng(5)
    times = np.exp(spread * rng.standard_normal(len(known))) * np.where(known.challenger, 1 + by, 1.0)
    return replace(known, seconds=dict.fromkeys(NAMES, times))


@pytest.mark.parametrize(
    ("of", "thumbs", "open_one", "comes"),
    [
        ({}, (0.7, 0.8), None, True),
        ({}, (0.7, 0.72), "satisfaction", False),  # it is not 5 % more, and won't be
        ({"quality": lambda own: (np.arange(len(own)) % 10 > 0).astype(float)}, (0.7, 0.8), "quality", True),
        ({"quality": lambda own: np.where(own, 0.6, 0.8)}, (0.7, 0.8), "quality", False),
    ],
    ids=["all met", "too small a gain", "quality open", "quality worse"],
)
def test_no_days_are_left_only_once_all_criteria_are_met(
    of: dict[str, Any], thumbs: tuple[float, float], open_one: str | None, comes: bool
) -> None:
    known = replies(8000, **of)
    found = compare(canary(plan=LAST), Observed(known, liked(known, *thumbs)), 3 * DAY)
    assert {each.name for each in found.criteria if each.outcome is not Outcome.MET} == ({open_one} - {None})
    left = found.figures["days_left"]
    assert (left == 0.0) is (open_one is None)
    assert (left is None) is not comes


@pytest.mark.parametrize(("by", "spread", "comes"), [(0.03, 0.45, True), (0.12, 0.6, False)])
def test_latency_that_is_open_takes_days(by: float, spread: float, comes: bool) -> None:
    known = slower(replies(4000), by, spread)
    found = compare(canary(plan=LAST), Observed(known, liked(known, 0.7, 0.85)), DAY)
    assert {each.name for each in found.criteria if each.outcome is not Outcome.MET} == {"latency"}
    left = found.figures["days_left"]
    assert (0 < left < 1000) if comes else left is None


def test_a_return_that_fails_whole_users_goes_back_long_before_means_say_so() -> None:
    for failing, found in ((1, set()), (4, {Guardrail.FAILURES}), (20, {Guardrail.FAILURES})):
        lost = [Failures(unit, 0, challenger=True, calls=3) for unit in range(failing)]
        known = replies(20, 1.0).where(np.arange(20) >= failing)
        assert broken(compare(canary(plan=RETURN), Observed(known, failures=lost), DAY)) == found


def test_what_a_shadow_breaks_is_found_by_its_name() -> None:
    line = Line("shadow", "Rank correlation in shadow", -0.5, -0.7, -0.3, Said.MISSED, "It ranks the other way round.")
    shadow = ShadowFigures(
        answers=300, failed=0, correlation=-0.5, changed=0.9, gain=None, slower=None, guardrails=(line,)
    )
    found = of_shadow(shadow, 7000)
    assert found.findings == (Finding(Guardrail.SHADOW, "It ranks the other way round."),)
    assert found.samples == 7000
    assert found.figures["shadow"]["correlation"] == -0.5


def test_of_very_many_replies_those_of_a_part_of_the_users_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST >= 100_000
    monkeypatch.setattr("server.rollout.evidence.MOST", 1000)
    followed = Followed()
    known = replies(3000)
    followed.take(News(Mark(10), known, failures=[Failures(unit, 0, False, 1) for unit in range(3000)]))
    found = followed.observed([])
    assert found.users == 0.25
    assert sorted(found.replies.unit.tolist()) == list(range(0, 3000, 4))
    assert len(found.failures) == 750
    followed.take(News(Mark(20), replies(100, first=3000)))
    assert sorted(followed.observed([]).replies.unit.tolist()) == list(range(0, 3100, 4))
    assert followed.mark == Mark(20)


def test_replies_that_may_have_been_told_before_count_once() -> None:
    followed = Followed()
    followed.take(News(Mark(10, ahead=90), replies(30)))
    followed.take(News(Mark(20, ahead=90), replies(30, first=20), again=True))
    assert sorted(followed.observed([]).replies.unit.tolist()) == list(range(50))


def test_ratings_of_what_else_was_answered_are_forgotten_but_for_those_whose_reply_may_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.rollout.evidence.CROWD", 10)
    known = replies(20)

    def said(number: int, reply: int, at: int) -> Rating:
        return Rating(UUID(int=number), reply, 1.0, at)

    followed = Followed()
    old = [said(number, -number, 0) for number in range(1000, 1100)]
    late = said(1, int(known.reply[3]), LATE + 5)
    ratings = [*old, late, said(2, int(known.reply[0]), 0)]
    followed.take(News(Mark(10), known.where(known.unit != 3), ratings))
    assert set(followed._ratings) == {UUID(int=1), UUID(int=2)}
    assert [each.reply for each in followed.observed([]).ratings] == [known.reply[0]]
    followed.take(News(Mark(20), known.where(known.unit == 3)))
    assert {each.reply for each in followed.observed([]).ratings} == {known.reply[0], known.reply[3]}


def test_replies_that_no_halving_parts_end_it_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.rollout.evidence.MOST", 10)
    known = replies(50)
    followed = Followed()
    followed.take(News(Mark(10), replace(known, unit=np.zeros(50, dtype=np.int64))))
    assert len(followed.observed([]).replies) == 50


def test_keys_fit_signed_64_bits_and_come_of_the_random_part() -> None:
    assert key_of_reply(UUID("0190c0de-0000-7000-bfff-ffffffffffff")) == 0x3FFFFFFFFFFFFFFF
    assert key_of_reply(UUID("0190c0de-0000-7000-8000-00000000002a")) == 42
    assert key_of_unit(b"\xff" * 32) == (1 << 63) - 1
    assert {unit_of_nobody(key) < 0 for key in (0, 42, -42, (1 << 63) - 1, -(1 << 63))} == {True}
