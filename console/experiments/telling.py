"""An experiment on settings in words: what it varies, what some users have, where it stands."""

from collections.abc import Iterator

from google.protobuf.json_format import MessageToDict

from console.parts import Tone
from console.words import t
from ratchet.v1 import experiment_pb2 as pb

_STATES: dict[int, tuple[str, Tone, str]] = {
    pb.EXPERIMENT_STATE_RUNNING: ("running", "accent", "science"),
    pb.EXPERIMENT_STATE_HELD: ("held", "warn", "pause_circle"),
    pb.EXPERIMENT_STATE_STOPPED: ("stopped", "plain", "stop"),
}
_KINDS = {
    pb.EXPERIMENT_KIND_SELECTION: "selection",
    pb.EXPERIMENT_KIND_PROMPT: "prompt",
    pb.EXPERIMENT_KIND_INTERFACE: "interface",
}
_LONGEST = 240
"""Characters of instructions that are shown."""


def state(experiment: pb.Experiment) -> tuple[str, Tone, str]:
    """Words, tone and symbol of where it stands."""
    name, tone, symbol = _STATES.get(experiment.state, ("new_state", "plain", "help_outline"))
    return t(f"experiments.{name}"), tone, symbol


def kind(experiment: pb.Experiment) -> str:
    """What it varies."""
    return t(f"experiments.{_KINDS.get(experiment.kind, 'new_kind')}")


def variant(experiment: pb.Experiment) -> Iterator[str]:
    """What some users have, in lines."""
    found = experiment.variant
    if found.HasField("prompt"):
        text = found.prompt.instructions
        yield text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    elif found.HasField("selection"):
        given = MessageToDict(found.selection, preserving_proto_field_name=True)
        method = str(given.get("method", "")).removeprefix("SELECTION_METHOD_").lower()
        changed = given | ({"method": method} if method else {})
        yield " · ".join(f"{name} = {value}" for name, value in changed.items())
