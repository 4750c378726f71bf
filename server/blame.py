"""Whose doing it may be that a turn has no reply."""

from collections.abc import Sequence

from server.errors import DeadlineExceeded, Overloaded, PolicyUnavailable, QueryTooLong, RatchetError
from server.journey import Journey
from server.rollout.registry import Assignment
from server.rollout.types import Kind, Variation


def concerned(error: Exception, assignments: Sequence[Assignment]) -> list[Assignment]:
    """The experiments that a turn without a reply says something of. That the policy could not read the query is its
    arm's doing, and no failure: somebody came, who must not be missing in one arm alone."""
    if isinstance(error, QueryTooLong):
        return [each for each in assignments if each.kind is Kind.POLICY]
    if isinstance(error, PolicyUnavailable | Overloaded):
        return [each for each in assignments if each.kind is not Kind.REWARD]
    late_or_defect = isinstance(error, DeadlineExceeded) or not isinstance(error, RatchetError)
    return list(assignments) if late_or_defect else []


def of_haste(way: Journey, error: Exception) -> bool:
    """Whether the caller's haste is why."""
    return way.is_hasty and isinstance(error, PolicyUnavailable | Overloaded | DeadlineExceeded)


def away(way: Journey, assignments: Sequence[Assignment]) -> set[Kind | Variation]:
    """The kinds of the experiments that count a failure because the policy was away and was waited for: else a Triton
    that starts again would speak against challengers alone, which give way at once."""
    return {each.kind for each in assignments if each.kind is not Kind.REWARD} if way.waited else set()
