"""The dialogs in which somebody decides: what a command does, a reason for the audit, and then it is done."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from console import client, parts
from console.dialog import Dialog
from console.parts import Field, Kind, el
from console.words import t
from ratchet.v1 import rollout_pb2 as pb

Act = Callable[[str], Awaitable[Callable[[], object]]]
"""`dialog.Send`, with the words that were given."""


class Deciding:
    """One serves all decisions of a page."""

    def __init__(self) -> None:
        self._act: Act | None = None
        self._dialog = Dialog(self._send)
        with self._dialog.body:
            self._what = el("p", "dialog-what", "")
            self._text = el("p", "muted", "")
            self._words = Field(t("rollouts.reason"), rows=2, hint=t("rollouts.reason_hint"), maxlength=1000)

    def open(self, name: str, what: str, act: Act, *, kind: Kind, symbol: str) -> None:
        """Asks. `name`: of the decision, as in console/words/rollouts.py; `what`: what it is about."""
        self._act = act
        parts.set_text(self._what, what)
        parts.set_text(self._text, t(f"rollouts.{name}_text"))
        self._words.value = ""
        self._dialog.offer(t("rollouts.close"), t(f"rollouts.{name}"), kind=kind, symbol=symbol)
        self._dialog.open(t(f"rollouts.dialog_{name}"))

    async def _send(self) -> Callable[[], object]:
        assert self._act is not None
        return await self._act(self._words.value.strip())


@dataclass(frozen=True, slots=True)
class Command:
    """What a person may do with a rollout. `call` takes the rollout as the person saw it and the reason, and gives the
    rollout as it is then: another one when a verified one is undone."""

    name: str
    symbol: str
    kind: Kind
    call: Callable[[pb.Rollout, str], Awaitable[pb.Rollout]]


def commands(rollout: pb.Rollout) -> tuple[Command, ...]:
    """What may be asked for where it stands (docs/rollouts.md)."""
    match rollout.state:
        case pb.ROLLOUT_STATE_DRAFT:
            return (_START, Command("discard", "delete_outline", "danger", _roll_back))
        case pb.ROLLOUT_STATE_PUBLISHED | pb.ROLLOUT_STATE_LOADED:
            return (_PAUSE, _ROLL_BACK)
        case pb.ROLLOUT_STATE_SHADOW | pb.ROLLOUT_STATE_CANARY:
            return (_PROMOTE, _PAUSE, _ROLL_BACK)
        case pb.ROLLOUT_STATE_PAUSED:
            return (_RESUME, _ROLL_BACK)
        case pb.ROLLOUT_STATE_VERIFIED:
            return (Command("undo", "undo", "danger", _roll_back),)
        case _:
            return ()


async def _start(rollout: pb.Rollout, reason: str) -> pb.Rollout:
    api = client.api()
    request = pb.StartRolloutRequest(rollout_id=rollout.rollout_id, reason=reason)
    return (await api.call(api.rollouts.StartRollout, request)).rollout


async def _pause(rollout: pb.Rollout, reason: str) -> pb.Rollout:
    """Of whatever version: what takes nothing from anybody must not fail for being late."""
    api = client.api()
    request = pb.PauseRolloutRequest(rollout_id=rollout.rollout_id, reason=reason)
    return (await api.call(api.rollouts.PauseRollout, request)).rollout


async def _resume(rollout: pb.Rollout, reason: str) -> pb.Rollout:
    api = client.api()
    request = pb.ResumeRolloutRequest(rollout_id=rollout.rollout_id, version=rollout.version, reason=reason)
    return (await api.call(api.rollouts.ResumeRollout, request)).rollout


async def _promote(rollout: pb.Rollout, reason: str) -> pb.Rollout:
    api = client.api()
    request = pb.PromoteRolloutRequest(rollout_id=rollout.rollout_id, version=rollout.version, reason=reason)
    return (await api.call(api.rollouts.PromoteRollout, request)).rollout


async def _roll_back(rollout: pb.Rollout, reason: str) -> pb.Rollout:
    """Of whatever version while it is under way, as `_pause`; what is to be undone or discarded is what was seen."""
    api = client.api()
    seen = rollout.state in (pb.ROLLOUT_STATE_VERIFIED, pb.ROLLOUT_STATE_DRAFT)
    request = pb.RollBackRolloutRequest(
        rollout_id=rollout.rollout_id, version=rollout.version if seen else 0, reason=reason
    )
    return (await api.call(api.rollouts.RollBackRollout, request)).rollout


_START = Command("start", "play_arrow", "primary", _start)
_PROMOTE = Command("promote", "fast_forward", "primary", _promote)
_PAUSE = Command("pause", "pause", "plain", _pause)
_RESUME = Command("resume", "play_arrow", "primary", _resume)
_ROLL_BACK = Command("roll_back", "undo", "danger", _roll_back)
