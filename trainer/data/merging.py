"""Questions that were read from several places, and are the same: as one. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from trainer.data.records import Question


def merged(questions: Iterable[Question]) -> dict[str, Question]:
    """By id, in order. Later responses stand behind earlier ones; the earliest groups are kept."""
    found: dict[str, Question] = {}
    for each in questions:
        found[each.id] = _joined(found[each.id], each) if each.id in found else each
    return found


def _joined(one: Question, other: Question) -> Question:
    first = len(one.responses)
    moved = (replace(each, chosen=each.chosen + first, rejected=each.rejected + first) for each in other.preferences)
    return replace(
        one,
        responses=(*one.responses, *other.responses),
        preferences=(*one.preferences, *moved),
        askers=tuple(sorted({*one.askers, *other.askers})),
        time=max((each.time for each in (one, other) if each.time is not None), default=None),
        groups={**other.groups, **one.groups},
    )
