"""Moves rollouts by evidence: looks at each that is under way, decides, and stores the step or why it waits.

All that it knows it reads again at each look. A step is one transaction, and what is loaded and routed follows from
what is stored: whoever leads next, after whatever death, goes on from there.
"""

import logging
from collections.abc import Sequence

from server.errors import RatchetError, told
from server.rollout import documents, thresholds
from server.rollout.decision import decide
from server.rollout.errors import RolloutChanged
from server.rollout.evidence import Gatherer, Source
from server.rollout.looks import Looks
from server.rollout.registry import Looked
from server.rollout.store import Rollouts
from server.rollout.types import Move, Rollout, State

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two looks."""
CARRY_EVERY = 30
"""Looks at a shadow between two matches of its threshold, for a person who promotes it."""


class Controller:
    """Call `look` every EVERY seconds, never twice at once."""

    def __init__(self, rollouts: Rollouts, source: Source, gatherer: Gatherer | None = None) -> None:
        self._rollouts, self._source = rollouts, source
        self._gatherer = gatherer or Gatherer(rollouts, source)
        self._seen = Looks(rollouts.look)
        self._looks: dict[str, int] = {}

    async def look(self) -> None:
        """One look at every rollout under way. Raises Unavailable; what goes wrong with one keeps none of the others
        waiting."""
        under_way = [each for each in await self._rollouts.active() if each.is_active]
        self._keep([each.rollout_id for each in under_way])
        for rollout in under_way:
            try:
                await self._look_at(rollout)
            except RolloutChanged:
                log.debug("rollout %s changed during a look", rollout.rollout_id)
            except RatchetError as error:
                log.warning("rollout %s can't be looked at: %s", rollout.rollout_id, told(error))
            except Exception:
                log.exception("rollout %s can't be looked at", rollout.rollout_id)

    async def close(self) -> None:
        """Ends what is being computed."""
        await self._gatherer.close()

    async def _look_at(self, rollout: Rollout) -> None:
        evidence = await self._gatherer.of(rollout)
        now = await self._rollouts.now()
        decision = decide(rollout, evidence, now)
        if isinstance(decision, Move):
            await self._move(rollout, decision)
            return
        seen = documents.of_evidence(decision.evidence)
        await self._seen.keep(rollout.rollout_id, Looked(rollout.version, now, decision.reason, seen))
        await self._prepare(rollout)

    async def _move(self, rollout: Rollout, move: Move) -> None:
        if move.rollout.state is State.CANARY and rollout.state in (State.LOADED, State.SHADOW):
            await thresholds.carry(self._rollouts, self._source, rollout)  # before it has users
        await self._rollouts.apply(move)
        log.info("rollout %s of %s is %s: %s", rollout.rollout_id, rollout.challenger, move.rollout.state, move.reason)

    async def _prepare(self, rollout: Rollout) -> None:
        """A person may promote a shadow at any time: its threshold is matched by then."""
        if rollout.state is not State.SHADOW:
            return
        looks = self._looks[rollout.rollout_id] = self._looks.get(rollout.rollout_id, -1) + 1
        if looks % CARRY_EVERY == 0:
            await thresholds.carry(self._rollouts, self._source, rollout)

    def _keep(self, under_way: Sequence[str]) -> None:
        self._gatherer.keep(under_way)
        self._seen.only(under_way)
        self._looks = {name: self._looks[name] for name in under_way if name in self._looks}
