"""Rows of Postgres as questions: replies, what was said of them, and the review queue's labels. Pure.

Stars win over a thumb. A safety report says 0 of the aspect safety, and takes the place of the same rater's stars for
it. Equal texts of two replies stay two responses: each has a selection probability of its own.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from trainer.data.identity import question_id, topic_id
from trainer.data.records import (
    ASPECTS,
    REVIEWER,
    Judgement,
    Preferred,
    Question,
    Response,
    newest,
    rating_of_stars,
)

_THUMBS: Final[Mapping[str, float]] = {"thumbs_up": 1.0, "neutral": 0.5, "thumbs_down": 0.0}
_COUNTRY = re.compile("[A-Z]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One logged reply. `candidates` by their index, at least the one that was shown and those that are spoken of."""

    response_id: str
    asker: str
    query: str
    context: str
    policy_release: str
    reward_release: str
    shown: int
    candidates: Mapping[int, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One feedback, by the column names of `training_feedback_v1`."""

    feedback_id: str
    revision: int
    response_id: str
    rater: str
    kind: str
    rating_overall: int | None = None
    rating_dimensions: Mapping[str, int] = field(default_factory=dict)
    text_feedback: str = ""
    reaction_type: str | None = None
    chosen_index: int | None = None
    rejected_index: int | None = None
    updated_at: datetime | None = None
    country: str = ""
    new: bool = True

    @property
    def indexes(self) -> frozenset[int]:
        """The candidates that a preference compares."""
        return frozenset(each for each in (self.chosen_index, self.rejected_index) if each is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What a reviewer said of a response. `response_id` is "" where it was none of the log's."""

    item_id: str
    response_id: str
    asker: str
    query: str
    context: str
    response: str
    stars: int
    time: datetime | None


@dataclass(slots=True)
class _Draft:
    """A question that is being put together. `places`: (reply, index) -> place among `responses`."""

    query: str
    context: str
    responses: dict[tuple[str, int], Response] = field(default_factory=dict)
    judgements: dict[tuple[str, int], list[Judgement]] = field(default_factory=dict)
    preferences: list[tuple[tuple[str, int], tuple[str, int], Said]] = field(default_factory=list)
    countries: set[str] = field(default_factory=set)


def assemble(
    tenant: str, replies: Iterable[Reply], said: Sequence[Said], labels: Sequence[Label], reviewer_weight: float
) -> tuple[Question, ...]:
    """The questions, by id; responses by reply and index, judgements by feedback. Every feedback's reply is there."""
    known = {reply.response_id: reply for reply in replies}
    drafts: dict[str, _Draft] = {}
    reported = {(each.response_id, each.rater) for each in said if each.kind == "safety_report"}
    for each in sorted(said, key=lambda each: each.feedback_id):
        _speak(drafts, tenant, known[each.response_id], each, (each.response_id, each.rater) in reported)
    for label in _newest(labels):
        _label(_draft(drafts, tenant, label.query, label.context), label, known, reviewer_weight)
    return tuple(_finished(tenant, each, draft) for each, draft in sorted(drafts.items()))


def _draft(drafts: dict[str, _Draft], tenant: str, query: str, context: str) -> _Draft:
    return drafts.setdefault(question_id(tenant, query, context), _Draft(query, context))


def _speak(drafts: dict[str, _Draft], tenant: str, reply: Reply, said: Said, reported: bool) -> None:
    draft = _draft(drafts, tenant, reply.query, reply.context)
    draft.countries.add(said.country.strip().upper())
    if said.kind == "preference":
        assert said.chosen_index is not None
        assert said.rejected_index is not None
        chosen, rejected = (_add(draft, reply, index) for index in (said.chosen_index, said.rejected_index))
        draft.preferences.append((chosen, rejected, said))
    else:
        draft.judgements.setdefault(_add(draft, reply, reply.shown), []).append(judgement_of(said, reported))


def _add(draft: _Draft, reply: Reply, index: int) -> tuple[str, int]:
    place = (reply.response_id, index)
    draft.responses.setdefault(place, _response(reply, index))
    return place


def _response(reply: Reply, index: int) -> Response:
    candidate = reply.candidates[index]
    own = candidate.get("source") in (None, "model", "cache")  # else it is a score for another query
    return Response(
        text=candidate["text"],
        propensity=candidate["probability"],
        response_id=reply.response_id,
        index=index,
        policy_release=reply.policy_release,
        reward_release=reply.reward_release,
        logged_score=candidate["score"] if own else None,
        asker=reply.asker,
    )


def judgement_of(said: Said, reported: bool = False) -> Judgement:
    """What a rating or a report says, 0..1. `reported`: the rater also reported the reply as unsafe."""
    if said.kind == "safety_report":
        rating, aspects = None, {"safety": 0.0}
    else:
        rating = rating_of(said)
        stars = said.rating_dimensions
        given = [name for name in ASPECTS if name in stars and not (reported and name == "safety")]
        aspects = {name: rating_of_stars(stars[name]) for name in given}
    return Judgement(
        rater=said.rater,
        rating=rating,
        aspects=aspects,
        time=said.updated_at,
        feedback_id=said.feedback_id,
        comment=said.text_feedback,
        reported=said.kind == "safety_report",
    )


def rating_of(said: Said) -> float | None:
    """Stars, or else the thumb; None where neither was given."""
    if said.rating_overall is not None:
        return rating_of_stars(said.rating_overall)
    return _THUMBS.get(said.reaction_type or "")


def _newest(labels: Sequence[Label]) -> list[Label]:
    """The last word on each text: two runs may have asked for the same."""
    ordered = sorted(labels, key=lambda each: (each.time is not None and each.time.timestamp(), each.item_id))
    found = {(each.query, each.context, each.response_id, each.response): each for each in ordered}
    return sorted(found.values(), key=lambda each: each.item_id)


def _label(draft: _Draft, label: Label, known: Mapping[str, Reply], weight: float) -> None:
    same = [place for place, each in draft.responses.items() if each.text == label.response]
    place = next((place for place in same if place[0] == label.response_id), None) or _labelled(draft, label, known)
    judged = Judgement(
        rater=REVIEWER,
        rating=rating_of_stars(label.stars),
        time=label.time,
        feedback_id=label.item_id,
        weight=weight,
    )
    draft.judgements.setdefault(place, []).append(judged)


def _labelled(draft: _Draft, label: Label, known: Mapping[str, Reply]) -> tuple[str, int]:
    """A place for a text that nobody else judged."""
    reply = known.get(label.response_id)
    candidates = reply.candidates if reply else {}
    index = next((index for index, each in candidates.items() if each["text"] == label.response), None)
    if reply is not None and index is not None:
        return _add(draft, reply, index)
    place = (label.response_id or label.item_id, -1 - len(draft.responses))
    draft.responses[place] = Response(text=label.response, response_id=label.response_id, asker=label.asker)
    return place


def _finished(tenant: str, name: str, draft: _Draft) -> Question:
    order = {place: number for number, place in enumerate(sorted(draft.responses))}
    preferences = tuple(
        Preferred(
            chosen=order[chosen],
            rejected=order[rejected],
            rater=said.rater,
            time=said.updated_at,
            feedback_id=said.feedback_id,
        )
        for chosen, rejected, said in draft.preferences
    )
    responses = tuple(
        replace(draft.responses[place], judgements=tuple(draft.judgements.get(place, ()))) for place in order
    )
    judged = (each for response in responses for each in response.judgements)
    return Question(
        id=name,
        topic=topic_id(tenant, draft.query),
        query=draft.query,
        context=draft.context,
        responses=responses,
        preferences=preferences,
        askers=tuple(sorted({each.asker for each in responses} - {""})),
        time=newest((*judged, *preferences)),
        groups=_groups(draft),
    )


def _groups(draft: _Draft) -> dict[str, str]:
    """Where all who asked live in one country, that one: nothing finer leaves the database."""
    found = {"source": "feedback"}
    (country, *others) = sorted(draft.countries) or [""]
    if not others and _COUNTRY.fullmatch(country):
        found["country"] = country
    return found
