"""Many simulated users, each of whom asks once and rates what came: to experiments each is one more unit.

They are `simulation`'s people with its hidden rubric, without vices; so many call at a time.
"""

import asyncio
import itertools
import random
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc

from ratchet.v1 import feedback_pb2, feedback_pb2_grpc, inference_pb2, inference_pb2_grpc
from simulation.crowd import User, crowd
from simulation.opinions import Opinion, opinion
from trainer.starter import corpus
from trainer.starter.query import Query

CANDIDATES = 3
CALL_SECONDS = 8.0
TOKENS = 24
"""Of a short answer, where only time and failures count."""

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as its caller saw it. `release` is the reward that judged, "" without a reply; `satisfied` 0 to 1,
    None: not rated. Times are of this process's monotonic clock."""

    began: float
    seconds: float
    release: str = ""
    fell_back: bool = False
    satisfied: float | None = None
    response_id: str = ""
    user_id: str = ""


@dataclass(slots=True)
class Crowd:
    """People who come one by one to a server. `brief`: two short candidates, nobody rates."""

    channel: grpc.aio.Channel
    name: str
    queries: Sequence[Query]
    brief: bool = False
    seen: list[Seen] = field(default_factory=list)

    async def come(self, callers: int, ended: asyncio.Event, most: int | None = None) -> None:
        """So many at a time, until `ended`, or until `most` have come."""
        numbers = itertools.islice(itertools.count(), most)
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(self._one_after_the_other(numbers, ended))

    @asynccontextmanager
    async def coming(self, callers: int) -> AsyncIterator[None]:
        """So many at a time while this lasts."""
        ended = asyncio.Event()
        people = asyncio.create_task(self.come(callers, ended))
        try:
            yield
        finally:
            ended.set()
            await people

    async def _one_after_the_other(self, numbers: Iterator[int], ended: asyncio.Event) -> None:
        for number in numbers:
            if ended.is_set():
                return
            self.seen.append(await self._visit(number))

    async def _visit(self, number: int) -> Seen:
        user, rng = _person(self.name, number), random.Random(f"{self.name}-{number}")
        own = [query for query in self.queries if query.lang == user.language]
        query, began = rng.choice(own), time.monotonic()
        try:
            reply = await self._ask(user, query)
            seconds = time.monotonic() - began
            said = None if self.brief or reply.refused else _opinion(user, query, reply, rng)
            if said is not None:
                await self._rate(user, reply, said)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:  # a defect of this benchmark
                raise
            return Seen(began, time.monotonic() - began)
        fell_back = inference_pb2.DEGRADATION_REASON_SCORING_FELL_BACK in {each.reason for each in reply.degradations}
        told = None if said is None else _satisfied(said)
        return Seen(began, seconds, reply.reward_release, fell_back, told, reply.response_id, user.id)

    async def _ask(self, user: User, query: Query) -> Any:
        request = inference_pb2.GenerateRequest(
            request_id=str(uuid.uuid4()),
            user_id=user.id,
            query=query.text,
            context=query.evidence,
            candidate_count=2 if self.brief else CANDIDATES,
            max_output_tokens=TOKENS if self.brief else None,
            tool_use=inference_pb2.TOOL_USE_NONE,
        )
        stub: Any = inference_pb2_grpc.InferenceServiceStub(self.channel)
        return await stub.Generate(request, timeout=CALL_SECONDS)

    async def _rate(self, user: User, reply: Any, said: Opinion) -> None:
        request = feedback_pb2.SubmitFeedbackRequest(
            response_id=reply.response_id,
            user_id=user.id,
            rating_overall=said.stars,
            reaction_type=feedback_pb2.ReactionType.Value(f"REACTION_TYPE_{said.thumb or 'UNSPECIFIED'}"),
            receipt=reply.receipt,
        )
        stub: Any = feedback_pb2_grpc.FeedbackServiceStub(self.channel)
        await stub.SubmitFeedback(request, timeout=CALL_SECONDS)


def questions(seed: int, count: int) -> list[Query]:
    """Queries of the corpus's training split, without earlier turns."""
    asked = [one.query for one in corpus.asked(seed, "train", count)]
    return [query for query in asked if not query.turns]


def _person(name: str, number: int) -> User:
    """One of as many as are wanted. All rate, and nobody writes."""
    (one,) = crowd(hash_of(name, number), 1, 0.0)
    language = one.language if number % 2 else "vi"
    return replace(one, id=f"{name}-{number}", language=language, diligence=1.0, compares=0.0, comments=0.0)


def hash_of(name: str, number: int) -> int:
    """A seed of its own for each person."""
    return random.Random(f"{name}/{number}").getrandbits(31)


def _opinion(user: User, query: Query, reply: Any, rng: random.Random) -> Opinion | None:
    shown = next(place for place, candidate in enumerate(reply.candidates) if candidate.selected)
    return opinion(user, query, [candidate.text for candidate in reply.candidates], shown, rng)


def _satisfied(said: Opinion) -> float | None:
    """As rollouts count it: stars, else a thumb; None for neither."""
    if said.stars is not None:
        return (said.stars - 1) / 4
    return {"THUMBS_UP": 1.0, "THUMBS_DOWN": 0.0}.get(said.thumb)


def by_release(seen: Sequence[Seen]) -> Figures:
    """Requests, mean seconds and satisfaction, by the reward that judged."""
    found: Figures = {}
    for release in sorted({each.release for each in seen}):
        of = [each for each in seen if each.release == release]
        rated = [each.satisfied for each in of if each.satisfied is not None]
        found[release or "no reply"] = {
            "requests": len(of),
            "mean_ms": 1e3 * statistics.fmean(each.seconds for each in of),
            "satisfaction": statistics.fmean(rated) if rated else None,
        }
    return found
