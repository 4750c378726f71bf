"""Stage 3: N candidates at once, each with sampling of its own; stragglers don't hold up the reply."""

import asyncio
import hashlib
import logging
import math
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from server.absence import Absence, Policy
from server.errors import BackendBusy, BackendError, BackendTimeout, DeadlineExceeded, Overloaded, PolicyUnavailable
from server.types import Candidate, Degradation, DegradationReason, Preset, Sampling

log = logging.getLogger(__name__)

GRACE_SECONDS = 1.0
"""Stragglers get this beside the multiple of the quorum's time, so that quick quorums don't cut close seconds off."""
CANCEL_SECONDS = 1.0
"""How long cancelled candidates are awaited; a backend that ignores cancellation can't hold the reply longer."""
CANCEL_SHARE = 0.1
"""Nor longer than this share of the budget."""
CANCEL_LEAST = 0.01
"""Seconds that they get in any case: a backend's stream ends in a few turns of the loop."""
FOLDED_CHARACTERS = 8_192
"""Texts beyond this are compared without folding their marks: folding is for answers of usual length."""

_MARKS = re.compile(r"(?<!\d)[\s.,;:!?…\"'“”‘’«»()\[\]{}*_`~–—]+|[\s.,;:!?…\"'“”‘’«»()\[\]{}*_`~–—]+(?!\d)|-(?!\d)")
"""Whitespace and marks, apart from what makes a number another one (1.5, 2-4, -3)."""
_COUNTED = "ehnot0123456789"
"""Letters that English and Vietnamese use much, and what answers to one question differ in."""
_unheeding: "set[asyncio.Task[Candidate | BackendError]]" = set()
"""Cancelled draws that ran on after their grace; referenced until they end."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a draw may take. `budget`: seconds at most. Once the share `quorum` (0 to 1) of the candidates has its
    text, the others get `patience` times what that took and a second, within the budget. While there is no text at
    all, the first one is awaited until `last` seconds, where that is later than the budget, but for no more than
    `textless` seconds. A policy that is away is waited for until `away` seconds."""

    budget: float
    quorum: float = 1.0
    patience: float = 2.0
    last: float = 0.0
    textless: float = math.inf
    away: float = 0.0

    @property
    def longest(self) -> float:
        """Seconds after the start at which all that is missing is given up."""
        return max(self.budget, self.last)

    @property
    def grace(self) -> float:
        """Seconds for which cancelled candidates are awaited."""
        return min(CANCEL_SECONDS, max(CANCEL_LEAST, CANCEL_SHARE * self.budget))

    def needed(self, count: int) -> int:
        """How many texts of `count` are the quorum: below 1 it leaves out one at least, so that one that hangs does not
        hold up the others."""
        if self.quorum >= 1:
            return count
        return max(1, min(count - 1, math.ceil(self.quorum * count)))

    def end(self, quorum_seconds: float) -> float:
        """Seconds after the start at which those that are still missing are given up."""
        return min(self.budget, quorum_seconds * (1 + self.patience) + GRACE_SECONDS)


def plan(count: int, seed: int, max_tokens: int, presets: Sequence[Preset], first: int = 0) -> tuple[Sampling, ...]:
    """How `count` candidates from index `first` on are sampled: presets in turn, seeds derived from the request's.

    Candidate i is sampled the same in whatever wave it comes.
    """
    indices = range(first, first + count)
    return tuple(Sampling(presets[i % len(presets)], derive_seed(seed, i), max_tokens) for i in indices)


