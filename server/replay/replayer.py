"""Answers logged requests again, by the pipeline of the server, and compares."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from server.errors import RatchetError
from server.means import Services
from server.pipeline import Pipeline
from server.replay import recorded, request
from server.replay.comparison import Comparison, compare
from server.replay.parts import Parts
from server.replay.request import Changes
from server.rollout.routed import FixedRoutes
from server.storage.history import Logged, Place

log = logging.getLogger(__name__)

UNSEEDED = (
    "This policy draws other texts each time, whatever the seed: answers change also where no setting does; "
    "--rescore compares without that chance."
)


@dataclass(frozen=True, slots=True)
class Replayed:
    """A request that was answered again. `minimum_before` and `minimum_after` are the rewards, 0 to 1, from which
    candidates passed, None where the log does not say; `notes` are sentences on what could not be as it was."""

    place: Place
    logged: Logged
    comparison: Comparison
    minimum_before: float | None
    minimum_after: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """A request that could not be replayed, and why."""

    place: Place
    error: RatchetError


class Replayer:
    """Replays with `changes`; `parts` are open."""

    def __init__(self, parts: Parts, changes: Changes) -> None:
        self._parts, self._changes = parts, changes

    async def run(self, places: Sequence[Place], concurrency: int) -> AsyncGenerator[Replayed | Failed, None]:
        """What became of each, in their order, `concurrency` at a time."""
        waiting = iter(places)
        tasks: deque[asyncio.Task[Replayed | Failed]] = deque()
        try:
            while True:
                while len(tasks) < concurrency and (place := next(waiting, None)) is not None:
                    tasks.append(asyncio.create_task(self.replay(place)))
                if not tasks:
                    return
                yield await tasks[0]
                tasks.popleft()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def replay(self, place: Place) -> Replayed | Failed:
        """One request, asked again. Never raises for what a request or a part does."""
        try:
            return await self._replay(place)
        except RatchetError as error:
            return Failed(place, error)
        except Exception:
            log.exception("replaying %s failed", place.response_id)
            return Failed(place, RatchetError("A defect in replaying this request; the lines above have it."))

    async def _replay(self, place: Place) -> Replayed:
        logged = await self._parts.history.read(place)
        policy, reward = await self._releases(place)
        unlogged = recorded.NoLog()
        services = await self._services(logged, policy, reward, unlogged)
        turn = request.turn_of(logged, self._changes)
        routed = services.routes.of(turn)
        if self._changes.rescore and not self._changes.run_tools:
            seeded = logged.reply.seed_honored
            drawn = recorded.RecordedPolicy(routed.policy, logged.reply.candidates, turn.seed, seeded=seeded)
            services = replace(services, routes=FixedRoutes(drawn, routed.judges))
        settings = request.settings_for(logged, self._changes, routed.judges.rewards[0].release.id)
        reply = await Pipeline(services, settings).answer(turn)
        decided = unlogged.entry.decided if unlogged.entry else {}
        return Replayed(
            place,
            logged,
            compare(logged.reply, reply, rescored=self._changes.rescore),
            logged.decided.get("minimum_reward"),
            decided.get("minimum_reward"),
            self._notes(logged, routed.policy.seeded),
        )

    async def _releases(self, place: Place) -> tuple[Path, Path]:
        """Those named by flags, else those that answered then; where none scored, the reward release of now."""
        parts, changes = self._parts, self._changes
        policy, reward = Path(changes.settings.policy), Path(changes.settings.reward)
        if "policy" not in changes.given:
            policy = await parts.releases.named("policy", place.policy_release)
        if "reward" not in changes.given and place.reward_release:
            reward = await parts.releases.named("reward", place.reward_release)
        return policy, reward

    async def _services(self, logged: Logged, policy: Path, reward: Path, unlogged: recorded.NoLog) -> Services:
        parts, changes = self._parts, self._changes
        services = await parts.services(policy, reward, drawing=not changes.rescore)
        services = replace(services, log=unlogged, memory=recorded.RecordedMemory(logged.recollection))
        if changes.run_tools:
            return replace(services, profiles=recorded.RecordedProfiles(logged.profile, services.profiles))
        return replace(
            services,
            profiles=recorded.RecordedProfiles(logged.profile),
            tools=tuple(recorded.RecordedTool(run) for run in logged.reply.tool_runs),
            selector=recorded.RecordedSelector(),
        )

    def _notes(self, logged: Logged, seeded: bool) -> tuple[str, ...]:
        notes = [*logged.missing, *request.overruled(logged, self._changes)]
        if not seeded and not self._changes.rescore:
            notes.append(UNSEEDED)
        return tuple(notes)
