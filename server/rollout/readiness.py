"""On how many Triton replicas a release is ready, and on which not yet, from what the leader noted of them. Pure."""

from collections.abc import Iterable
from datetime import datetime

from server.rollout.guards import span
from server.rollout.registry import ReplicaModel, ReplicaState
from server.rollout.types import Readiness

UNSEEN = 60.0
"""Seconds after which what was noted of a replica says nothing of it any more; it is noted anew every few."""


def readiness(models: Iterable[ReplicaModel], release: str, now: datetime, longest: float = UNSEEN) -> Readiness:
    """How a release stands on all replicas, from how every release does: one without the release counts as well.

    What was noted more than `longest` seconds before `now` counts for nothing.
    """
    known = list(models)
    of = [model for model in known if model.release == release]
    seen = [model for model in of if _age(model, now) <= longest]
    refused = next((model for model in seen if model.state is ReplicaState.REFUSED), None)
    unseen = max((model for model in of if model not in seen), key=lambda model: _age(model, now), default=None)
    return Readiness(
        ready=sum(model.state is ReplicaState.READY for model in seen),
        replicas=len({model.replica for model in known}),
        refusal=f"{refused.replica}: {refused.refusal}" if refused else "",
        unseen=f"nobody has looked after {unseen.replica} for {span(_age(unseen, now))}." if unseen else "",
    )


def awaited(models: Iterable[ReplicaModel], release: str, now: datetime, longest: float = UNSEEN) -> list[str]:
    """The replicas that calls are answered by, with whatever release, and that are not ready with this one yet.

    What was noted more than `longest` seconds before `now` counts for nothing. One that is away is ready with nothing.
    """
    ready = [model for model in models if model.state is ReplicaState.READY and _age(model, now) <= longest]
    return sorted({model.replica for model in ready} - {model.replica for model in ready if model.release == release})


def _age(model: ReplicaModel, now: datetime) -> float:
    return (now - model.checked_at).total_seconds()
