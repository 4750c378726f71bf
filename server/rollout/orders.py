"""What people order of rollouts, carried out: finds what a command rests on, has `commands` decide, stores the step.

Someone else may write at the same time. Who named a version is told so; who did not meant the rollout as it is by then.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import uuid_utils

from server.errors import RatchetError, UnreadableRow, told
from server.rollout import commands, documents
from server.rollout.commands import Command
from server.rollout.errors import RolloutChanged, RolloutNotPossible
from server.rollout.guards import span
from server.rollout.machine import TRANSITIONS
from server.rollout.plan import Plan
from server.rollout.readiness import readiness
from server.rollout.registry import Looked
from server.rollout.reports import SafetyReports
from server.rollout.store import Rollouts
from server.rollout.types import Actor, Evidence, Move, Rollout, State, Trigger

log = logging.getLogger(__name__)

LOOK_SECONDS = 3.0
"""How long a command that gives traffic waits for the controller's look at the rollout as it stands."""
LOOK_EVERY = 0.2
STALE_SECONDS = 60.0
"""The controller looks each second: after so long nobody leads, and what was seen says nothing of now."""
ATTEMPTS = 5
"""Of a command that names no version, while others write."""
NO_REASON = "No reason was given."


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A rollout that somebody asks for; `draft`: to be started later. A repeated `request_id` of the same `fingerprint`
    asks for the same one."""

    release: str
    plan: Plan
    actor: Actor
    reason: str = ""
    draft: bool = False
    request_id: str = ""
    fingerprint: bytes = b""


class Orders:
    """Carries them out. `longest_deadline`: seconds that a call may take. Every method raises StoreUnavailable."""

    def __init__(self, rollouts: Rollouts, reports: SafetyReports, longest_deadline: float) -> None:
        self._rollouts, self._reports, self._longest = rollouts, reports, longest_deadline

    async def start(self, order: Order) -> Rollout:
        """A new rollout, started unless it is to stay a draft. Nothing is stored of one that can't be started.

        Raises ReleaseNotFound, RolloutNotPossible, RequestIdReused.
        """
        rollout = None
        if order.request_id:
            rollout = await self._rollouts.requested(order.request_id, order.fingerprint)
        if rollout is None:
            rollout = await self._drafted(order)
        if order.draft or rollout.state is not State.DRAFT:
            return rollout
        return await self.start_draft(rollout.rollout_id, order.actor, order.reason)

    async def start_draft(self, rollout_id: str, actor: Actor, reason: str) -> Rollout:
        """A draft, started; one that is under way as it is. Raises RolloutNotFound, RolloutNotPossible."""

        async def decide() -> Rollout:
            rollout = await self._rollouts.get(rollout_id)
            return await self._kept(rollout, await self._started(rollout, actor, reason))

        return await _again_when_changed(decide)

    async def obey(self, rollout_id: str, command: Command) -> Rollout:
        """The rollout after PROMOTE, PAUSE, RESUME or ROLL_BACK; one that is verified is undone by the last, and the
        rollout that does so is given.

        Raises RolloutNotFound, RolloutNotPossible, RolloutChanged.
        """

        undoing = new_id()

        async def decide() -> Rollout:
            rollout = await self._rollouts.get(rollout_id)
            if command.trigger is Trigger.ROLL_BACK and rollout.state is State.VERIFIED:
                return await self._undone(rollout, command, undoing)
            evidence = await self._given(rollout) if _gives(rollout, command) else await self._at_hand(rollout)
            named = replace(command, reason=command.reason or NO_REASON)
            decision = commands.obey(rollout, named, evidence, await self._rollouts.now())
            return await self._kept(rollout, decision if isinstance(decision, Move) else None)

        return await (_again_when_changed(decide) if command.version is None else decide())

    async def _drafted(self, order: Order) -> Rollout:
        release = await self._rollouts.release(order.release)
        champion = (await self._rollouts.champions()).get(release.kind)
        if champion is None:
            raise RolloutNotPossible(f"No {release.kind} release serves yet, so there is nothing to compare with.")
        move = commands.draft(
            rollout_id=new_id(),
            kind=release.kind,
            challenger=release.release,
            champion=champion.release,
            plan=order.plan,
            longest_deadline=self._longest,
            actor=order.actor,
            reason=order.reason or NO_REASON,
            now=await self._rollouts.now(),
        )
        return await self._created(move, order)

    async def _created(self, move: Move, order: Order) -> Rollout:
        if not order.draft:
            await self._started(move.rollout, order.actor, order.reason)
        return await self._rollouts.create(move, request_id=order.request_id, fingerprint=order.fingerprint)

    async def _undone(self, verified: Rollout, command: Command, rollout_id: str) -> Rollout:
        """The rollout that takes a verified one's former champion back: the one under way, or a new one of this id,
        drafted once however often this is tried."""
        if command.version not in (None, verified.version):
            raise RolloutChanged(f"The rollout is at version {verified.version}, no longer at {command.version}.")
        if underway := await self._undoing(verified):
            return underway
        actor, reason, now = command.actor, command.reason or NO_REASON, await self._rollouts.now()
        move = commands.undo(verified, rollout_id=rollout_id, actor=actor, reason=reason, now=now)
        await self._started(move.rollout, actor, reason)
        draft = await self._rollouts.create(move, request_id=f"undo {rollout_id}")
        return await self.start_draft(draft.rollout_id, actor, reason)

    async def _undoing(self, verified: Rollout) -> Rollout | None:
        active = [each for each in await self._rollouts.active() if each.is_active]
        return next((each for each in active if each.undoes == verified.rollout_id), None)

    async def _started(self, draft: Rollout, actor: Actor, reason: str) -> Move | None:
        """What starting it makes of a draft; None when it was started before. Raises RolloutNotPossible."""
        champions, others = await self._rollouts.champions(), await self._rollouts.active()
        champion = champions.get(draft.kind)
        decision = commands.start(
            draft,
            await self._fresh(Evidence(rollout_id=draft.rollout_id, version=draft.version), draft),
            champion=champion.release if champion else draft.champion,
            others=others,
            actor=actor,
            reason=reason or NO_REASON,
            now=await self._rollouts.now(),
        )
        if not isinstance(decision, Move):
            return None
        await self._require_champion(decision.rollout)
        return decision

    async def _require_champion(self, rollout: Rollout) -> None:
        """Raises RolloutNotPossible where no replica has what the rollout is to be compared with: it would have no
        users. While nothing is known of it, as before the leader's first look, nothing is refused."""
        champion, now = rollout.champion, await self._rollouts.now()
        found = readiness(known := await self._rollouts.replicas(champion), champion, now)
        if rollout.plan.compares and known and not found.ready and not found.unseen:
            why = f": {found.refusal}" if found.refusal else "."
            raise RolloutNotPossible(
                f"{champion}, which it would be compared with, is ready on no replica{why} See to it first, or undo the"
                " rollout that made it the champion."
            )

    async def _kept(self, rollout: Rollout, move: Move | None) -> Rollout:
        if move is None:
            return rollout
        await self._rollouts.apply(move)
        return move.rollout

    async def _given(self, rollout: Rollout) -> Evidence:
        """What the controller saw of the rollout as it stands, which is waited for a little, and what can be told at
        once as it is now. Raises RolloutNotPossible when nobody has looked for long."""
        looked = await self._looked(rollout)
        _require_recent(looked, await self._rollouts.now())
        return await self._fresh(_read(looked), rollout)

    async def _at_hand(self, rollout: Rollout) -> Evidence:
        """The same for the audit of what gives no traffic: as much of it as can be read, for nothing rests on it."""
        evidence = Evidence(rollout_id=rollout.rollout_id, version=rollout.version)
        try:
            if looked := await self._rollouts.looked(rollout.rollout_id):
                evidence = documents.evidence(looked.evidence)
            return await self._fresh(evidence, rollout)
        except (RatchetError, KeyError, ValueError) as error:
            log.warning("what is known of rollout %s can't be read now: %s", rollout.rollout_id, told(error))
            return evidence

    async def _looked(self, rollout: Rollout) -> Looked:
        """The controller's look at the rollout as it stands. Raises RolloutNotPossible."""
        ends = asyncio.get_running_loop().time() + LOOK_SECONDS
        while (looked := await self._rollouts.looked(rollout.rollout_id)) is None or looked.version < rollout.version:
            if asyncio.get_running_loop().time() >= ends:
                raise RolloutNotPossible(
                    f"The controller has not looked at version {rollout.version} of the rollout yet: try again in some"
                    " seconds; if that lasts, no server process leads."
                )
            await asyncio.sleep(LOOK_EVERY)
        return looked

    async def _fresh(self, evidence: Evidence, rollout: Rollout) -> Evidence:
        """The evidence, with what is cheap to know as it is now."""
        release = await self._rollouts.release(rollout.challenger)
        return replace(
            evidence,
            published=release.retired_at is None,
            readiness=readiness(await self._rollouts.replicas(), rollout.challenger, await self._rollouts.now()),
            safety=await self._reports.counted(rollout),
        )


