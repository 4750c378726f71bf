"""`ratchet score --release`: a file's responses scored without a server, each line written back with its scores."""

import gzip
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cli import output

Line = dict[str, Any]


@dataclass(slots=True)
class Count:
    """What was scored."""

    lines: int = 0
    responses: int = 0


def score(release: Path, data: Path, out: Path | None, threads: int, *, as_json: bool) -> None:
    """Writes each line of `data` with its scores to `out`, whole or not at all, or to standard output as they come.

    Raises CommandFailed.
    """
    with _failures():
        from trainer.reward.scoring import Scorer

        scorer, count, begin = Scorer.open(release, threads), Count(), time.monotonic()
        with _opened(data) as source, _target(out) as target:
            for line in scored(scorer, source, str(data), count):
                target.write(_written(line))
    if out is not None:
        _say(out, scorer.release.id, count, time.monotonic() - begin, as_json)


def scored(scorer: Any, source: IO[bytes], name: str, count: Count) -> Iterator[Line]:
    """The lines with scores, in order, from a stream; only as many as are computed together are held."""
    from trainer.data import files
    from trainer.data.lines import objects
    from trainer.errors import DataError

    held: deque[tuple[Line, files.Asked]] = deque()

    def asked() -> Iterator[tuple[str, str, tuple[str, ...]]]:
        for number, line in objects(source, name):
            try:
                what = files.asked(line)
            except DataError as error:
                raise DataError(f"{name}, line {number}: {error}") from None
            held.append((line, what))
            yield what.context, what.query, what.responses

    for scores in scorer.stream(asked()):
        line, what = held.popleft()
        count.lines += 1
        count.responses += len(scores)
        yield with_scores(line, scores, preference=what.preference)


def with_scores(line: Line, scores: list[float], *, preference: bool) -> Line:
    """The line with "score" beside each response's text, or "chosen_score" and "rejected_score"; all else stays."""
    rounded = [round(each, 6) for each in scores]
    if preference:
        return {**line, "chosen_score": rounded[0], "rejected_score": rounded[1]}
    pairs = zip(line["responses"], rounded, strict=True)
    return {**line, "responses": [{**response, "score": value} for response, value in pairs]}


def _written(line: Line) -> bytes:
    try:
        return (json.dumps(line, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:  # half a surrogate pair has no UTF-8; JSON can spell it
        return (json.dumps(line) + "\n").encode()


@contextmanager
def _failures() -> Iterator[None]:
    """What is wrong with the release, the data or the place, as one sentence."""
    from trainer.errors import TrainerError
    from triton_models.manifest import ReleaseError

    try:
        yield
    except (TrainerError, ReleaseError) as error:
        raise output.CommandFailed(str(error)) from error
    except ModuleNotFoundError as error:
        raise output.CommandFailed(
            f"Scoring without a server needs {error.name}, which is not installed: run ./run setup, "
            'or install ratchet with its extra "train".'
        ) from error


@contextmanager
def _opened(data: Path) -> Iterator[IO[bytes]]:
    """The file, whose reading moves a progress bar on a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from trainer.errors import DataError

    columns = TextColumn("scoring"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn()
    shown = Progress(*columns, console=output.stderr, transient=True, disable=not output.stderr.is_terminal)
    try:
        size = data.stat().st_size
        file = data.open("rb", buffering=0)
    except OSError as error:
        raise DataError(f"{data} can't be read: {error.strerror or error}.") from None
    with file, shown, shown.wrap_file(file, size, description="") as source:
        yield source


@contextmanager
def _target(out: Path | None) -> Iterator[IO[bytes]]:
    """Standard output, or a file that takes its place once it is whole; gzip where its name ends in .gz."""
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    from triton_models.manifest import fsync_directory

    place = out.resolve()
    if place.exists() and not place.is_file():
        raise output.CommandFailed(f"{out} is no file that could be replaced: choose another --out.")
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            with _packed(file) if place.suffix == ".gz" else nullcontext(file) as target:
                yield target
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place)
        fsync_directory(place.parent)
    except OSError as error:
        raise output.CommandFailed(f"{out} can't be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _packed(file: IO[bytes]) -> IO[bytes]:
    """The same lines are the same bytes: neither the time nor a name is in them."""
    packed: Any = gzip.GzipFile("", "wb", fileobj=file, mtime=0)
    target: IO[bytes] = packed
    return target


def _say(out: Path, release: str, count: Count, seconds: float, as_json: bool) -> None:
    if as_json:
        figures = {"lines": count.lines, "responses": count.responses, "seconds": round(seconds, 3)}
        output.as_json({"reward_release": release, **figures, "path": str(out.absolute())})
        return
    rate = count.responses / max(seconds, 1e-9)
    output.console.print(
        f"Scored {count.responses:,} responses of {count.lines:,} lines with {release} in {seconds:,.1f} s "
        f"({rate:,.1f} a second)."
    )
    output.console.print(output.visible(str(out)), soft_wrap=True)
