"""Opening hours in a text: an answer that opens the shop when it closes, or closes it when it opens, has every figure
right and is wrong."""

import re
from collections.abc import Iterator

_TIME = (
    r"([01]?\d|2[0-4])(?:[:h]([0-5]\d)?)?(?:\s?(?:giờ|o'clock))?(?:\s?([ap])\.?m\b|\s(sáng|chiều|tối)\b)?"
    r"(?![\d:]|[.,]\d)"
)
_UNTIL = re.compile(rf"(?<![\d:.,/]){_TIME}\s*(?:-|–|to|until|till|đến|tới)\s*{_TIME}")
_IS_TIME = re.compile(r"\d[:h]|giờ|o'clock|\d\s?[ap]\.?m\b")
_OPENS = re.compile(rf"\b(?:opens?|opening|mở cửa)\b(?: [^\W\d]+){{0,3}}? (?:at|from|lúc|từ) {_TIME}")
_CLOSES = re.compile(rf"\b(?:closes?|closing|đóng cửa)\b(?: [^\W\d]+){{0,3}}? (?:at|lúc) {_TIME}")


def swapped(answer: str, told: str) -> list[str]:
    """What an answer says of opening and closing that is the other end of every range of hours that was told. Both
    texts in lower case."""
    opens, closes = [*_OPENS.finditer(answer)], [*_CLOSES.finditer(answer)]
    if not opens and not closes:
        return []
    starts: set[int] = set()
    ends: set[int] = set()
    for match in _UNTIL.finditer(told):
        if _IS_TIME.search(match.group()):
            until = set(_minutes(*match.groups()[4:]))
            starts |= {minute for minute in _minutes(*match.groups()[:4]) if minute < max(until)}
            ends |= until
    return [
        *(match.group() for match in opens if _is_among(match, ends, starts)),
        *(match.group() for match in closes if _is_among(match, starts, ends)),
    ]


def _is_among(match: re.Match[str], others: set[int], right: set[int]) -> bool:
    said = set(_minutes(*match.groups()))
    return bool(said & others) and not said & right


def _minutes(hours: str, minutes: str | None, half: str | None, part: str | None) -> Iterator[int]:
    """Minutes since midnight that a time may mean: 9 alone is 9 or 21."""
    since = int(hours) * 60 + int(minutes or 0)
    evening = half == "p" or part in ("chiều", "tối")
    if not evening or int(hours) >= 12:
        yield since
    if int(hours) < 12 and (evening or (minutes is None and half is None and part is None)):
        yield since + 720
