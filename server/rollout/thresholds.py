"""A new reward release's threshold before it gets users, so that the swap does not move what passes (`continuity`)."""

import asyncio
from dataclasses import asdict

from server.deliberation import MINIMUM_REWARD
from server.rollout.continuity import Continuity, carry_over
from server.rollout.evidence import Source
from server.rollout.registry import Published
from server.rollout.shadowing import score_pairs
from server.rollout.store import Rollouts
from server.rollout.types import Kind, Rollout

NEARLY = 0.002
"""Thresholds that differ by less are the same: each change is told to all servers."""


async def carry(rollouts: Rollouts, source: Source, rollout: Rollout) -> Continuity | None:
    """Matches the challenger's threshold to the champion's and keeps it; None where there is nothing to match.

    Doing it again finds the same. Raises Unavailable, ReleaseNotFound.
    """
    if rollout.kind is not Kind.REWARD or not rollout.plan.compares:
        return None
    champion = threshold_of(await rollouts.release(rollout.champion))
    answers, rated = await source.shadow(rollout.rollout_id), await source.rated(rollout.rollout_id)
    found = await asyncio.to_thread(lambda: carry_over(champion, score_pairs(answers), rated))  # half a second at most
    present = await rollouts.release(rollout.challenger)
    if not _is_kept(present, found):
        await rollouts.set_threshold(rollout.challenger, found.threshold, asdict(found))
    return found


def threshold_of(release: Published) -> float:
    """What its replies pass at: what was found for it, else its manifest's, else what holds for all without one."""
    own = release.threshold if release.threshold is not None else release.manifest.get("threshold")
    return MINIMUM_REWARD if own is None else float(own)


def _is_kept(release: Published, found: Continuity) -> bool:
    same = release.threshold is not None and abs(release.threshold - found.threshold) < NEARLY
    return same and release.continuity is not None and release.continuity.get("method") == found.method.value
