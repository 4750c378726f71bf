"""Rollouts, their audit, champions, releases and replicas in Postgres. The clock is Postgres's.

Who writes a rollout compares its version: of two leaders, or a leader and a person, one writes, and the other is told
RolloutChanged. The event is written in the same transaction, and so is the champion when it changes.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from server.rollout.registry import Assignment, Champion, Looked, Published, ReplicaModel, Retired
from server.rollout.types import Event, Kind, Move, Rollout


class Rollouts(Protocol):
    """The store. Every method raises Unavailable when Postgres is away."""

    async def now(self) -> datetime:
        """The time that all leaders go by."""

    async def champions(self) -> dict[Kind, Champion]:
        """By kind; a kind that nobody serves yet is not in it."""

    async def crown_first(self, kind: Kind, release: str) -> Champion:
        """Makes it the champion if the kind has none; gives the one that is. The release must be registered."""

    async def crown_configured(self, kind: Kind, release: str) -> Champion:
        """Makes it the champion unless a rollout made the one that is, or is under way; gives the one that is. The
        release must be registered."""

    async def create(self, move: Move, *, request_id: str = "", fingerprint: bytes = b"") -> Rollout:
        """Stores a draft and its first event; gives the rollout. A repeated `request_id` of the same fingerprint gives
        the rollout that the first one made, as it is now.

        Raises RequestIdReused, ReleaseNotFound.
        """

    async def requested(self, request_id: str, fingerprint: bytes) -> Rollout | None:
        """What a request of this id made before, as it is now; None of a new one. Raises RequestIdReused."""

    async def apply(self, move: Move) -> None:
        """Stores the rollout after a move and its event, if the stored one is of the version before; a move to VERIFIED
        makes the challenger the champion, in the same transaction.

        Raises RolloutChanged, RolloutNotFound, RolloutNotPossible (another of its kind is under way).
        """

    async def get(self, rollout_id: str) -> Rollout:
        """Raises RolloutNotFound."""

    async def created(self, rollout_ids: Sequence[str]) -> dict[str, tuple[datetime, str]]:
        """When, and by whom, each was drafted."""

    async def active(self) -> list[Rollout]:
        """Those under way, of all kinds, and those VERIFIED whose former champion may still have calls."""

    async def page(self, *, size: int, before: str, kind: Kind | None, active_only: bool) -> list[Rollout]:
        """Newest first, those older than the rollout `before` ("": from the newest)."""

    async def events(self, rollout_id: str, *, size: int, before: int) -> list[Event]:
        """Newest first, of versions below `before` (0: from the newest)."""

    async def look(self, rollout_id: str, looked: Looked) -> None:
        """Keeps what the controller saw last; an older version than the stored one's is dropped."""

    async def looked(self, rollout_id: str) -> Looked | None:
        """What `look` kept."""

    async def publish(self, release: Published) -> tuple[Published, bool]:
        """Registers a release; gives the registered one, and whether it was there before.

        Raises ReleaseExists for another one (digest) of the same id.
        """

    async def release(self, release: str) -> Published:
        """Raises ReleaseNotFound."""

    async def retire(self, release: str) -> tuple[Published, bool]:
        """Has a release serve nobody any more; gives it, and whether it was retired before.

        Raises ReleaseNotFound, and ReleaseInUse for a champion and for one of a rollout under way, or whose calls may
        still be.
        """

    async def readmit(self, release: str, digest: bytes, there: Callable[[], bool]) -> bool:
        """Takes the retirement of the release of this `digest` back, if its files are `there` (asked in a thread).

        False: they are not, and it stays retired. Where nothing is retired there is nothing to take back.
        """

    async def retired(self, age: timedelta) -> list[Retired]:
        """Those that were retired so long ago, or longer."""

    async def while_retired(self, release: str, names: Sequence[str], work: Callable[[], None]) -> bool:
        """Does `work` in a thread while nobody takes the retirement back, or has one of the leases of these `names`.

        False: somebody has one, or it is not retired, and nothing was done.
        """

    async def releases(self, *, size: int, before: str, kind: Kind | None) -> list[Published]:
        """Newest first, those published before the release `before` ("": from the newest)."""

    async def set_threshold(self, release: str, threshold: float, continuity: object) -> None:
        """Keeps a reward release's threshold and how it was found (JSON-able)."""

    async def replicas(self, release: str | None = None) -> list[ReplicaModel]:
        """How releases stand on the replicas; of one release only, if it is named."""

    async def report(self, models: Sequence[ReplicaModel], replicas: Sequence[str]) -> None:
        """Replaces what is known of the `replicas` by `models`, and forgets replicas that are not among them."""

    async def failed(self, tenant_id: str, digest: bytes, assignments: Sequence[Assignment], reason: str) -> None:
        """Notes a call of experiments that gave no reply."""

    async def decide_report(
        self, rollout_id: str, tenant_id: str, feedback_id: UUID, *, confirmed: bool, by: str, note: str
    ) -> None:
        """Keeps what a person makes of a safety report on a reply of the challenger. Raises FeedbackNotFound."""