def _gives(rollout: Rollout, command: Command) -> bool:
    """Whether it may give traffic; what can't be done anyway, or comes late, is told so without evidence."""
    possible = any((row.source, row.trigger) == (rollout.state, command.trigger) for row in TRANSITIONS)
    return command.trigger in (Trigger.PROMOTE, Trigger.RESUME) and possible and command.version == rollout.version


def new_id() -> str:
    """A rollout's: a UUIDv7, so that they sort by time."""
    return str(UUID(int=uuid_utils.uuid7().int))


def _require_recent(looked: Looked, now: datetime) -> None:
    if (age := (now - looked.at).total_seconds()) > STALE_SECONDS:
        raise RolloutNotPossible(
            f"The controller last looked at the rollout {span(age)} ago, so nothing is known of it as it is now: see"
            " that a server process leads."
        )


def _read(looked: Looked) -> Evidence:
    try:
        return documents.evidence(looked.evidence)
    except (KeyError, ValueError) as error:
        raise UnreadableRow(
            "What was seen of the rollout can only be read by a newer Ratchet: ask that one."
        ) from error


async def _again_when_changed(decide: Callable[[], Awaitable[Rollout]]) -> Rollout:
    for _ in range(ATTEMPTS - 1):
        try:
            return await decide()
        except RolloutChanged:
            continue
    return await decide()
