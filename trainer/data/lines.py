"""JSON lines, plain or gzip, as objects one at a time: however long the file is, one line of it is in memory."""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from typing import IO, Any, Final, NoReturn

from trainer.errors import DataError

MOST_BYTES: Final = 64 * 2**20
"""Of a line."""
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"


def objects(source: IO[bytes], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, its object). Empty lines are passed over, and so is a mark of byte order at the start.

    Raises DataError naming `name` and the line: not JSON (NaN and infinite numbers are not), no object, not UTF-8, too
    long, or a gzip file that is torn.
    """
    for number, raw in _numbered(source, name):
        if raw.strip():
            try:
                yield number, _object(raw)
            except DataError as error:
                raise DataError(f"{name}, line {number}: {error}") from None


def shown(value: object) -> str:
    """A value in an error: short, and on one line."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else text[:37] + "..."


def _numbered(source: IO[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    plain = io.BufferedReader(source)  # type: ignore[type-var]
    number = 0
    try:
        reader: IO[bytes] = gzip.GzipFile(fileobj=plain) if plain.peek(2)[:2] == _GZIP else plain  # type: ignore[assignment]
        while raw := reader.readline(MOST_BYTES + 1):
            number += 1
            if len(raw) > MOST_BYTES:
                raise DataError(f"{name}, line {number}: it is longer than {MOST_BYTES // 2**20} MiB.")
            yield number, raw.removeprefix(_BOM) if number == 1 else raw
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(f"{name} is torn after line {number}: it is no whole gzip file.") from None
    except OSError as error:
        raise DataError(f"{name} can't be read: {error.strerror or error}.") from None
    finally:
        plain.detach()


def _object(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw, parse_constant=_refuse, parse_float=_finite)
    except UnicodeDecodeError:
        raise DataError("it is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise DataError(f"it is not JSON: {error.msg} at character {error.pos + 1}.") from None
    except (RecursionError, ValueError):  # too deep, or a whole number of thousands of digits
        raise DataError("it holds JSON that is too deep or a number that is too long.") from None
    if not isinstance(found, dict):
        raise DataError('it is no object such as {"query": ..., "responses": [...]}.')
    return found


def _refuse(constant: str) -> NoReturn:
    raise DataError(f"it holds {constant}, which is no number in JSON.")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise DataError(f"it holds the number {shown(text)}, which is too large.")
    return number
