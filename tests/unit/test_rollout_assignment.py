"""Who gets which arm of a rollout."""

from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import ConfigurationError
from server.rollout.assignment import BUCKETS, CHAMPION, Assigned, Lane, Split, Unit, assign, bucket_of

USERS = [f"user-{number}" for number in range(5_000)]


def assigned(split: Split, user: str, tenant: str = "default") -> Assigned:
    return assign(split, tenant_id=tenant, user_id=user, session_id="s", request_id="r")


def one(buckets: int, holdback: int = 500, salt: str = "salt") -> Split:
    return Split(salt, (Lane("new", buckets, BUCKETS - holdback),), holdback)


def buckets(salt: str, users: Sequence[str] = USERS) -> list[int]:
    return [bucket_of(salt, "default", Unit.USER, user) for user in users]


def chi_square(counts: Sequence[float], expected: float) -> float:
    return sum((count - expected) ** 2 / expected for count in counts)


@pytest.mark.parametrize(
    ("salt", "tenant", "unit", "name", "bucket"),
    [
        ("s", "default", Unit.USER, "an", 2361),
        ("s", "default", Unit.SESSION, "an", 9646),
        ("s", "default", Unit.REQUEST, "an", 6878),
        ("reward/1", "cửa-hàng", Unit.USER, "Nguyễn", 2818),
        ("", "", Unit.USER, "", 1832),
    ],
)
def test_buckets_are_the_same_in_every_process_and_version(
    salt: str, tenant: str, unit: Unit, name: str, bucket: int
) -> None:
    """The first was worked out with sha256sum; a change of these moves every user of every running rollout."""
    assert bucket_of(salt, tenant, unit, name) == bucket


@settings(max_examples=40)
@given(
    user=st.text(min_size=1),
    tenant=st.text(),
    salt=st.text(),
    shares=st.lists(st.integers(0, 9500), min_size=2).map(sorted),
)
def test_a_treated_user_stays_treated_while_the_share_grows(
    user: str, tenant: str, salt: str, shares: list[int]
) -> None:
    arms = [assigned(one(share, salt=salt), user, tenant).arm for share in shares]
    assert arms == sorted(arms, key=lambda arm: arm == "new")


@settings(max_examples=40)
@given(
    user=st.text(min_size=1),
    first=st.lists(st.integers(0, 4000), min_size=3, max_size=3).map(sorted),
    second=st.lists(st.integers(0, 5000), min_size=3, max_size=3).map(sorted),
)
def test_with_several_challengers_nobody_goes_from_one_to_another(
    user: str, first: list[int], second: list[int]
) -> None:
    splits = [
        Split("salt", (Lane("first", a, 4000), Lane("second", b, 5000)), 1000)
        for a, b in zip(first, second, strict=True)
    ]
    arms = [assigned(split, user).arm for split in splits]
    challengers = [arm for arm in arms if arm != CHAMPION]
    assert len(set(challengers)) <= 1
    assert arms == [CHAMPION] * (3 - len(challengers)) + challengers


def test_the_held_back_stay_with_the_champion_when_all_others_are_treated() -> None:
    of = [assigned(one(9500), user) for user in USERS[:2000]]
    assert {(each.arm, each.held_back) for each in of} == {("new", False), (CHAMPION, True)}
    before = [assigned(one(1000), user).held_back for user in USERS[:2000]]
    assert before == [each.held_back for each in of]
    assert 0.035 < sum(before) / 2000 < 0.065


def test_each_bucket_has_the_arm_whose_range_it_is_in() -> None:
    split = Split("salt", (Lane("first", 1000, 4000), Lane("second", 5000, 5500)), 500)
    edges = [0, 999, 1000, 3999, 4000, 8999, 9000, 9499, 9500, 9999]
    arms = [split.arm_of(bucket) for bucket in edges]
    champion = (CHAMPION, 4000)
    assert arms == [
        ("first", 1000),
        ("first", 1000),
        champion,
        champion,
        ("second", 5000),
        ("second", 5000),
        champion,
        champion,
        champion,
        champion,
    ]


