"""The part to train on and the part to judge by: no query is in both, and some users are only in the latter. Pure.

Questions are parted as they came, before anything is learned from what was said of them: see quality.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trainer.data.comparisons import NEAR, drawn
from trainer.data.merging import merged
from trainer.data.records import Exclusion, Question
from trainer.data.topics import Topic, judgements, topics, without
from trainer.errors import TooLittleData
from trainer.reward.config import DataConfig

STARS = 4
"""Ratings are stratified by the nearest whole star."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Both parts' questions, each once. `held_out` are the users of whom nothing is in `train`."""

    train: tuple[Question, ...]
    validation: tuple[Question, ...]
    exclusions: tuple[Exclusion, ...]
    held_out: frozenset[str]


def split(questions: Iterable[Question], config: DataConfig, seed: int) -> Split:
    """Parts questions by topic, the newest for validation, or stratified by rating where there are no times.

    A user is held out with all topics that they took part in, as far as these fit; the rest of what they said is left
    out. A topic that is larger than the validation part is trained on. Raises TooLittleData when all is one topic.
    """
    known = tuple(merged(questions).values())
    found = topics(known, config)
    if len(found) < 2:
        there = "Only one query has" if found else "No query has"
        raise TooLittleData(f"{there} responses that were judged: it takes 2 or more to hold some out.")
    names = {each.name for each in found}
    judged = [each for each in known if each.topic in names]
    held_out = _held_out(*judgements(judged), config, seed)
    chosen = _validation(found, held_out, config, seed)
    train, lost = _without([each for each in judged if each.topic not in chosen], frozenset(held_out))
    if not topics(train, config):  # all that is left was theirs: so few topics hold nobody out
        return split(known, config.model_copy(update={"user_share": 0.0}), seed)
    detail = "judgements of users who are only in validation"
    return Split(
        train=tuple(train),
        validation=tuple(each for each in judged if each.topic in chosen),
        exclusions=(Exclusion(reason="held_out", count=lost, detail=detail),) if lost else (),
        held_out=frozenset(held_out),
    )


def _held_out(counts: Mapping[str, float], total: int, config: DataConfig, seed: int) -> list[str]:
    """Users as drawn on whom few enough judgements hang. If there is none: the least one, if validation has room."""
    if not config.user_share or len(counts) < 2:
        return []
    room = config.user_share * config.validation_share * total
    found = []
    for user in sorted(counts, key=lambda user: drawn(seed, user)):
        if counts[user] <= room:
            found.append(user)
            room -= counts[user]
    least = min(counts, key=lambda user: (counts[user], drawn(seed, user)))
    return found or [least] * (counts[least] <= config.validation_share * total)


def _validation(found: Sequence[Topic], held_out: Sequence[str], config: DataConfig, seed: int) -> set[str]:
    """The names of the topics to judge by: at least one, and never all."""
    total = sum(each.size for each in found)
    chosen = _of_users(found, held_out, config.user_share * config.validation_share * total)
    timed = [each for each in found if config.temporal and each.time is not None]
    untimed = [each for each in found if not config.temporal or each.time is None]
    chosen |= _newest(timed, chosen, config.validation_share, seed)
    chosen |= _stratified(untimed, chosen, config.validation_share, seed)
    if not chosen:
        chosen = {min(found, key=lambda each: (each.size, *_newness(each, seed))).name}
    return chosen


def _of_users(found: Sequence[Topic], users: Iterable[str], room: float) -> set[str]:
    """The topics of each user, where there is room for all of them."""
    own: dict[str, list[Topic]] = {}
    for topic in found:
        for user in topic.users:
            own.setdefault(user, []).append(topic)
    chosen: set[str] = set()
    for user in users:
        new = [each for each in own.get(user, ()) if each.name not in chosen]
        size = sum(each.size for each in new)
        if size <= room:
            chosen |= {each.name for each in new}
            room -= size
    return chosen


def _newest(found: Sequence[Topic], chosen: set[str], share: float, seed: int) -> set[str]:
    """The newest ones that are not chosen yet, up to the share."""
    left, room = _left(found, chosen, share)
    more = set()
    for each in sorted(left, key=lambda each: _newness(each, seed)):
        if each.size <= room:
            more.add(each.name)
            room -= each.size
    return more


def _newness(topic: Topic, seed: int) -> tuple[float, int]:
    """Sorts the newest first."""
    return -topic.time.timestamp() if topic.time else 0.0, drawn(seed, topic.name)


def _stratified(found: Sequence[Topic], chosen: set[str], share: float, seed: int) -> set[str]:
    """One in so many of those not chosen yet, along their ratings: each rating gives about the same share."""
    left, room = _left(found, chosen, share)
    rate = room / max(1, sum(each.size for each in left))
    owed, more = 0.0, set()
    for each in sorted(left, key=lambda each: (_stratum(each), drawn(seed, each.name))):
        owed += rate * each.size
        if owed >= each.size - NEAR:
            more.add(each.name)
            owed -= each.size
    return more


def _stratum(topic: Topic) -> int:
    return -1 if topic.rating is None else round(topic.rating * STARS)


def _left(found: Sequence[Topic], chosen: set[str], share: float) -> tuple[list[Topic], float]:
    """Topics that may still be chosen, and how many judged responses of them: the share of what is not too large."""
    most = share * sum(each.size for each in found) + NEAR
    rest = [each for each in found if each.size <= most]
    taken = sum(each.size for each in found if each.name in chosen)
    room = share * sum(each.size for each in rest) - taken + NEAR
    return [each for each in rest if each.name not in chosen], max(0.0, room)


def _without(questions: Sequence[Question], users: frozenset[str]) -> tuple[list[Question], int]:
    parts = [without(each, users) for each in questions]
    return [each for each, _ in parts if each is not None], sum(lost for _, lost in parts)
