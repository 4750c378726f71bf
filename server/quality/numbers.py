"""The numbers that a text states: quantities with their unit, dates, times and codes, in English and Vietnamese, in one
form that makes "2 to 4 working days", "2-4 ngày" and "hai đến bốn ngày" the same; and amounts without a number, such
as "a week", "half off" and "lifetime".

A number may be read in more than one way (1.500 is 1500 or 1.5; a year has 12 months and 365 days): two of them agree
when any readings do. Nothing is calculated: a sum that nobody stated is a new number.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

Reading = tuple[str, float]
"""A dimension, such as "time", and a value in its base unit; of a code, the code itself and 0."""

_DATA: Final[dict[str, Any]] = tomllib.loads(Path(__file__).with_name("units.toml").read_text(encoding="utf-8"))
_UNITS: Final[dict[str, tuple[Reading, ...]]] = {
    word: tuple((str(unit["dimension"]), float(value)) for value in unit["values"])
    for unit in _DATA["unit"]
    for word in unit["words"].split()
}
_SCALES: Final[dict[str, float]] = {word: float(scale) for word, scale in _DATA["scales"].items()}
_MULTIPLIERS: Final = {word: scale for word, scale in _SCALES.items() if scale >= 1e3} | {"k": 1e3, "tr": 1e6}
_SMALL: Final[dict[str, float]] = {
    **{word: float(value) for value, word in enumerate(_DATA["small"].split())},
    **{word: 10.0 * value for value, word in enumerate(_DATA["tens"].split(), start=2)},
    **{word: float(value) for word, value in _DATA["vietnamese"].items()},
}
_ADJECTIVES: Final = frozenset(_DATA["adjectives"].split())
_MONTHS: Final = {name: i for i, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1)}  # noqa: SIM905
_MONTH: Final = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_YEAR: Final = r"(?P<year>(?:19|20)\d\d)(?!\d)"
_FIGURE: Final = (
    r"\d{1,3}(?: \d{3})* 000(?!\d)|\d{1,3}(?: \d{3})+(?= ?(?:dong|đ|vn|₫))"
    r"|\d{1,3}(?:[.,\u202f\u00a0]\d{3})+(?:[.,]\d{1,2})?|\d+(?:[.,]\d+)?"
)

_HARMLESS: Final = re.compile(
    r"^[ \t\-*•>#]{0,16}\(?\d{1,2}[.):](?=[ \t*])"
    r"|\b(?:step|bước|option|cách|part|phần|point|mục|thứ) \d{1,2}\b|\b\d(?:st|nd|rd|th)\b"
    r"|\b\d{1,2} (?:ways?|options?|steps?|things|reasons|methods|tips|cách|bước|lựa chọn|điều|lý do)\b"
    r"|\b[1-5](?:[- ]stars?| sao)\b|\b(?:one|a) (?:thousand|million) (?:thanks|apologies|times|things|ways)\b"
    r"|\b24/7\b|\b24 (?:hours|giờ) (?:a|per|một|mỗi) (?:day|ngày)"
    r"|\b(?:7|seven|bảy) (?:days|ngày) (?:a|per|in the|trong|một|mỗi) (?:week|tuần)",
    re.MULTILINE,
)
"""Numbers that count the answer's own parts, and those of every week."""
_LINK: Final = re.compile(r"(?:https?://|www\.)[^\s<>()\[\]]+|[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){1,8}")
_MARKER: Final = re.compile(r"(?<=[.!?…:;,] )\(?(\d{1,2})[.)](?=\s+\w)|^\(?(1)[.)](?=\s+\w)")
_DATES: Final = (
    (re.compile(r"(?<![\d/])(?P<year>\d{4})-(\d{1,2})-(\d{1,2})(?!\d)"), (3, 2)),
    (re.compile(rf"(?<![\d/])(\d{{1,2}})/(\d{{1,2}})(?:(?:/| năm ){_YEAR}|/(?P<short>\d\d))?(?![\d/])"), (1, 2)),
    (re.compile(rf"(?<!\d)(\d{{1,2}})[.-](\d{{1,2}})[.-]{_YEAR}"), (1, 2)),
    (re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? {_MONTH}(?:,? {_YEAR})?(?!\w)"), (1, 2)),
    (re.compile(rf"\b{_MONTH} (\d{{1,2}})(?:st|nd|rd|th)?\b(?:,? {_YEAR})?(?![.,:]?\d)"), (2, 1)),
    (re.compile(rf"(?<!\d)(\d{{1,2}}) tháng (\d{{1,2}})(?:,?(?: năm)? {_YEAR})?(?!\d)"), (1, 2)),
)
_PHONE: Final = re.compile(r"(?<![\w.,/-])\(?\+?\d{2,4}\)?([ .-])\d{2,4}(?:\1\d{2,4}){0,4}(?![\w/-]|[.,]\d)")
_CLOCK: Final = re.compile(r"(?<![\d:])([01]?\d|2[0-4])(?:[:h]([0-5]\d)|(?=h\b|\s?[ap]\.?m\b))h?\s?(?:([ap])\.?m\b)?")
_CODE: Final = re.compile(
    r"(?<![\w-])(?=[\w-]{0,30}[a-z])(?=[\w-]{0,30}\d\d)[a-z][\w]{0,30}(?:-\w{1,30}){0,4}(?![\w-])"
)
_QUANTITY: Final = re.compile(
    rf"(?<![\w.,])(?P<sign>[$€£]\s?)?(?P<low>{_FIGURE})"
    rf"(?:\s*(?:-|–|—|to|or|and|đến|tới|hoặc)\s*(?P<high>{_FIGURE})(?![\d]))?"
)
_AFTER: Final = re.compile(r"[\s-]{0,2}(%|°c?|[$€₫]|o'clock|phần trăm|[^\W\d_]+)")
_ARTICLE: Final = re.compile(r"\ba (?=(?:hundred|thousand|million|billion|dozen)\b)")
_WORDS: Final = re.compile(r"[^\W\d_]+")


_SINGLE: Final = re.compile(
    r"(?P<before>\b(?:within|in|for|takes?|lasts?|after|about|mất|trong|sau|hết|khoảng) )?"
    r"(?<![\w-])(?P<how>half an?|nửa|an?|one|một) (?P<unit>[^\W\d_]+)"
)
"""One of a unit, or half of it."""
_RATE: Final = re.compile(
    r"(?:\d|%|\b(?:days?|times?|hours?|points?|dong|once|twice|ngày|lần|giờ|điểm|đồng|tiếng))\s*\Z"
)
"""What stands before "a week" where it means each."""
_WEEK, _BIG = 10_080.0, 1_000.0
_HALF: Final = re.compile(r"(?:\s[^\W\d_]+)?\s?rưỡi\b")
_IDIOMS: Final = [
    (re.compile(idiom["pattern"]), (idiom["dimension"], float(idiom["value"]))) for idiom in _DATA["idiom"]
]


@dataclass(frozen=True, slots=True)
class Stated:
    """One number of a text: as it stands there, its figures, and what it says in each known unit that it may have."""

    text: str
    figures: frozenset[float]
    readings: frozenset[Reading] = frozenset()


@dataclass(frozen=True, slots=True)
class Ground:
    """Numbers that claims may rest on: their readings, the figures of those without a known unit, and all figures."""

    readings: frozenset[Reading]
    loose: frozenset[float]
    figures: frozenset[float]

    def holds(self, claim: Stated) -> bool:
        """Whether a claim is among them. A number without a known unit agrees with the same number of any unit."""
        if claim.readings:
            return bool(claim.readings & self.readings or claim.figures & self.loose)
        return bool(claim.figures & self.figures)


def stated(text: str) -> tuple[Stated, ...]:
    """The claims in numbers that a text in lower case makes: with digits all of them, in words those with a unit and
    those from a thousand on.

    Left out: what numbers the text's own parts, and "one", which is an article as often as a number, but for "one week"
    and what is longer.
    """
    rest, found = _taken(_HARMLESS.sub(_blank, _without_markers(text)))
    found += _quantities(rest)
    found += (each for each in _worded(rest) if each.figures != {1.0} and (each.readings or max(each.figures) >= _BIG))
    found += _singles(rest, claims=True)
    return tuple(found)


def ground(text: str) -> Ground:
    """Every number that a text in lower case mentions, whatever it stands for."""
    rest, found = _taken(text)
    every = [*found, *_quantities(rest), *_worded(rest), *_singles(rest, claims=False)]
    readings = frozenset(reading for each in every for reading in _told(each))
    dated = {int(value) for dimension, value in readings if dimension == "day"}
    hours = {value / 60 for each in found for dimension, value in each.readings if dimension == "time"}
    return Ground(
        readings,
        frozenset(figure for each in every if not each.readings for figure in each.figures),
        frozenset(figure for each in every for figure in each.figures)
        | {float(day // 10_000) for day in dated}
        | {hour for hour in hours if hour.is_integer()},
    )


def _told(each: Stated) -> Iterator[Reading]:
    """The readings of a number that claims rest on: a day with its year is the day without one too, but it is no
    ground for the day of another year."""
    dated = any(dimension == "day" for dimension, _ in each.readings)
    for dimension, value in each.readings:
        yield ("date" if dated and dimension == "undated" else dimension, value)


def _without_markers(text: str) -> str:
    """Without the numbers of a list that stands in one line: 1. 2. 3."""
    following = 1
    places = []
    for match in _MARKER.finditer(text):
        number = int(match[1] or match[2])
        if number in (1, following):
            places.append(match.span())
            following = number + 1
    for start, end in places:
        text = text[:start] + " " * (end - start) + text[end:]
    return text


def _blank(match: re.Match[str]) -> str:
    return " " * len(match.group())


def _taken(text: str) -> tuple[str, list[Stated]]:
    """Dates, times and codes, and the text without them."""
    found: list[Stated] = []

    def date(match: re.Match[str], groups: tuple[int, int]) -> str:
        day, month = (_MONTHS.get(match[group][:3]) or int(match[group]) for group in groups)
        if not (1 <= day <= 31 and 1 <= month <= 12):
            return match.group() if not (1 <= month <= 31 and 1 <= day <= 12) else _blank(match)
        ways = {day + month * 100} | ({month + day * 100} if day <= 12 and match[groups[1]].isdigit() else set())
        found.append(Stated(match.group(), frozenset(), frozenset(_dated(ways, match.groupdict()))))
        return _blank(match)

    def clock(match: re.Match[str]) -> str:
        if not match[2] and not match[3]:
            return match.group()
        hours = int(match[1]) % 12 + 12 if match[3] == "p" else int(match[1])
        found.append(Stated(match.group(), frozenset(), frozenset({("time", hours * 60.0 + int(match[2] or 0))})))
        return _blank(match)

    def code(match: re.Match[str]) -> str:
        found.append(Stated(match.group(), frozenset(), frozenset({(match.group().replace("-", ""), 0.0)})))
        return _blank(match)

    def phone(match: re.Match[str]) -> str:
        figures = _dialled(match)
        if figures:
            found.append(Stated(match.group(), figures))
        return _blank(match) if figures else match.group()

    text = _LINK.sub(_blank, text)
    for pattern, groups in _DATES:
        text = pattern.sub(lambda match, groups=groups: date(match, groups), text)  # type: ignore[misc]
    return _CODE.sub(code, _CLOCK.sub(clock, _PHONE.sub(phone, text))), found


def _dated(ways: Iterable[int], found: dict[str, str | None]) -> Iterator[Reading]:
    """A day with its year agrees with the same day of that year, or of none; without one, of any."""
    year = found.get("year") or (f"20{found['short']}" if found.get("short") else None)
    for way in ways:
        yield ("undated", float(way))
        yield ("date", float(way)) if year is None else ("day", float(way + int(year) * 10_000))


def _dialled(match: re.Match[str]) -> frozenset[float]:
    """The figures of what is written like a telephone number; nothing for thousands, which are grouped by threes."""
    groups = re.findall(r"\d+", match.group())
    digits = "".join(groups)
    grouped = all(len(group) == 3 for group in groups[1:]) and len(groups[0]) <= 3 and digits[0] != "0"
    if not 8 <= len(digits) <= 13 or max(map(len, groups)) < 3 or (grouped and "+" not in match.group()):
        return frozenset()
    return frozenset({float(digits), float(digits.removeprefix("84"))})


def _quantities(text: str) -> list[Stated]:
    """Numbers written in digits; a range is its two ends, with the unit that follows."""
    found: list[Stated] = []
    for match in _QUANTITY.finditer(text):
        factor, unit = _unit(text, match.end(), (match["sign"] or "").strip())
        ends = filter(None, (match["low"], match["high"]))
        half = 0.5 if _HALF.match(text, match.end()) else 0.0
        found += (_in_unit(figure, [(value + half) * factor for value in _values(figure)], unit) for figure in ends)
    return found


def _values(figure: str) -> set[float]:
    """What a figure with marks may mean: 1,500 is 1500 or 1.5, 1,000 is 1000, 1.234,5 is 1234.5."""
    plain = re.sub("[ \u202f\u00a0]", "", figure)
    marks = re.findall(r"[.,]", plain)
    if not marks:
        return {float(plain)}
    if len(set(marks)) == 2 or len(marks) == 1:
        whole, _, decimals = plain.replace(",", ".").rpartition(".")
        fraction = float(f"{whole.replace('.', '')}.{decimals}")
        if len(decimals) != 3 or len(marks) > 1:
            return {fraction}
        grouped = float(re.sub(r"[.,]", "", plain))
        return {grouped} if decimals == "000" else {fraction, grouped}
    return {float(re.sub(r"[.,]", "", plain))}


def _unit(text: str, start: int, sign: str) -> tuple[float, tuple[Reading, ...]]:
    """(multiplier, unit) of the number that ends at `start`; the unit is empty when it is not known."""
    factor, unit = 1.0, _UNITS.get(sign, ())
    for _ in range(3):
        match = _AFTER.match(text, start)
        if match is None:
            break
        word = match[1].replace("phần trăm", "%")
        if word in _MULTIPLIERS and factor == 1.0:
            factor = _MULTIPLIERS[word]
        elif word in _UNITS:
            return factor, _UNITS[word]
        elif word not in _ADJECTIVES:
            break
        start = match.end()
    return factor, unit


def _in_unit(text: str, figures: Iterable[float], unit: tuple[Reading, ...]) -> Stated:
    given = frozenset(figures)
    readings = ((dimension, round(figure * factor, 6)) for figure in given for dimension, factor in unit)
    return Stated(text, given, frozenset(readings))


def _worded(text: str) -> Iterator[Stated]:
    """Numbers written in words, such as "twenty-four" or "hai mươi bốn"."""
    text = _ARTICLE.sub("one ", text)
    if _SMALL.keys().isdisjoint(_WORDS.findall(text)):
        return
    run: list[re.Match[str]] = []
    for match in _WORDS.finditer(text):
        number = match.group() in _SMALL or (run and match.group() in _SCALES)
        near = not run or match.start() - run[-1].end() <= 1
        if run and not (number and near):
            yield from _spoken(text, run)
            run = []
        if match.group() in _SMALL or (run and number):
            run.append(match)
    if run:
        yield from _spoken(text, run)


def _spoken(text: str, run: list[re.Match[str]]) -> Iterator[Stated]:
    """The numbers of one run of number words. In Vietnamese "năm" is five and year: at the end it is the unit."""
    if len(run) > 1 and run[-1].group() == "năm" and run[-2].group() not in ("mươi", "mười", "trăm"):
        run = run[:-1]
    factor, unit = _unit(text, run[-1].end(), "")
    name = text[run[0].start() : run[-1].end()]
    *values, last = _spoken_values([match.group() for match in run])
    if _HALF.match(text, run[-1].end()):
        last += 0.5 * max(1.0, _SCALES.get(run[-1].group(), 1.0))
    for value in (*values, last):
        yield _in_unit(name, (value * factor,), unit)


def _singles(text: str, claims: bool) -> Iterator[Stated]:
    """Amounts without a number. As claims, only those from a week on, a day or an hour where it says how long, and no
    "once a week"."""
    for pattern, reading in _IDIOMS:
        yield from (Stated(match.group(), frozenset(), frozenset({reading})) for match in pattern.finditer(text))
    for match in _SINGLE.finditer(text):
        unit = [(dimension, value) for dimension, value in _UNITS.get(match["unit"], ()) if dimension == "time"]
        least = 60.0 if match["before"] else _WEEK
        if not unit or (claims and (unit[0][1] < least or _is_rate(text, match))):
            continue
        amount = 0.5 if match["how"] in ("nửa", "half a", "half an") else 1.0
        name = text[match.start("how") : match.end()]
        yield Stated(name, frozenset(), frozenset((dimension, amount * value) for dimension, value in unit))


def _is_rate(text: str, match: re.Match[str]) -> bool:
    before = text[max(0, match.start() - 12) : match.start()]
    return bool(_RATE.search(before)) or text.startswith((" lần", " hai lần", " một lần"), match.end())


def _spoken_values(run: list[str]) -> Iterator[float]:
    total = current = last = 0.0
    for word in run:
        if word in _SCALES:
            scale = _SCALES[word]
            if scale == 10:
                current += last * 9
            elif scale < _BIG:
                current *= scale
            else:
                total, current = total + current * scale, 0.0
            last = 0.0
            continue
        if 0 < last < 20 and last != 10:  # two small numbers in a row are two numbers
            yield total + current
            total = current = 0.0
        last = _SMALL[word]
        current += last
    yield total + current
