"""What a run's report says, as far as its page shows it by itself. Whatever is missing or new there is left out.

The report's JSON is described in docs/training-evaluation.md; the whole of it is the trainer's own page.
"""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Clause:
    """One demand of the gate. `passed` None: it could not be asked."""

    passed: bool | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Excluded:
    """Rows that were left out, and why, in a word."""

    reason: str
    count: int
    detail: str


@dataclass(frozen=True, slots=True)
class Findings:
    """`summary`: the verdict in a sentence."""

    summary: str = ""
    clauses: tuple[Clause, ...] = ()
    excluded: tuple[Excluded, ...] = ()


def read(text: str) -> Findings:
    """The findings of a report; nothing of what is none."""
    try:
        report = json.loads(text)
    except ValueError:
        return Findings()
    verdict = _group(report, "verdict")
    return Findings(
        summary=_text(verdict, "summary"),
        clauses=tuple(
            Clause(each.get("passed") if isinstance(each.get("passed"), bool) else None, _text(each, "sentence"))
            for each in _groups(verdict, "clauses")
        ),
        excluded=tuple(
            Excluded(_text(each, "reason"), each["count"], _text(each, "detail"))
            for each in _groups(_group(report, "data"), "exclusions")
            if isinstance(each.get("count"), int)
        ),
    )


def _group(found: Any, name: str) -> dict[str, Any]:
    given = found.get(name) if isinstance(found, dict) else None
    return given if isinstance(given, dict) else {}


def _groups(found: dict[str, Any], name: str) -> list[dict[str, Any]]:
    given = found.get(name)
    return [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []


def _text(found: dict[str, Any], name: str) -> str:
    given = found.get(name)
    return given if isinstance(given, str) else ""
