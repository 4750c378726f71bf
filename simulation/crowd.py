# ruff: noqa: S311 - seeded on purpose: the same seed gives the same people
"""Who the simulated users are: their languages, habits and vices. Pure; no user knows the rubric's reasons."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from trainer.starter.query import LANGUAGES, Language

Vice = Literal["", "random", "fan", "bot"]
Way = Literal["stars", "thumb", "dimensions"]

NONE: Final[Vice] = ""
VICES: Final[tuple[Vice, ...]] = ("random", "fan", "bot")
WAYS: Final[Mapping[Way, float]] = {"stars": 0.5, "thumb": 0.2, "dimensions": 0.3}
COMPARES: Final = 0.4
"""Share of users who look at other candidates too, now and then."""
COMMENTS: Final = 0.3
"""Share of users who write comments, now and then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person with habits. Who rates by dimensions gives stars too.

    `leaning` and `noise` are in stars; `diligence`, `compares` and `comments` are shares of the replies that they get.

    `vice`: "" rates what the reply is worth; "random" rates without reading; "fan" gives five stars to all; "bot" does
    so at once, with the same words each time.
    """

    id: str
    language: Language
    way: Way
    leaning: float
    noise: float
    diligence: float  # rates at all
    compares: float  # and says which of two candidates is better
    comments: float  # and writes something
    words_per_second: float  # reads
    vice: Vice = ""


def crowd(seed: int, users: int, noisy: float) -> tuple[User, ...]:
    """`users` people, languages in turn; a share `noisy` of them, 0..1, has a vice, the vices in turn."""
    rng = random.Random(f"{seed}-crowd")
    vices: list[Vice] = [VICES[index % len(VICES)] for index in range(round(noisy * users))]
    order: list[Vice] = [*vices, *[NONE] * (users - len(vices))]
    rng.shuffle(order)
    return tuple(_user(f"sim-{seed}-{index:04d}", LANGUAGES[index % 2], vice, rng) for index, vice in enumerate(order))


def _user(name: str, language: Language, vice: Vice, rng: random.Random) -> User:
    return User(
        id=name,
        language=language,
        way=rng.choices(list(WAYS), list(WAYS.values()))[0],
        leaning=rng.gauss(0.0, 0.4),
        noise=rng.uniform(0.3, 0.7),
        diligence=rng.uniform(0.6, 1.0),
        compares=rng.uniform(0.3, 0.9) if rng.random() < COMPARES else 0.0,
        comments=rng.uniform(0.1, 0.5) if rng.random() < COMMENTS else 0.0,
        words_per_second=rng.uniform(6.0, 12.0),
        vice=vice,
    )
