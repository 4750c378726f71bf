# ruff: noqa: S311 - seeded on purpose: the same seed gives the same people and questions
"""All users at once: each asks, reads and rates, until they have rated as many replies as they are to."""

import itertools
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import grpc

from simulation.client import Client, Reply
from simulation.crowd import User, crowd
from simulation.opinions import Opinion, opinion
from trainer.starter import corpus, rubric
from trainer.starter.query import Query

ASKERS: Final = 3
"""By how many users a query is asked, on average: so that different answers to one query are rated."""
BOTS_SECONDS: Final = 0.2
MOST_FAILURES: Final = 3
"""Failures of one user in a row that end the simulation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to simulate. `replies` are rated ones; `at_once` are users who ask at the same time.

    `pace` multiplies the time that users read for: 1 is that of people who read fast, 0 none at all.
    """

    users: int = 60
    replies: int = 2000
    noisy: float = 0.3
    seed: int = 7
    pace: float = 1.0
    at_once: int = 8


@dataclass(slots=True)
class Tally:
    """What happened so far. `waits` counts calls that were put off, `rubric` sums the answers' verdicts (0..1)."""

    replies: int = 0
    refused: int = 0
    failed: int = 0
    waits: int = 0
    rated: int = 0
    stars: int = 0
    thumbs: int = 0
    dimensions: int = 0
    comments: int = 0
    preferences: int = 0
    by_noisy: int = 0
    rubric: float = 0.0

    @property
    def mean_rubric(self) -> float | None:
        """Of the answers that were no refusals, 0..1."""
        answers = self.replies - self.refused
        return self.rubric / answers if answers else None

    def given(self, query: Query, reply: Reply) -> None:
        """A reply came."""
        self.replies += 1
        self.refused += reply.refused
        self.rubric += 0.0 if reply.refused else rubric.judge(query, reply.response).overall

    def heard(self, user: User, said: Opinion) -> None:
        """A reply was rated."""
        self.rated += 1
        self.stars += said.stars is not None
        self.thumbs += said.thumb != ""
        self.dimensions += bool(said.dimensions)
        self.comments += said.comment != ""
        self.preferences += said.preferred is not None
        self.by_noisy += user.vice != ""


Observe = Callable[[Tally], None]


@dataclass(slots=True)
class _Scene:
    """What all users share. `turns` are the places for those who wait for an answer."""

    plan: Plan
    client: Client
    ended: threading.Event
    observe: Observe
    turns: threading.Semaphore
    tally: Tally = field(default_factory=Tally)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def counting(self) -> Iterator[Tally]:
        """The tally, to be changed by one user at a time and shown afterwards."""
        with self.lock:
            yield self.tally
            self.tally.waits = self.client.waits
            self.observe(self.tally)


def simulate(
    plan: Plan, channel: grpc.Channel, seconds: float, ended: threading.Event, observe: Observe = lambda _: None
) -> Tally:
    """Lets the users of `plan` work until they are done or `ended` is set. A call may take `seconds`.

    Raises grpc.RpcError when a user fails again and again; the others are then told to stop.
    """
    people = crowd(plan.seed, plan.users, plan.noisy)
    scene = _Scene(plan, Client(channel, seconds, ended), ended, observe, threading.Semaphore(plan.at_once))
    queries = questions(plan)
    with ThreadPoolExecutor(len(people)) as threads:
        try:
            lives = [
                threads.submit(_live, scene, user, quota, queries)
                for user, quota in zip(people, quotas(plan), strict=True)
            ]
            wait(lives, return_when=FIRST_EXCEPTION)
        finally:
            ended.set()  # all are done, or nobody need go on
        for life in lives:
            life.result()
    return scene.tally


def quotas(plan: Plan) -> list[int]:
    """How many replies each user rates: they share them evenly."""
    return [(plan.replies + index) // plan.users for index in range(plan.users)]


def questions(plan: Plan) -> list[Query]:
    """The queries to choose from, all of the corpus's training split; languages in turn."""
    count = max(2 * plan.replies // ASKERS, 4 * max(quotas(plan)))
    return [one.query for one in corpus.asked(plan.seed, "train", count)]


def _live(scene: _Scene, user: User, quota: int, queries: Sequence[Query]) -> None:
    """One user: asks queries in an order of their own until their quota is rated."""
    own = [query for query in queries if query.lang == user.language]
    order = random.Random(f"{scene.plan.seed}-order-{user.id}").sample(own, len(own))
    failures = 0
    for query in itertools.cycle(order):
        if not quota or scene.ended.is_set():
            return
        try:
            quota -= _exchange(scene, user, query)
            failures = 0
        except grpc.RpcError:
            failures += 1
            with scene.counting() as tally:
                tally.failed += 1
            if failures == MOST_FAILURES or scene.ended.is_set():
                raise


def _exchange(scene: _Scene, user: User, query: Query) -> bool:
    """One query, its reply and what is said of it; whether it was rated."""
    with scene.turns:
        reply = scene.client.ask(user.id, query)
    with scene.counting() as tally:
        tally.given(query, reply)
    rng = random.Random(f"{scene.plan.seed}-{user.id}-{query.id}-{reply.response}")
    said = None if reply.refused else _opinion(user, query, reply, rng)
    if scene.ended.wait(reading_seconds(user, reply.response) * scene.plan.pace) or said is None:
        return False
    scene.client.rate(user.id, reply, said)
    if said.preferred:
        scene.client.prefer(user.id, reply, *said.preferred)
    with scene.counting() as tally:
        tally.heard(user, said)
    return True


def _opinion(user: User, query: Query, reply: Reply, rng: random.Random) -> Opinion | None:
    texts = [candidate.text for candidate in reply.candidates]
    shown = next(place for place, candidate in enumerate(reply.candidates) if candidate.selected)
    return opinion(user, query, texts, shown, rng)


def reading_seconds(user: User, answer: str) -> float:
    """How long the user looks at an answer."""
    return BOTS_SECONDS if user.vice == "bot" else len(answer.split()) / user.words_per_second
