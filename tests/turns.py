"""Turns, candidates and log entries for tests."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import uuid_utils

from server.storage.rows import LogEntry
from server.types import (
    Candidate,
    Choice,
    Exchange,
    FinishReason,
    Preset,
    Recollection,
    Reply,
    Sampling,
    Score,
    SelectionMethod,
    Turn,
)

PRESET = Preset("temperature_0.7", 0.7, 0.9)


def a_turn(**changes: Any) -> Turn:
    """A turn with ten seconds to go."""
    turn = Turn(
        tenant_id="default",
        request_id="",
        user_id="ann",
        session_id="s1",
        query="Where is my order?",
        context="",
        candidate_count=3,
        seed=7,
        seed_given=False,
        selection_method=SelectionMethod.BEST,
        max_output_tokens=64,
        response_id=UUID(int=uuid_utils.uuid7().int),
        received_at=datetime.now(UTC),
        deadline=asyncio.get_running_loop().time() + 10,
        fingerprint=b"",
    )
    turn = replace(turn, **changes)
    return turn if turn.fingerprint else replace(turn, fingerprint=turn.query.encode())


def a_candidate(index: int, text: str = "An answer.", score: float | None = 0.5, error: str = "") -> Candidate:
    """A drawn candidate, or a failed one when `error` is given."""
    sampling = Sampling(PRESET, 11 + index, 64)
    if error:
        return Candidate(index, sampling, error=error)
    judged = Score(score, 0.0, (0.1, 0.2, 0.3, 0.4)) if score is not None else None
    return Candidate(index, sampling, text, FinishReason.STOP, 3, 0.25, score=judged)


def an_entry(turn: Turn, *, text: str = "An answer.", score: float | None = 0.5) -> LogEntry:
    """What the log would get for `turn`: two candidates, the second one failed."""
    candidates = (a_candidate(0, text, score), a_candidate(1, error="No text within 1.0 s."))
    reply = Reply(
        response_id=turn.response_id,
        response=text,
        reward_score=score,
        generation_method="temperature_0.7",
        feedback_prompt=True,
        candidates=candidates,
        choice=Choice(0, SelectionMethod.BEST, (1.0, 0.0)),
        policy_release="policy-000001",
        reward_release="reward-000001",
        seed=turn.seed,
        seed_honored=False,
        created_at=datetime.now(UTC),
        latencies={"candidates": 0.25},
        total_seconds=0.5,
    )
    recollection = Recollection((Exchange("Xin chào", "Chào bạn!"),), "Earlier: hours")
    return LogEntry(turn, recollection, None, reply)