@settings(max_examples=8)
@given(
    lanes=st.lists(st.tuples(st.integers(0, 100), st.integers(100, 3000)), max_size=3),
    holdback=st.integers(0, 1000),
)
def test_propensities_are_the_shares_of_buckets_and_sum_to_one(lanes: list[tuple[int, int]], holdback: int) -> None:
    split = Split("salt", tuple(Lane(f"arm-{i}", n, ceiling) for i, (n, ceiling) in enumerate(lanes)), holdback)
    arms = [split.arm_of(bucket) for bucket in range(BUCKETS)]
    counts = Counter(arm for arm, _ in arms)
    told = dict(arms)
    assert counts == told
    assert sum(told.values()) == BUCKETS


def test_a_reply_is_logged_with_the_share_and_the_probability_of_its_arm() -> None:
    split = one(1000)
    of = {(each.arm, each.share, each.propensity) for each in (assigned(split, user) for user in USERS[:200])}
    assert of == {("new", 0.1, 0.1), (CHAMPION, 0.1, 0.9)}


@pytest.mark.parametrize("salt", ["reward:0193", ""])
def test_buckets_are_uniform(salt: str) -> None:
    """Chi-square over 100 cells of 5,000 users: beyond 148.2 with a probability of 0.001 (99 degrees of freedom)."""
    counts = Counter(bucket // 100 for bucket in buckets(salt))
    assert chi_square([counts[cell] for cell in range(100)], len(USERS) / 100) < 148.2


@pytest.mark.parametrize("salts", [("reward:0193", "policy:0193"), ("a", "b")])
def test_two_rollouts_draw_independently(salts: tuple[str, str]) -> None:
    """Chi-square of the 10 by 10 table: beyond 148.2 with a probability of 0.001 (99: the margins are known)."""
    pairs = zip(*(buckets(salt) for salt in salts), strict=True)
    counts = Counter((left // 1000, right // 1000) for left, right in pairs)
    cells = [counts[left, right] for left in range(10) for right in range(10)]
    assert chi_square(cells, len(USERS) / 100) < 148.2


def test_with_the_same_salt_two_draws_are_one() -> None:
    """What the test of independence would find, were salts ignored."""
    counts = Counter((bucket // 1000, bucket // 1000) for bucket in buckets("a"))
    cells = [counts[left, right] for left in range(10) for right in range(10)]
    assert chi_square(cells, len(USERS) / 100) > 1000


def test_parts_run_together_are_other_units() -> None:
    names = [("a", "bc"), ("ab", "c"), ("abc", ""), ("", "abc")]
    assert len({bucket_of("salt", tenant, Unit.USER, name) for tenant, name in names}) == 4


def test_tenants_with_users_of_the_same_name_draw_by_themselves() -> None:
    same = sum(assigned(one(5000), user, "a").arm == assigned(one(5000), user, "b").arm for user in USERS[:2000])
    assert 900 < same < 1100


@pytest.mark.parametrize(
    ("user", "session", "unit", "sticky"),
    [("u", "s", Unit.USER, True), ("", "s", Unit.SESSION, True), ("", "", Unit.REQUEST, False)],
)
def test_without_a_user_the_session_is_assigned_and_without_both_the_request(
    user: str, session: str, unit: Unit, sticky: bool
) -> None:
    of = [
        assign(one(5000), tenant_id="t", user_id=user, session_id=session, request_id=f"r-{number}")
        for number in range(50)
    ]
    assert {(each.unit, each.sticky) for each in of} == {(unit, sticky)}
    assert (len({each.arm for each in of}) == 1) is sticky


@given(st.text(alphabet=st.characters(codec=None)))
def test_any_text_is_a_user(user: str) -> None:
    """Also half of a surrogate pair, which UTF-8 has no bytes for."""
    assert 0 <= bucket_of("salt", "tenant", Unit.USER, user) < BUCKETS


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Lane("new", 11, 10), "Arm new has 11 buckets; its lane holds 0 to 10."),
        (lambda: Lane("new", -1, 10), "Arm new has -1 buckets"),
        (lambda: Split("s", (Lane("a", 0, 6000), Lane("b", 0, 4000)), 1), "do not fit into 10000 buckets"),
        (lambda: Split("s", (), -1), "a holdback of -1 do not fit"),
        (lambda: Split("s", (Lane("a", 0, 10), Lane("a", 0, 10))), "Each arm has a name of its own"),
        (lambda: Split("s", (Lane(CHAMPION, 0, 10),)), "Each arm has a name of its own"),
    ],
)
def test_arms_that_overlap_are_refused(build: Callable[[], object], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        build()
