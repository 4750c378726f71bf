"""Questions as flat tables, and back: what a snapshot's files hold. Pure.

Each table is known by the SHA-256 of its rows, written in one way whatever library writes the files.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from trainer.data.records import ASPECTS, Judgement, Preferred, Question, Response

Row = tuple[Any, ...]
Rows = Mapping[str, Sequence[Row]]
"""By the name of the table."""


@dataclass(frozen=True, slots=True)
class Used:
    """A feedback as it was when the snapshot was taken: an edit has a greater revision, and counts as new."""

    feedback_id: str
    revision: int


COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    "questions": {
        "id": "text",
        "topic": "text",
        "query": "text",
        "context": "text",
        "time": "time",
        "groups": "text",  # a JSON object
        "askers": "text",  # a JSON list
    },
    "responses": {
        "question": "integer",  # the row of its question
        "text": "text",
        "propensity": "number",
        "response_id": "text",
        "index": "integer",
        "policy_release": "text",
        "reward_release": "text",
        "logged_score": "number",
        "asker": "text",
    },
    "judgements": {
        "response": "integer",  # the row of its response
        "rater": "text",
        "rating": "number",
        **dict.fromkeys(ASPECTS, "number"),
        "time": "time",
        "feedback_id": "text",
        "comment": "text",
        "reported": "boolean",
        "weight": "number",
    },
    "preferences": {
        "question": "integer",
        "chosen": "integer",  # places among the question's responses
        "rejected": "integer",
        "rater": "text",
        "time": "time",
        "feedback_id": "text",
        "weight": "number",
    },
    "used": {"feedback_id": "text", "revision": "integer"},
}
"""Tables, their columns and kinds. Anything may be missing (None)."""


def flat(questions: Iterable[Question], used: Iterable[Used]) -> Rows:
    """The rows, by the questions' ids and the feedback's; whether a row is new is not among them."""
    found: dict[str, list[Row]] = {name: [] for name in COLUMNS}
    for question in sorted(questions, key=lambda each: each.id):
        _add(found, question)
    found["used"] = [(each.feedback_id, each.revision) for each in sorted(used, key=lambda each: each.feedback_id)]
    return found


def _add(found: dict[str, list[Row]], question: Question) -> None:
    number = len(found["questions"])
    groups, askers = _dump(dict(sorted(question.groups.items()))), _dump(sorted(question.askers))
    row = (question.id, question.topic, question.query, question.context, question.time, groups, askers)
    found["questions"].append(row)
    for response in question.responses:
        found["judgements"] += [_judgement(len(found["responses"]), each) for each in response.judgements]
        found["responses"].append(_response(number, response))
    found["preferences"] += [
        (number, each.chosen, each.rejected, each.rater, each.time, each.feedback_id, each.weight)
        for each in question.preferences
    ]


def _response(question: int, response: Response) -> Row:
    return (
        question,
        response.text,
        response.propensity,
        response.response_id,
        response.index,
        response.policy_release,
        response.reward_release,
        response.logged_score,
        response.asker,
    )


def _judgement(response: int, judged: Judgement) -> Row:
    aspects = [judged.aspects.get(name) for name in ASPECTS]
    return (
        response,
        judged.rater,
        judged.rating,
        *aspects,
        judged.time,
        judged.feedback_id,
        judged.comment,
        judged.reported,
        judged.weight,
    )


def deep(rows: Rows) -> tuple[Question, ...]:
    """The questions of `flat`."""
    judgements = _grouped(rows["judgements"], _judgement_of)
    with_place = enumerate(rows["responses"])
    responses = _grouped([(row[0], place, row) for place, row in with_place], lambda row: _response_of(row, judgements))
    preferences = _grouped(rows["preferences"], _preferred_of)
    return tuple(
        Question(
            id=name,
            topic=topic,
            query=query,
            context=context,
            responses=tuple(responses.get(number, ())),
            preferences=tuple(preferences.get(number, ())),
            askers=tuple(json.loads(askers)),
            time=time,
            groups=json.loads(groups),
        )
        for number, (name, topic, query, context, time, groups, askers) in enumerate(rows["questions"])
    )


def _grouped(rows: Iterable[Row], make: Callable[[Row], Any]) -> dict[int, list[Any]]:
    """By the first column."""
    found: dict[int, list[Any]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(make(row))
    return found


def _response_of(placed: Row, judgements: Mapping[int, Sequence[Judgement]]) -> Response:
    _, place, (_, text, propensity, response_id, index, policy, reward, score, asker) = placed
    return Response(
        text=text,
        judgements=tuple(judgements.get(place, ())),
        propensity=propensity,
        response_id=response_id,
        index=index,
        policy_release=policy,
        reward_release=reward,
        logged_score=score,
        asker=asker,
    )


def _judgement_of(row: Row) -> Judgement:
    _, rater, rating, *aspects, time, feedback_id, comment, reported, weight = row
    given = {name: value for name, value in zip(ASPECTS, aspects, strict=True) if value is not None}
    return Judgement(
        rater=rater,
        rating=rating,
        aspects=given,
        time=time,
        feedback_id=feedback_id,
        comment=comment,
        reported=reported,
        weight=weight,
    )


def _preferred_of(row: Row) -> Preferred:
    _, chosen, rejected, rater, time, feedback_id, weight = row
    return Preferred(chosen=chosen, rejected=rejected, rater=rater, time=time, feedback_id=feedback_id, weight=weight)


def fingerprint(rows: Rows) -> str:
    """SHA-256 of all rows, in hexadecimal: of a line of JSON each, table by table."""
    digest = hashlib.sha256()
    for name, columns in COLUMNS.items():
        digest.update(_dump([name, len(rows[name]), *columns]).encode() + b"\n")
        for row in rows[name]:
            digest.update(_dump([_plain(each) for each in row]).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
