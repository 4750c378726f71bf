"""A release in words: of which kind, whether it serves, how it stands on the replicas."""

from collections.abc import Iterator
from datetime import tzinfo

from console import moments
from console.numerals import number
from console.parts import Tone
from console.words import t
from ratchet.v1 import release_pb2 as pb

KINDS: dict[int, tuple[str, str]] = {
    pb.RELEASE_KIND_REWARD: ("reward", "balance"),
    pb.RELEASE_KIND_POLICY: ("policy", "forum"),
}
"""Word and symbol."""
_STATES: dict[int, tuple[str, Tone, str]] = {
    pb.REPLICA_MODEL_STATE_LOADING: ("loading", "accent", "autorenew"),
    pb.REPLICA_MODEL_STATE_READY: ("ready", "good", "check_circle"),
    pb.REPLICA_MODEL_STATE_REFUSED: ("refused", "bad", "cancel"),
    pb.REPLICA_MODEL_STATE_UNLOADING: ("unloading", "plain", "eject"),
}


def kind(release_kind: int) -> tuple[str, str]:
    """Word and symbol of a kind."""
    name, symbol = KINDS.get(release_kind, ("other", "help_outline"))
    return t(f"releases.{name}"), symbol


def standing(release: pb.Release) -> tuple[str, Tone, str]:
    """Words, tone and symbol of whether it serves."""
    if release.champion:
        return t("releases.champion"), "good", "verified"
    if release.rollout_id:
        return t("releases.in_rollout", share=share(release.share)), "accent", "alt_route"
    if release.HasField("retire_time"):
        return t("releases.retired"), "plain", "archive"
    return t("releases.idle"), "plain", "inventory_2"


def replica(state: int) -> tuple[str, Tone, str]:
    """How it stands on one replica."""
    name, tone, symbol = _STATES.get(state, ("new_state", "plain", "help_outline"))
    return t(f"releases.{name}"), tone, symbol


def replicas(release: pb.Release) -> str:
    """How it stands on all of them, in a line."""
    states = [each.state for each in release.replicas]
    if not states:
        return t("releases.on_none")
    refused, ready = states.count(pb.REPLICA_MODEL_STATE_REFUSED), states.count(pb.REPLICA_MODEL_STATE_READY)
    key, n = ("refused_on", refused) if refused else ("ready_on", ready)
    return t(f"releases.{key}", n=n, m=len(states))


def publisher(release: pb.Release) -> str:
    """Who published it."""
    match release.publisher:
        case "settings" | "training":
            return t(f"releases.by_{release.publisher}")
        case "":
            return t("releases.by_nobody")
        case who:
            return t("releases.by", who=who)


def share(part: float) -> str:
    """0.125 -> `12.5 %`; no more digits than it has."""
    percent = 100 * part
    digits = 0 if abs(percent - round(percent)) < 0.005 else 1 if abs(percent * 10 - round(percent * 10)) < 0.05 else 2
    return number(percent, digits, " %")


def origin(release: pb.Release, zone: tzinfo) -> Iterator[tuple[str, str, str]]:
    """Data, code, and who made it when: name, value and what to tell beside it."""
    unknown = t("releases.unknown")
    yield "base_model", release.base_model or unknown, ""
    yield "architecture", release.architecture or unknown, ""
    yield "data_snapshot", release.data_snapshot[:12] or unknown, release.data_snapshot
    yield "code_version", release.code_version or unknown, ""
    yield "variants", ", ".join(release.variants) or unknown, ""
    if release.HasField("create_time"):
        yield "created", moments.written(moments.of(release.create_time), zone), ""
    if release.HasField("publish_time"):
        yield "published", f"{moments.written(moments.of(release.publish_time), zone)}, {publisher(release)}", ""
