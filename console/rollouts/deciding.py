"""The dialogs in which somebody decides: what a command does, a reason for the audit, and then it is done."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nicegui import ui

from console import client, parts
from console.parts import Field, Kind, el
from console.words import t
from ratchet.v1 import rollout_pb2 as pb

Act = Callable[[str], Awaitable[Callable[[], None]]]
"""Does it, with the words that were given, and gives what is to follow once the dialog is shut: a dialog that shuts
gives the keyboard back to whom it had it from. Raises Trouble."""


class Deciding:
    """A native dialog: the browser keeps the focus inside, Escape closes it. One serves all decisions of a page."""

    def __init__(self) -> None:
        self._act: Act | None = None
        with el("dialog", "dialog") as self._box, parts.form(self._send):
            self._title = el("h2", "card-title", "")
            self._what = el("p", "dialog-what", "")
            self._text = el("p", "muted", "")
            self._words = Field(t("rollouts.reason"), rows=2, hint=t("rollouts.reason_hint"), maxlength=1000)
            self._trouble = el("p", "dialog-trouble", "", role="alert")
            self._actions = el("div", "row spread dialog-actions")

    def open(self, name: str, what: str, act: Act, *, kind: Kind, symbol: str) -> None:
        """Asks. `name`: of the decision, as in console/words/rollouts.py; `what`: what it is about."""
        self._act = act
        self._box.props["aria-label"] = t(f"rollouts.dialog_{name}")
        parts.set_text(self._title, t(f"rollouts.dialog_{name}"))
        parts.set_text(self._what, what)
        parts.set_text(self._text, t(f"rollouts.{name}_text"))
        parts.set_text(self._trouble, "")
        self._words.value = ""
        self._actions.clear()
        with self._actions:
            parts.button(t("rollouts.close"), self._close, kind="ghost")
            self._button = parts.button(t(f"rollouts.{name}"), kind=kind, symbol=symbol)
            self._button.props["type"] = "submit"
        ui.run_javascript(f"getHtmlElement({self._box.id}).showModal()")

    async def _send(self) -> None:
        if self._act is None:
            return
        parts.busy(self._button, True)
        try:
            follow = await self._act(self._words.value.strip())
        except client.Trouble as trouble:
            parts.set_text(self._trouble, trouble.sentence)
            return
        finally:
            parts.busy(self._button, False)
        self._close()
        follow()

    def _close(self) -> None:
        ui.run_javascript(f"getHtmlElement({self._box.id}).close()")


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
