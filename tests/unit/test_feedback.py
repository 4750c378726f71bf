"""What a feedback says after a change, and what it teaches of its user: pure rules."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.backends.embedding import HashingEmbedder
from server.feedback.lessons import Lessons
from server.feedback.types import (
    Change,
    Effect,
    Feedback,
    Kept,
    Kind,
    Opinion,
    Part,
    Reaction,
    Standing,
    following,
    lesson_weight,
)
from server.learning import Learner
from tests.inmemory import InMemoryProfiles

STARS = st.none() | st.integers(1, 5)
OPINIONS = st.builds(
    Opinion,
    rating_overall=STARS,
    rating_dimensions=st.dictionaries(
        st.sampled_from(["accuracy", "helpfulness", "clarity", "safety"]), st.integers(1, 5)
    ),
    text_feedback=st.sampled_from(["", "Good.", "Tệ quá"]),
    reaction_type=st.none() | st.sampled_from(Reaction),
)
CHANGES = st.builds(Change, st.just(Kind.RATING), OPINIONS, st.frozensets(st.sampled_from(Part)))


@given(st.lists(CHANGES | st.just("withdraw"), max_size=12))
def test_any_history_adds_up_in_what_was_learned(history: Sequence[Change | str]) -> None:
    standing: Standing | None = None
    learned = 0.0
    for each in history:
        if isinstance(each, Change):
            after = following(standing, each)
        else:
            after = Standing(standing.opinion, withdrawn=True) if standing else None
        if after is None:
            continue
        before = lesson_weight(Kind.RATING, standing) if standing else 0.0
        learned += lesson_weight(Kind.RATING, after) - before
        standing = after
        assert standing.opinion != Opinion(), "an empty rating is never kept"
    assert learned == pytest.approx(lesson_weight(Kind.RATING, standing) if standing else 0.0)


@given(OPINIONS, CHANGES)
def test_saying_it_again_changes_nothing(before: Opinion, change: Change) -> None:
    current = Standing(before) if before != Opinion() else None
    after = following(current, change) or current
    assert after is None or following(after, change) is None


@given(OPINIONS, OPINIONS)
def test_what_is_not_said_stays(before: Opinion, says: Opinion) -> None:
    after = before.after(Change(Kind.RATING, says))
    assert after.rating_overall == (says.rating_overall or before.rating_overall)
    assert after.text_feedback == (says.text_feedback or before.text_feedback)
    assert after.rating_dimensions == {**before.rating_dimensions, **says.rating_dimensions}


@given(OPINIONS, OPINIONS)
def test_clearing_all_parts_leaves_what_is_said_with_it(before: Opinion, says: Opinion) -> None:
    assert before.after(Change(Kind.RATING, says, frozenset(Part))) == says


@pytest.mark.parametrize(
    ("says", "weight"),
    [
        (Opinion(rating_overall=5), 2.0),
        (Opinion(rating_overall=1), -2.0),
        (Opinion(rating_overall=3), 0.0),
        (Opinion(reaction_type=Reaction.THUMBS_UP), 1.0),
        (Opinion(reaction_type=Reaction.THUMBS_DOWN), -1.0),
        (Opinion(reaction_type=Reaction.NEUTRAL), 0.0),
        (Opinion(rating_overall=1, reaction_type=Reaction.THUMBS_UP), -2.0),
        (Opinion(rating_dimensions={"accuracy": 5, "clarity": 4}), 1.5),
        (Opinion(text_feedback="Hm."), 0.0),
    ],
)
def test_what_a_rating_moves_its_users_preference_by(says: Opinion, weight: float) -> None:
    assert lesson_weight(Kind.RATING, Standing(says)) == weight
    assert lesson_weight(Kind.RATING, Standing(says, withdrawn=True)) == 0.0
    assert lesson_weight(Kind.SAFETY_REPORT, Standing(says)) == 0.0


class Exchanges:
    async def exchange(self, tenant: str, response_id: UUID) -> tuple[str, str] | None:
        return ("How long is the warranty?", "Two years.") if response_id != UUID(int=0) else None


def kept(user: str, to_learn: float, response_id: UUID) -> Kept:
    now = datetime.now(UTC)
    says: tuple[Any, ...] = (None, {}, "", None, None, None, None)
    rest: tuple[Any, ...] = (now, now, 1, False, "p", "", None, None, None, False, 0.0)
    feedback = Feedback(uuid4(), response_id, user, "", Kind.RATING, *(*says, *rest))
    return Kept(feedback, Effect.GIVEN, to_learn)


async def taught(profiles: InMemoryProfiles, *lessons: Kept) -> None:
    embedder = HashingEmbedder()
    learner = Learner(profiles, embedder.model)
    learner.start()
    for each in lessons:
        Lessons(Exchanges(), embedder, learner).teach("default", each)
    await learner.stop()


def cosine(profiles: InMemoryProfiles, one: str, other: str) -> float:
    first, second = (profiles.profiles["default", name].preference for name in (one, other))
    assert first is not None
    assert second is not None
    return sum(a * b for a, b in zip(first, second, strict=True))


async def test_opposite_ratings_move_two_users_apart_and_a_withdrawal_undoes_it() -> None:
    profiles, reply = InMemoryProfiles(), uuid4()
    before = (await HashingEmbedder().embed(["Where do you ship?"], 1.0))[0]
    for user in ("ann", "bob", "eve"):
        await profiles.learn("default", user, before, 2.0, HashingEmbedder.model)
    await taught(profiles, kept("ann", 2.0, reply), kept("bob", -2.0, reply))
    assert cosine(profiles, "ann", "bob") < cosine(profiles, "ann", "eve") < 0.999
    await taught(profiles, kept("ann", -2.0, reply), kept("bob", 2.0, reply))
    assert cosine(profiles, "ann", "bob") == pytest.approx(1.0)
    assert cosine(profiles, "ann", "eve") == pytest.approx(1.0)


async def test_nothing_is_learned_of_anonymous_users_and_of_replies_that_are_gone() -> None:
    profiles = InMemoryProfiles()
    await taught(profiles, kept("", 2.0, uuid4()), kept("ann", 2.0, UUID(int=0)), kept("ann", 0.0, uuid4()))
    assert profiles.profiles == {}


async def test_lessons_that_are_too_many_are_dropped_and_hold_nobody_up() -> None:
    profiles = InMemoryProfiles()
    learner = Learner(profiles, HashingEmbedder.model)
    lessons = Lessons(Exchanges(), HashingEmbedder(), learner)
    async with asyncio.timeout(10):
        for _ in range(3000):  # nobody takes them: the learner has not been started
            lessons.teach("default", kept("ann", 1.0, uuid4()))
