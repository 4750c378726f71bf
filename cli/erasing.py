"""Takes a user out of exports. Numbers stay, texts and ids go, as in the log."""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from cli.export_rows import Row
from cli.exports import found_in, rewrite
from cli.output import CommandFailed

PARTIAL = ".*.partial"
"""Directories of exports that are being written."""
_FAILED = "erased"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Rows that were changed, by directory; and what is still to be done, a sentence each."""

    rows: Mapping[Path, int]
    pending: tuple[str, ...]


def erase(folders: Iterable[Path], user: str, until: datetime) -> Rewritten:
    """Takes the user out of the exports in these folders and below them, as far as the replies' requests had come in by
    `until`. Each export changes as a whole; one that can't be read does not keep the others."""
    forget = forgetting(user, until)
    rows: dict[Path, int] = {}
    pending: list[str] = []
    for directory in dict.fromkeys(each for folder in folders for each in _exports(folder, pending)):
        try:
            rows[directory] = rewrite(directory, forget)
        except CommandFailed as error:
            pending.append(error.message)
        except OSError as error:
            pending.append(f"The export {directory} could not be rewritten: {error.strerror or error}.")
    return Rewritten(rows, tuple(pending))


def _exports(folder: Path, pending: list[str]) -> Iterator[Path]:
    if not folder.is_dir():
        return
    folder = folder.absolute()
    pending += [
        f"The export {path} is being written: repeat this command when it is done." for path in folder.rglob(PARTIAL)
    ]
    yield from found_in(folder)


def forgetting(user: str, until: datetime) -> Callable[[Row], Row | None]:
    """What makes of an export's row what stays of it. A pseudonym of this call stands for the user, in all exports."""
    pseudonym = f"erased-{secrets.token_hex(12)}"
    limit = (until - _EPOCH) // timedelta(milliseconds=1)

    def forget(row: Row) -> Row | None:
        if row["user_id"] != user or _came_in(row["response_id"]) > limit:
            return row
        return _blank_log(row, pseudonym) if "query" in row else _blank_feedback(row, pseudonym)

    return forget


def _came_in(response_id: str) -> int:
    """Milliseconds since the epoch at which the reply's request came in: the first 48 bits of a UUIDv7."""
    return UUID(response_id).int >> 80


def _blank_log(row: Row, pseudonym: str) -> Row:
    empty = dict.fromkeys(("session_id", "request_id", "query", "context", "summary", "response", "problem"), "")
    lists: Row = {"previous_messages": [], "user_profile": [], "refusal_reasons": []}
    return {
        **row,
        **empty,
        **lists,
        "user_id": pseudonym,
        "candidates": [_blank_candidate(each) for each in row["candidates"]],
        "tool_runs": [{**each, "detail": "", "evidence": []} for each in row["tool_runs"]],
        "citations": [{**each, **dict.fromkeys(("source", "title", "text", "uri"), "")} for each in row["citations"]],
        "degradations": [{**each, "detail": ""} for each in row["degradations"]],
        "erased": True,
        "feedback": [_blank_feedback(each, pseudonym) for each in row["feedback"]],
    }


def _blank_candidate(candidate: Row) -> Row:
    findings = [{**each, "detail": ""} for each in candidate["findings"]]
    return {**candidate, "text": "", "error": _FAILED if candidate["error"] else "", "findings": findings}


def _blank_feedback(row: Row, pseudonym: str) -> Row:
    return {**row, "user_id": pseudonym, "session_id": "", "text_feedback": ""}
