"""How records lie in a file of the spool: each behind a mark, its length and checksums. Pure: bytes in, bytes out.

A record is MARK, then three 32-bit numbers, little-endian (the payload's length, its CRC-32, the CRC-32 of all before),
then the payload. MARK's bytes occur in no UTF-8 text, so that reading finds its way again behind damaged bytes.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MARK = b"\xf5\xfaRS"
_HEADER = struct.Struct("<4sIII")
_CHECKED = _HEADER.size - 4


@dataclass(frozen=True, slots=True)
class Piece:
    """A whole payload, or the bytes of one or more records that were damaged."""

    data: bytes
    whole: bool


def frame(payload: bytes) -> bytes:
    """The payload as a record."""
    start = struct.pack("<4sII", MARK, len(payload), zlib.crc32(payload))
    return start + struct.pack("<I", zlib.crc32(start)) + payload


def pieces(data: bytes) -> Iterator[Piece]:
    """What a file holds, in its order. A torn end is left out: no write of it ever returned."""
    at = 0
    while at < len(data):
        payload = _payload(data, at)
        if payload is not None:
            yield Piece(payload, whole=True)
            at += _HEADER.size + len(payload)
            continue
        begin, at = at, _next_whole(data, at + 1)
        if at < len(data) or not _torn(data[begin:]):
            yield Piece(data[begin:at], whole=False)


def _payload(data: bytes, at: int) -> bytes | None:
    """The payload of the record that begins at `at`; None when there is no whole one."""
    length = _announced(data, at)
    if length is None:
        return None
    payload = data[at + _HEADER.size : at + _HEADER.size + length]
    _, _, checksum, _ = _HEADER.unpack_from(data, at)
    return payload if len(payload) == length and zlib.crc32(payload) == checksum else None


def _announced(data: bytes, at: int) -> int | None:
    """The length that the header at `at` states; None when there is no sound header."""
    if len(data) - at < _HEADER.size:
        return None
    mark, length, _, checksum = _HEADER.unpack_from(data, at)
    return int(length) if mark == MARK and zlib.crc32(data[at : at + _CHECKED]) == checksum else None


def _next_whole(data: bytes, at: int) -> int:
    """Where the next whole record begins; the end of the data when there is none."""
    while (at := data.find(MARK, at)) >= 0:
        if _payload(data, at) is not None:
            return at
        at += 1
    return len(data)


def _torn(rest: bytes) -> bool:
    """Whether the bytes at a file's end are what an interrupted write leaves: a beginning of a record, or zeros."""
    if not rest.strip(b"\0") or MARK.startswith(rest):
        return True
    if len(rest) < _HEADER.size:
        return rest.startswith(MARK)
    length = _announced(rest, 0)
    return length is not None and len(rest) < _HEADER.size + length
