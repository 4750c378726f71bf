"""Texts as vectors of unit length, whose cosine says how alike they are: passages, preferences, similar queries.

`HashingEmbedder` needs no model and knows words by their spelling only; `ServedEmbedder` asks a release on Triton.
Vectors of different models can't be compared: what is stored carries the name of the model.
"""

import asyncio
import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from server.backends.encoder import ServedEncoder
from server.backends.inference import EncoderBackend
from server.errors import BackendRefused, BackendTimeout
from server.text import unmarked
from triton_models.manifest import Release

Vector = tuple[float, ...]

LONGEST = 8_192
"""Characters of a text that count, in `HashingEmbedder`."""
INLINE = 256
"""Characters that are embedded on the event loop, well under a millisecond; more go to a thread."""
_EXACT, _FOLDED, _PAIR, _GRAMS = 0.5, 0.8, 0.4, 1.0
"""What a word weighs as it is spelt, without marks, with the word before it, and by all its parts together."""
_COMMON, _NUMBER = 0.3, 2.0
"""Weights of words that every query has, and of words with digits, which nothing can stand for."""
_FUNCTION_WORDS = (
    "a an the is are am was be been do does did have has i me my you your it its this that these there to of in on at "
    "for with from by as and or if so can could would will shall should may what how when where which who please "
    "la va cua toi nhu nao gi voi nay kia cac nhung mot duoc vay ha nhe xin oi roi o"
)
"""English and, without marks, Vietnamese. Negations are none of them."""
_COMMON_WORDS = frozenset(_FUNCTION_WORDS.split())
_SHORTEST = 1e-9
_WORD = re.compile(r"[+#%&<>=*^~|$@]|[^\s!-/:-@\[-`{-~¡¿«»\u2010-\u2027\u2030-\u205e\u3000-\u303f]{1,64}")
"""A symbol that means something, or a run of anything but space and punctuation (cut, where nothing else parts it)."""


class Embedder(Protocol):
    """Gives texts their vectors."""

    @property
    def model(self) -> str:
        """Names the space that the vectors live in."""

    @property
    def dimension(self) -> int:
        """How many numbers a vector has."""

    async def embed(self, texts: Sequence[str], timeout: float) -> list[Vector]:
        """One vector a text, of unit length, also for an empty text. Raises BackendError."""


class HashingEmbedder:
    """Embeds by hashed words, word pairs and character n-grams: the light default, the same on every machine.

    Signed feature hashing (Weinberger et al. 2009, arXiv:0902.2206) of 3- and 4-grams within words (Bojanowski et al.
    2017, arXiv:1607.04606). Case, Unicode form and, mostly, diacritics don't matter; numbers do. A text without any
    word has a vector of its own, too: the hash of the empty word.
    """

    dimension = 256
    model = f"hashing-{dimension}"
    """Changes whenever the features do: stored vectors would not match them."""

    def __init__(self, threads: Executor | None = None) -> None:
        """`threads` takes long texts; None: the event loop's own."""
        self._threads = threads

    async def embed(self, texts: Sequence[str], timeout: float) -> list[Vector]:
        """See `Embedder.embed`. Raises BackendTimeout."""
        if sum(map(len, texts)) <= INLINE:
            return [hashed(text) for text in texts]
        work = asyncio.get_running_loop().run_in_executor(self._threads, lambda: [hashed(text) for text in texts])
        try:
            async with asyncio.timeout(timeout):
                return await work
        except TimeoutError as error:
            raise BackendTimeout(f"The model {self.model} did not answer in time.") from error


class ServedEmbedder:
    """Embeds with one release on Triton."""

    def __init__(self, release: Release, directory: Path, backend: EncoderBackend, threads: Executor) -> None:
        self.release = release
        self.model = release.id
        self.dimension = int(release.serializer["dimension"])
        self._prefix = str(release.serializer.get("prefix", ""))
        self._encoder = ServedEncoder(release, directory, backend, threads, width=self.dimension)

    async def embed(self, texts: Sequence[str], timeout: float) -> list[Vector]:
        """See `Embedder.embed`."""
        rows = (await self._encoder.rows([self._prefix + text for text in texts], timeout)).astype(float)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if (lengths < _SHORTEST).any():
            raise BackendRefused(f"The model {self.model} gives no usable embedding: a vector has no length.")
        return [tuple(row) for row in (rows / lengths).tolist()]


def hashed(text: str) -> Vector:
    """The text's vector in the space of `HashingEmbedder`."""
    words = _words(text[:LONGEST])
    known = [(_word_features(word), 1 + math.log(count)) for word, count in Counter(words).items()]
    ordered = [_folded(word) for word in words]
    pairs = list(pairwise(ordered))
    places, signs = _places([f"{first} {second}" for first, second in pairs])
    weights = [signs * [_PAIR * min(_weight(first), _weight(second)) for first, second in pairs]]
    weights += [parts * count for (_, parts), count in known]
    everywhere = np.concatenate([places, *(each for (each, _), _ in known)])
    vector = np.bincount(everywhere, np.concatenate(weights), HashingEmbedder.dimension)
    length = float(np.linalg.norm(vector))
    # Features may cancel each other to nothing, in theory.
    return tuple((vector / length).tolist()) if length > _SHORTEST else hashed("")


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _WORD.findall(plain.replace("'", "").replace("’", "")) or [""]


@lru_cache(maxsize=8_192)
def _word_features(word: str) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Where the word adds to the vector, and how much."""
    folded = _folded(word)
    grams = list(_grams(f"<{folded}>"))
    places, signs = _places([f"={word}", folded, *grams])
    parts = np.full(len(places), _GRAMS / max(len(grams), 1) ** 0.5)
    parts[:2] = _EXACT, _FOLDED
    return places, signs * parts * _weight(folded)


def _grams(word: str) -> Iterator[str]:
    for size in (3, 4):
        for start in range(len(word) - size + 1):
            yield word[start : start + size]


@lru_cache(maxsize=8_192)
def _weight(folded: str) -> float:
    if folded in _COMMON_WORDS:
        return _COMMON
    return _NUMBER if any(character.isdigit() for character in folded) else 1.0


_folded = lru_cache(maxsize=8_192)(unmarked)


def _places(features: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Index and sign of each feature: the top bits of its mixed CRC, which alone would keep like texts together."""
    codes = np.array([zlib.crc32(feature.encode("utf-8", "surrogatepass")) for feature in features], dtype=np.uint32)
    codes ^= codes >> np.uint32(16)
    codes *= np.uint32(0x85EBCA6B)
    codes ^= codes >> np.uint32(13)
    codes *= np.uint32(0xC2B2AE35)  # the finaliser of MurmurHash3
    signs = 1.0 - 2.0 * ((codes >> np.uint32(23)) & np.uint32(1)).astype(np.float64)
    return (codes >> np.uint32(24)).astype(np.intp), signs
