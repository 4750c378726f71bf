"""A policy that is away, as while Triton starts again: it is asked until it is there, so that callers get a late answer
instead of an error."""

import asyncio
import random
import time
from typing import Protocol

from server.errors import BackendBusy, BackendUnavailable
from server.types import Generation, Sampling

ASK_AGAIN_SECONDS = 0.1
"""Until it is asked once more; twice as long each time, to ASK_AGAIN_LONGEST, and a part of it by chance: those who
wait must not all come back at once."""
ASK_AGAIN_LONGEST = 1.0
MOST = 128
"""Calls of this process that wait at a time, half of those that are let in by default: who needs no policy, such as
feedback, must find a place."""
_waiting: "set[Absence]" = set()


class Policy(Protocol):
    """What drawing needs of a policy release."""

    async def generate(self, prompt: str, sampling: Sampling, timeout: float) -> Generation:
        """One candidate; raises BackendError."""


class Absence:
    """As the candidates of one call meet it, which wait for `seconds` at most. A context, so that its end is known.

    `waited`: the candidates that had to. `present`: somebody has a text, so that the others ask once more, and then it
    is their own matter.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._began = seconds, time.perf_counter()
        self.waited: set[int] = set()
        self.present = False

    def __enter__(self) -> "Absence":
        return self

    def __exit__(self, *error: object) -> None:
        self._seconds = 0.0  # a draw that did not heed its cancellation must not begin to wait
        _waiting.discard(self)

    async def draw(self, index: int, policy: Policy, prompt: str, sampling: Sampling, timeout: float) -> Generation:
        """The candidate `index` within `timeout` seconds, once the policy is there. Raises BackendError."""
        pause, gone = ASK_AGAIN_SECONDS, 0.0
        while True:
            last = self.present and index in self.waited
            try:
                return await policy.generate(prompt, sampling, timeout - gone)
            except (BackendUnavailable, BackendBusy) as error:
                left = self._seconds - (time.perf_counter() - self._began)
                if last or left <= 0 or not self._is_absence(error, index):
                    raise
            self.waited.add(index)
            _waiting.add(self)
            await asyncio.sleep(min(pause * random.uniform(0.5, 1.0), left))  # noqa: S311 - nothing to guess
            gone, pause = time.perf_counter() - self._began, min(2 * pause, ASK_AGAIN_LONGEST)

    def _is_absence(self, error: BackendUnavailable | BackendBusy, index: int) -> bool:
        """Whether to wait: a queue that is full once the policy is back is full of those who waited."""
        if isinstance(error, BackendBusy) and index not in self.waited:
            return False
        return self in _waiting or len(_waiting) < MOST