def derive_seed(seed: int, index: int) -> int:
    """The seed of candidate `index`, 0 to 2**63 - 1: the first bits of SHA-256 over both numbers."""
    digest = hashlib.sha256(f"{seed}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


async def draw(
    prompt: str,
    plans: Sequence[Sampling],
    policy: Policy,
    patience: Patience,
    arrived: Callable[[Candidate], None],
    wave: int = 0,
    first: int = 0,
    *,
    waited: Callable[[], None] = lambda: None,
) -> tuple[Candidate, ...]:
    """The candidates `first`, `first` + 1, … in the order of `plans`; one that fails or is late carries its error.

    `arrived` is called on the loop as soon as a candidate has its text or error; `waited` once there are texts, and
    none of a candidate that did not have to wait for the policy. Late ones are cancelled and awaited.
    In wave 0 raises PolicyUnavailable, Overloaded or DeadlineExceeded when not one was drawn; later waves have the
    earlier ones to fall back on, and don't wait until `patience.last`.
    """
    if wave:
        patience = replace(patience, last=0.0)
    draws = [_Draw(first + offset, wave, plan) for offset, plan in enumerate(plans)]
    with Absence(patience.away) as absence:
        drawing = _Drawing(draws, patience, arrived, absence)
        found = await drawing.run(prompt, policy)
    with_text = {candidate.index for candidate in found if candidate.drawn}
    if with_text and with_text <= absence.waited:
        waited()
    if wave == 0 and found and not any(candidate.drawn for candidate in found):
        _raise_for(drawing.errors)
    return found


def mark_duplicates(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The candidates, each naming the first before it with the same text apart from case, spaces, marks and the way
    that Unicode composes letters."""
    letters = {candidate.text: _letters(candidate.text) for candidate in candidates if candidate.drawn}
    alike = Counter(letters.values())
    folded = {text: _folded(text) if alike[found] > 1 else text for text, found in letters.items()}
    first: dict[str, int] = {}
    marked = []
    for candidate in candidates:
        original = first.setdefault(folded[candidate.text], candidate.index) if candidate.drawn else candidate.index
        marked.append(replace(candidate, duplicate_of=None if original == candidate.index else original))
    return tuple(marked)


def missing(candidates: Sequence[Candidate]) -> tuple[Degradation, ...]:
    """What the reply says when not all candidates were drawn."""
    failed = [candidate for candidate in candidates if not candidate.drawn]
    if not failed:
        return ()
    detail = f"{len(failed)} of {len(candidates)} candidates are missing; the first: {failed[0].error}"
    return (Degradation(DegradationReason.CANDIDATES_MISSING, detail),)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _letters(text: str) -> tuple[int, ...]:
    """How often some letters and digits occur: the same for texts that fold to the same, in a tenth of the time."""
    plain = _plain(text)
    return tuple(map(plain.count, _COUNTED))


def _folded(text: str) -> str:
    plain = _plain(text)
    if len(plain) > FOLDED_CHARACTERS:
        return " ".join(plain.split())
    return _MARKS.sub(" ", plain).strip() or plain


@dataclass(frozen=True, slots=True)
class _Draw:
    """One candidate to be."""

    index: int
    wave: int
    sampling: Sampling

    def failed(self, error: BackendError, seconds: float) -> Candidate:
        return Candidate(self.index, self.sampling, error=str(error), seconds=seconds, wave=self.wave)

    async def run(self, prompt: str, policy: Policy, budget: float, absence: Absence) -> Candidate | BackendError:
        began = time.perf_counter()
        try:
            found = await absence.draw(self.index, policy, prompt, self.sampling, budget)
        except BackendError as error:
            return error
        except Exception:
            log.exception("drawing candidate %d failed", self.index)
            return BackendError("A defect in drawing this candidate; the server's log has it.")
        text = found.text.strip()
        if not text:
            return BackendError("The policy model gave an empty text.")
        seconds = time.perf_counter() - began
        return Candidate(
            self.index, self.sampling, text, found.finish_reason, found.output_tokens, seconds, wave=self.wave
        )


class _Drawing:
    """One call of `draw`: which tasks run, what came of them, until when the rest may take."""

    def __init__(
        self,
        draws: Sequence[_Draw],
        patience: Patience,
        arrived: Callable[[Candidate], None],
        absence: Absence,
    ) -> None:
        self.errors: list[BackendError] = []
        self._draws, self._patience, self._arrived, self._absence = draws, patience, arrived, absence
        self._found: dict[int, Candidate] = {}
        self._end = patience.budget
        self._began = time.perf_counter()

    async def run(self, prompt: str, policy: Policy) -> tuple[Candidate, ...]:
        how = (prompt, policy, self._patience.longest, self._absence)
        tasks = {asyncio.create_task(draw.run(*how)): draw for draw in self._draws}
        pending = set(tasks)
        try:
            while pending and (left := self._left()) > 0:
                done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    self._settle(tasks[task], _outcome(task))
                self._put_on_notice()
            late = BackendTimeout(self._late())
        finally:
            await _stop(pending, self._patience.grace)
        for task in pending:
            self._settle(tasks[task], late)
        return tuple(self._found[draw.index] for draw in self._draws)

    def _settle(self, draw: _Draw, outcome: Candidate | BackendError) -> None:
        if isinstance(outcome, BackendError):
            self.errors.append(outcome)
            outcome = draw.failed(outcome, self._elapsed())
        else:
            self._absence.present = True
        self._found[draw.index] = outcome
        self._arrived(outcome)

    def _put_on_notice(self) -> None:
        """Shortens the time of the rest once the quorum, of those that can still come, is there."""
        possible = len(self._draws) - len(self.errors)
        if self._end == self._patience.budget and self._texts() >= self._patience.needed(possible):
            self._end = self._patience.end(self._elapsed())

    def _left(self) -> float:
        """Seconds until what is missing is given up; the first text is awaited for longer."""
        patience = self._patience
        return (self._end if self._texts() else min(patience.longest, patience.textless)) - self._elapsed()

    def _texts(self) -> int:
        return sum(candidate.drawn for candidate in self._found.values())

    def _late(self) -> str:
        others = ", while most of the others had theirs" if self._end < self._patience.budget else ""
        return f"No text within {self._elapsed():.1f} s{others}."

    def _elapsed(self) -> float:
        return time.perf_counter() - self._began


def _outcome(task: "asyncio.Task[Candidate | BackendError]") -> Candidate | BackendError:
    if task.cancelled():  # by the backend itself: it must not pass for a cancelled caller
        return BackendError("The policy model's call was cancelled.")
    return task.result()


async def _stop(tasks: "Iterable[asyncio.Task[Candidate | BackendError]]", grace: float) -> None:
    """Cancels and awaits, for `grace` seconds at most."""
    running = set(tasks)
    for task in running:
        task.cancel()
    if not running:
        return
    _, unheeding = await asyncio.wait(running, timeout=grace)
    for task in unheeding:
        log.warning("a candidate's draw ignores its cancellation and runs on")
        _unheeding.add(task)
        task.add_done_callback(_unheeding.discard)


def _raise_for(errors: Sequence[BackendError]) -> None:
    if all(isinstance(error, BackendTimeout) for error in errors):
        raise DeadlineExceeded("No candidate was drawn before the deadline.")
    if any(isinstance(error, BackendBusy) for error in errors):
        raise Overloaded("The policy model has too much to do.", retry_after=1.0)
    raise PolicyUnavailable(f"No candidate could be drawn: {errors[0]}")
