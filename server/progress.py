"""What happens on the way of a turn, for those who watch: `StreamGenerate` sends it on, others ignore it."""

from collections.abc import Callable
from dataclasses import dataclass

from server.types import Candidate, ToolRun


@dataclass(frozen=True, slots=True)
class ToolsSelected:
    """The tools that are about to run; none when the query needs none."""

    tools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """One tool has run."""

    run: ToolRun


@dataclass(frozen=True, slots=True)
class CandidateDrawn:
    """A candidate has its text, or its error."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class CandidateScored:
    """A candidate has its score, or will have none."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Regenerating:
    """Every candidate failed the checks: others are drawn."""

    reasons: tuple[str, ...]


Progress = ToolsSelected | ToolFinished | CandidateDrawn | CandidateScored | Regenerating
Observer = Callable[[Progress], None]
"""Called on the event loop; must return at once."""


def ignore(progress: Progress) -> None:
    """Nobody watches."""
