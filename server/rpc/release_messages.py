"""Releases as protobuf messages."""

from __future__ import annotations  # enum value types exist for type checkers only

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from ratchet.v1 import release_pb2 as pb
from server.rollout.arrivals import Refused
from server.rollout.documents import plain
from server.rollout.effects import routing
from server.rollout.registry import Champion, Published, ReplicaModel, ReplicaState
from server.rollout.types import Kind, Rollout

KINDS: Mapping[Kind, pb.ReleaseKind.ValueType] = {
    kind: pb.ReleaseKind.Value(f"RELEASE_KIND_{kind.name}") for kind in Kind
}
ASKED_KINDS: Mapping[int, Kind] = {value: kind for kind, value in KINDS.items()}
"""By the value that a request names."""
_STATES: Mapping[ReplicaState, pb.ReplicaModelState.ValueType] = {
    state: pb.ReplicaModelState.Value(f"REPLICA_MODEL_STATE_{state.name}") for state in ReplicaState
}


@dataclass(frozen=True, slots=True)
class Serving:
    """Who serves now: champions, the rollouts under way, and what the replicas have."""

    champions: Mapping[Kind, Champion]
    active: Sequence[Rollout]
    replicas: Mapping[str, list[ReplicaModel]] = field(default_factory=dict)
    """By release."""

    @classmethod
    def of(
        cls, champions: Mapping[Kind, Champion], active: Iterable[Rollout], models: Iterable[ReplicaModel] = ()
    ) -> Serving:
        """From what the store has."""
        by_release: dict[str, list[ReplicaModel]] = defaultdict(list)
        for model in models:
            by_release[model.release].append(model)
        return cls(champions, [each for each in active if each.is_active], by_release)

    def share(self, kind: Kind, release: str) -> float:
        """The share of users (0 to 1) that a release answers now."""
        if under_way := next((each for each in self.active if each.kind is kind), None):
            return routing(under_way).shares.get(release, 0.0)
        champion = self.champions.get(kind)
        return 1.0 if champion is not None and champion.release == release else 0.0

    def challenge(self, release: str) -> str:
        """The rollout under way that a release is the challenger of; "" for none."""
        return next((each.rollout_id for each in self.active if each.challenger == release), "")


def release_of(published: Published, serving: Serving) -> pb.Release:
    """The message of a release."""
    manifest, champion = published.manifest, serving.champions.get(published.kind)
    crowned = champion is not None and champion.release == published.release
    message = pb.Release(
        release=published.release,
        kind=KINDS[published.kind],
        parent=manifest.get("parent") or "",
        base_model=manifest.get("base_model", ""),
        architecture=manifest.get("architecture", ""),
        data_snapshot=manifest.get("data_snapshot") or "",
        training_id=str(published.training_id or ""),
        code_version=manifest.get("code_version", ""),
        create_time=_written(manifest.get("created_at", "")),
        publish_time=time_of(published.published_at),
        publisher=published.published_by,
        calibration=manifest.get("calibration", {}),
        threshold=manifest.get("threshold") if published.threshold is None else published.threshold,
        threshold_reason=(published.continuity or {}).get("sentence", ""),
        variants=map(_variant, manifest.get("variants", ())),
        champion=crowned,
        champion_time=time_of(champion.since) if champion is not None and crowned else None,
        rollout_id=serving.challenge(published.release),
        share=serving.share(published.kind, published.release),
        retire_time=time_of(published.retired_at),
        replicas=map(_replica, serving.replicas.get(published.release, ())),
    )
    message.metrics.CopyFrom(struct_of(manifest.get("metrics", {})))
    message.parity.CopyFrom(struct_of(manifest.get("parity", {})))
    return message


def refused_of(refused: Refused) -> pb.RefusedRelease:
    """A release of training's that could not be published."""
    return pb.RefusedRelease(
        training_id=str(refused.training_id),
        release=refused.release,
        kind=KINDS[refused.kind] if refused.kind else pb.RELEASE_KIND_UNSPECIFIED,
        reason=refused.reason,
        directory=refused.directory,
        refuse_time=time_of(refused.at),
        newer_than_champion=refused.newer,
    )


def struct_of(values: Mapping[str, Any]) -> Struct:
    """Any figures as JSON; what is no number becomes null."""
    found = Struct()
    found.update(plain(values))
    return found


def time_of(moment: datetime | None) -> Timestamp | None:
    """The message of a time; None of none."""
    if moment is None:
        return None
    found = Timestamp()
    found.FromDatetime(moment)
    return found


def _written(text: str) -> Timestamp | None:
    """A manifest's time; None where it is none."""
    try:
        return time_of(datetime.fromisoformat(text))
    except ValueError:
        return None


def _variant(variant: Mapping[str, Any]) -> str:
    return "-".join(str(variant[name]) for name in ("backend", "precision", "target") if variant.get(name))


def _replica(model: ReplicaModel) -> pb.ReplicaModel:
    return pb.ReplicaModel(
        replica=model.replica,
        state=_STATES[model.state],
        refusal=model.refusal,
        since_time=time_of(model.since),
        check_time=time_of(model.checked_at),
    )
