"""Training data from files: JSON lines, plain or gzip, of rated responses or of preferences.

What a line may hold is in docs/training-data.md. A line that can't be used ends the reading with its file and number:
data that are silently left out spoil a model unseen.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from trainer.data import dialogues
from trainer.data.identity import question_id, topic_id
from trainer.data.lines import objects, shown
from trainer.data.records import ASPECTS, Judgement, Preferred, Question, Response, rating_of_stars
from trainer.errors import DataError

NOBODY_NAMED: Final = "file"
"""The rater of a line that names none."""
_TENANT: Final = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a line asks and which texts answer it. `name` is by what the question is known: its query, where it has one.

    `preference`: the texts are two, the first one better than the second.
    """

    query: str
    context: str
    responses: tuple[str, ...]
    preference: bool = False

    @property
    def name(self) -> str:
        """Two texts without a query are a question of their own, else all such lines would be one."""
        return self.query if self.query.strip() else "\0".join(self.responses)


@dataclass(slots=True)
class _Draft:
    """A question that is being put together; responses of the same text are one. `places` is where each text is."""

    asked: Asked
    places: dict[str, int] = field(default_factory=dict)
    judgements: list[list[Judgement]] = field(default_factory=list)
    preferences: list[Preferred] = field(default_factory=list)
    askers: set[str] = field(default_factory=set)
    times: list[datetime] = field(default_factory=list)
    source: str = ""

    def place(self, text: str) -> int:
        """Of a response, which is added where it is new."""
        if text not in self.places:
            self.judgements.append([])
        return self.places.setdefault(text, len(self.places))


def read(*paths: Path) -> tuple[Question, ...]:
    """The questions of the files, those of the same query and context as one. Raises DataError."""
    drafts: dict[str, _Draft] = {}
    for path in paths:
        for number, line in _lines(path):
            try:
                _add(drafts, line)
            except DataError as error:
                raise DataError(f"{path}, line {number}: {error}") from None
    found = tuple(_question(name, draft) for name, draft in drafts.items())
    if not any(each.preferences or any(one.judgements for one in each.responses) for each in found):
        names = ", ".join(map(str, paths))
        raise DataError(f"{names} holds nothing to train on: no rating, win_rate, aspects, or chosen and rejected.")
    return found


def asked(line: Mapping[str, Any]) -> Asked:
    """Whom a line asks and what answers, whatever was said of it. Raises DataError."""
    if "chosen" in line or "rejected" in line:
        return _preference(line)
    query, context = _text(line, "query"), _optional_text(line, "context")
    given = line.get("responses")
    if not isinstance(given, list) or not given:
        raise DataError(f'responses must be a list of objects such as {{"text": ...}}, not {shown(given)}.')
    for place, each in enumerate(given):
        if not isinstance(each, dict) or not isinstance(each.get("text"), str):
            raise DataError(f'responses[{place}] must be an object with a "text", not {shown(each)}.')
    if not query.strip():
        raise DataError("query is empty.")
    return Asked(query=query, context=context, responses=tuple(whole(each["text"]) for each in given))


def whole(text: str) -> str:
    """The text with U+FFFD for halves of surrogate pairs, which no tokenizer takes."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        source = path.open("rb", buffering=0)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from None
    with source:
        yield from objects(source, str(path))


def _preference(line: Mapping[str, Any]) -> Asked:
    if "responses" in line:
        raise DataError("a line has either responses, or chosen and rejected.")
    chosen, rejected = _text(line, "chosen"), _text(line, "rejected")
    query, context = _optional_text(line, "query"), _optional_text(line, "context")
    spoken = dialogues.is_dialogue(chosen) and dialogues.is_dialogue(rejected)
    if spoken and not query.strip():
        said, query, chosen, rejected = dialogues.parted(chosen, rejected)
        context = "\n".join(each for each in (context, said) if each)
    elif spoken:
        chosen, rejected = dialogues.last_answer(chosen)[1], dialogues.last_answer(rejected)[1]
    return Asked(query=query, context=context, responses=(chosen, rejected), preference=True)


def _add(drafts: dict[str, _Draft], line: Mapping[str, Any]) -> None:
    what = asked(line)
    draft = drafts.setdefault(question_id(_TENANT, what.name, what.context), _Draft(what))
    user, time = _optional_text(line, "user"), _time(line)
    rater = user or NOBODY_NAMED
    places = [draft.place(text) for text in what.responses]
    if what.preference:
        chosen, rejected = places
        draft.preferences.append(Preferred(chosen=chosen, rejected=rejected, rater=rater, time=time))
    else:
        for place, given in zip(places, line["responses"], strict=True):
            if (judged := _judgement(given, rater, time)) is not None:
                draft.judgements[place].append(judged)
    draft.askers |= {user} if user else set()
    draft.times += [time] if time else []
    draft.source = draft.source or _optional_text(line, "source")


def _judgement(given: Mapping[str, Any], rater: str, time: datetime | None) -> Judgement | None:
    """None where nobody said anything of it."""
    stars, rate = given.get("rating"), given.get("win_rate")
    if stars is not None and rate is not None:
        raise DataError("a response has either a rating or a win_rate.")
    rating = None
    if stars is not None:
        rating = rating_of_stars(_number(stars, "rating", 1, 5))
    elif rate is not None:
        rating = _number(rate, "win_rate", 0, 1)
    aspects = _aspects(given.get("aspects"))
    if rating is None and not aspects:
        return None
    return Judgement(rater=rater, rating=rating, aspects=aspects, time=time)


def _aspects(given: Any) -> dict[str, float]:
    if given is None:
        return {}
    if not isinstance(given, dict) or not given.keys() <= set(ASPECTS):
        raise DataError(f"aspects must be an object with {', '.join(ASPECTS)}, not {shown(given)}.")
    return {
        name: rating_of_stars(_number(given[name], f"aspects.{name}", 1, 5))
        for name in ASPECTS
        if given.get(name) is not None
    }


def _number(value: Any, name: str, low: int, high: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise DataError(f"{name} must be a number from {low} to {high}, not {shown(value)}.")
    return float(value)


def _text(line: Mapping[str, Any], name: str) -> str:
    value = line.get(name)
    if not isinstance(value, str):
        raise DataError(f"{name} must be a text, not {shown(value)}." if name in line else f"{name} is missing.")
    return whole(value)


def _optional_text(line: Mapping[str, Any], name: str) -> str:
    return "" if line.get(name) is None else _text(line, name)


def _time(line: Mapping[str, Any]) -> datetime | None:
    """In UTC; a time without a zone is in UTC."""
    written = _optional_text(line, "time")
    if not written:
        return None
    try:
        time = datetime.fromisoformat(written)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise DataError(f"time must be as in RFC 3339, 2026-01-31T12:00:00Z, not {shown(written)}.") from None


def _question(name: str, draft: _Draft) -> Question:
    what = draft.asked
    return Question(
        id=name,
        topic=topic_id(_TENANT, what.name),
        query=what.query,
        context=what.context,
        responses=tuple(
            Response(text=text, judgements=tuple(draft.judgements[place]), index=place)
            for text, place in draft.places.items()
        ),
        preferences=tuple(draft.preferences),
        askers=tuple(sorted(draft.askers)),
        time=max(draft.times, default=None),
        groups={"source": draft.source} if draft.source else {},
    )
