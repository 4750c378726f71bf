"""How an alert comes and goes."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from server.alerts.machine import FIRING, QUIET, Patience, Phase, Standing, Verdict, advance, interrupted
from server.alerts.rules import RULES

PATIENCE = Patience(fire=60, clear=300)
BEYOND, BETWEEN, BACK = Verdict.BEYOND, Verdict.BETWEEN, Verdict.BACK


def run(looks: Sequence[tuple[float, Verdict | None]], standing: Standing = QUIET) -> list[str]:
    """The phases after each look, at these seconds."""
    found = []
    for now, verdict in looks:
        standing = advance(standing, verdict, now, PATIENCE)
        found.append(standing.phase.value)
    return found


def test_it_fires_once_the_cause_was_there_long_enough_and_clears_likewise() -> None:
    looks = [(0, BEYOND), (30, BEYOND), (60, BEYOND), (90, BACK), (300, BACK), (390, BACK)]
    assert run(looks) == ["pending", "pending", "firing", "clearing", "clearing", "quiet"]


def test_a_cause_that_goes_before_its_time_fires_nothing() -> None:
    assert run([(0, BEYOND), (59, BETWEEN), (60, BEYOND), (119, BEYOND)]) == ["pending", "quiet", "pending", "pending"]


def test_what_flaps_around_the_level_while_it_fires_is_one_alert() -> None:
    looks = [(10.0 * i, (BEYOND, BETWEEN, BACK)[i % 3]) for i in range(100)]
    assert set(run(looks, FIRING)) == {"firing", "clearing"}


def test_no_data_keeps_the_state_and_its_time_does_not_count() -> None:
    assert run([(0, BEYOND), (30, None), (1000, BEYOND), (1059, BEYOND), (1060, BEYOND)])[1:] == [
        "pending",
        "pending",
        "pending",
        "firing",
    ]
    assert run([(0, None), (9999, None)], FIRING) == ["firing", "firing"]
    assert run([(0, BACK), (10, None), (900, BACK)], FIRING) == ["clearing"] * 3


def test_what_fires_and_had_no_verdict_for_very_long_ends() -> None:
    """It is the time between looks in vain that counts: one verdict, whatever it says, and it begins anew."""
    hour = 3600.0
    looks = [(hour * i, None) for i in range(7)]
    assert run(looks, FIRING) == ["firing"] * 6 + ["quiet"]
    assert run([(0, BACK), *[(1 + now, None) for now, _ in looks]], FIRING) == ["clearing"] * 7 + ["quiet"]
    for verdict in (BEYOND, BETWEEN, BACK):
        later = [(now + 6 * hour, None) for now, _ in looks]
        assert run([*looks[:6], (5.5 * hour, verdict), *later], FIRING)[-2:] != ["quiet"] * 2
        assert run([*looks[:6], (5.5 * hour, verdict), *later], FIRING)[-1] == "quiet"
    assert set(run([(hour * i, None) for i in range(100)], Standing(Phase.PENDING, 30, 0))) == {"pending"}


def test_a_time_in_which_nobody_looked_counts_neither_as_silence_nor_as_a_cause() -> None:
    silent = advance(advance(FIRING, None, 0, PATIENCE), None, 3600, PATIENCE)
    after = advance(interrupted(silent), None, 1e9, PATIENCE)
    assert (after.phase, after.silent) == (Phase.FIRING, 3600)
    clearing = advance(FIRING, BACK, 0, PATIENCE)
    assert advance(interrupted(clearing), BACK, 1e9, PATIENCE).phase is Phase.CLEARING


def test_no_rule_ends_for_want_of_data_before_its_window_is_over() -> None:
    for rule in RULES:
        assert rule.patience.silence >= max(6 * 3600, rule.window_seconds)


def test_without_a_time_to_wait_it_fires_and_clears_at_once() -> None:
    now = Patience(0, 0)
    assert advance(QUIET, BEYOND, 0, now) == FIRING
    assert advance(FIRING, BACK, 0, now) == QUIET


LOOKS = st.lists(st.tuples(st.floats(-1e6, 1e6), st.sampled_from([BEYOND, BETWEEN, BACK, None])), max_size=60)


@given(LOOKS, st.floats(0, 1e6), st.booleans())
def test_for_want_of_data_it_ends_never_earlier_and_never_later(
    looks: list[tuple[float, Verdict | None]], longest: float, clearing: bool
) -> None:
    """Exactly at the look that completes the time; a clock that goes back adds nothing, a verdict begins anew."""
    patience = Patience(0, 1e9, longest)
    standing = Standing(Phase.CLEARING, 1, 0) if clearing else FIRING
    silent, last = 0.0, None
    for now, verdict in looks:
        silent += max(0.0, now - last) if verdict is None and last is not None else 0.0
        silent, last = (silent, now) if verdict is None else (0.0, None)
        standing = advance(standing, verdict, now, patience)
        assert standing.fires == (verdict is not None or silent < longest)
        if not standing.fires:
            return


@given(LOOKS, st.floats(0, 1000), st.floats(0, 1000))
def test_whatever_is_seen_and_whatever_the_clock_says_it_fires_once_an_episode(
    looks: list[tuple[float, Verdict | None]], fire: float, clear: float
) -> None:
    """Between two firings lies a clearing; each comes only with its verdict, and only after that held long enough."""
    standing, events, patience = QUIET, [], Patience(fire, clear, float("inf"))
    since: tuple[Verdict, float, float] | None = None  # the verdict that holds, the last look, seconds it held
    for now, verdict in looks:
        before, standing = standing, advance(standing, verdict, now, patience)
        if verdict is None:
            assert standing.phase is before.phase
            since = since and (since[0], float("inf"), since[2])  # what follows begins a new count
            continue
        same = since is not None and since[0] is verdict
        held = since[2] + max(0.0, now - since[1]) if same and since else 0.0
        since = (verdict, now, held)
        if standing.fires != before.fires:
            events.append(standing.fires)
            assert verdict is (BEYOND if standing.fires else BACK)
            assert held >= (fire if standing.fires else clear) * (1 - 1e-9)
    assert events == [number % 2 == 0 for number in range(len(events))]
    assert standing.phase in Phase
