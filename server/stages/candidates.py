"""Stage 3: N candidates at once, each with sampling of its own."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Sequence
from typing import Protocol

from server.errors import BackendBusy, BackendError, BackendTimeout, DeadlineExceeded, Overloaded, PolicyUnavailable
from server.types import Candidate, Degradation, DegradationReason, Generation, Preset, Sampling

log = logging.getLogger(__name__)

PRESETS = (
    Preset("temperature_0.7", temperature=0.7, top_p=0.9),
    Preset("temperature_1.0", temperature=1.0, top_p=0.8),
    Preset("top_k_50", temperature=1.0, top_k=50),
)
"""The sampling strategies of the specification, taken in turn."""


class Policy(Protocol):
    """What drawing needs of a policy release."""

    async def generate(self, prompt: str, sampling: Sampling, timeout: float) -> Generation:
        """One candidate; raises BackendError."""


def plan(count: int, seed: int, max_tokens: int, presets: Sequence[Preset] = PRESETS) -> tuple[Sampling, ...]:
    """How each of `count` candidates is sampled: presets in turn, each candidate's seed derived from the request's."""
    return tuple(Sampling(presets[i % len(presets)], derive_seed(seed, i), max_tokens) for i in range(count))


def derive_seed(seed: int, index: int) -> int:
    """The seed of candidate `index`, 0 to 2**63 - 1: the first bits of SHA-256 over both numbers."""
    digest = hashlib.sha256(f"{seed}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


async def draw(prompt: str, plans: Sequence[Sampling], policy: Policy, budget: float) -> tuple[Candidate, ...]:
    """The candidates in the order of `plans`; one that fails or is late carries its error.

    Late ones are cancelled and awaited: nothing of them runs on. Raises PolicyUnavailable, Overloaded or
    DeadlineExceeded when not one was drawn.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_one(index, prompt, plan, policy, budget)) for index, plan in enumerate(plans)]
    outcomes = [task.result() for task in tasks]
    if not any(isinstance(outcome, Candidate) for outcome in outcomes):
        _raise_for([outcome for outcome in outcomes if isinstance(outcome, BackendError)])
    return tuple(
        outcome if isinstance(outcome, Candidate) else Candidate(index, plan, error=str(outcome))
        for index, (outcome, plan) in enumerate(zip(outcomes, plans, strict=True))
    )


async def _one(index: int, prompt: str, plan: Sampling, policy: Policy, budget: float) -> Candidate | BackendError:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(budget):
            found = await policy.generate(prompt, plan, budget)
    except TimeoutError:
        return BackendTimeout(f"No text within {budget:.1f} s.")
    except BackendError as error:
        return error
    except Exception:
        log.exception("drawing candidate %d failed", index)
        return BackendError("A defect in drawing this candidate; the server's log has it.")
    text = found.text.strip()
    if not text:
        return BackendError("The policy model gave an empty text.")
    return Candidate(index, plan, text, found.finish_reason, found.output_tokens, time.perf_counter() - began)


def missing(candidates: Sequence[Candidate]) -> tuple[Degradation, ...]:
    """What the reply says when not all candidates were drawn."""
    failed = [candidate for candidate in candidates if not candidate.drawn]
    if not failed:
        return ()
    detail = f"{len(failed)} of {len(candidates)} candidates are missing; the first: {failed[0].error}"
    return (Degradation(DegradationReason.CANDIDATES_MISSING, detail),)


def _raise_for(errors: Sequence[BackendError]) -> None:
    if all(isinstance(error, BackendTimeout) for error in errors):
        raise DeadlineExceeded("No candidate was drawn before the deadline.")
    if any(isinstance(error, BackendBusy) for error in errors):
        raise Overloaded("The policy model has too much to do.", retry_after=1.0)
    raise PolicyUnavailable(f"No candidate could be drawn: {errors[0]}")
