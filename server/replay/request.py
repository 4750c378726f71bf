"""How a logged request is asked again. Pure.

What was given by flag wins; else what the log says of then; else the settings of now, from environment and defaults.
"""

import asyncio
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime

from server.settings import Settings
from server.storage.history import Logged
from server.types import Candidate, Preset, SelectionMethod, ToolUse, Turn

DECIDED: Mapping[str, str] = {
    "method": "selection",
    "temperature": "selection_temperature",
    "exploration": "exploration",
    "ensemble_weight": "ensemble_weight",
    "early_stop": "early_stop",
    "instructions": "instructions",
}
"""Keys of the column `selection`, and the settings that they are."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What the replay does otherwise. `given`: the settings named by flags.

    `rescore`: the logged candidates are judged again, none is drawn. `run_tools`: the tools run again.
    """

    settings: Settings
    given: Set[str] = frozenset()
    seed: int | None = None
    rescore: bool = False
    run_tools: bool = False


def settings_for(logged: Logged, changes: Changes, reward_release: str) -> Settings:
    """The settings with which the request is answered, by the reward release of this id."""
    given, decided = changes.given, logged.decided
    found = {name: decided[key] for key, name in DECIDED.items() if key in decided and name not in given}
    candidates = logged.reply.candidates
    if changes.rescore:
        found |= {"early_stop": 0.0, "regenerate": "off", "presets": tuple(c.sampling.preset for c in candidates)}
    elif "presets" not in given:
        found["presets"] = presets_of(candidates, changes.settings.presets)
    # A threshold belongs to the release that it was set for.
    same = reward_release == logged.reply.reward_release
    if "minimum_reward" not in given and same and decided.get("minimum_reward") is not None:
        found["minimum_reward"] = decided["minimum_reward"]
    return changes.settings.model_copy(update=found)


def presets_of(candidates: Sequence[Candidate], now: Sequence[Preset]) -> tuple[Preset, ...]:
    """The presets that were taken in turn; `now` where they may have been these, as after few candidates."""
    used = [candidate.sampling.preset for candidate in candidates]
    if all(preset == now[place % len(now)] for place, preset in enumerate(used)):
        return tuple(now)
    period = next(n for n in range(1, len(used) + 1) if all(used[i] == used[i % n] for i in range(len(used))))
    return tuple(used[:period])


def turn_of(logged: Logged, changes: Changes) -> Turn:
    """The request with a deadline of its own. Needs a running event loop."""
    settings, given, decided = changes.settings, changes.given, logged.decided
    method = None if given & {"selection", "exploration"} else asked_method(logged)
    return Turn(
        tenant_id=logged.tenant_id,
        request_id="",
        user_id=logged.user_id,
        session_id=logged.session_id,
        query=logged.query,
        context=logged.context,
        candidate_count=_count(logged, changes),
        seed=logged.reply.seed if changes.seed is None else changes.seed,
        seed_given=changes.seed is not None or bool(decided.get("seed_given")),
        selection_method=method,
        max_output_tokens=settings.max_output_tokens if "max_output_tokens" in given else _tokens(logged),
        response_id=logged.reply.response_id,
        received_at=datetime.now(UTC),
        deadline=asyncio.get_running_loop().time() + settings.deadline,
        fingerprint=b"",
        tool_use=ToolUse(decided.get("tool_use", ToolUse.AUTO)),
        # Recorded tools are those that ran: all of them may.
        tools=tuple(decided.get("tools", ())) if changes.run_tools else (),
        minimum_reward=None if "minimum_reward" in given else decided.get("asked_minimum_reward"),
    )


def asked_method(logged: Logged) -> SelectionMethod | None:
    """The method that the request named; None where it left that open.

    Rows that don't say: the one that chose, where it was not the setting's.
    """
    if "asked_method" in logged.decided:
        named = logged.decided["asked_method"]
        return SelectionMethod(named) if named else None
    chose = logged.reply.choice.method
    if chose is SelectionMethod.RULES or chose == logged.decided.get("method"):
        return None
    return chose


def overruled(logged: Logged, changes: Changes) -> tuple[str, ...]:
    """Where a flag goes against what the request itself asked for: a server with that setting would still obey it."""
    asked = {
        "minimum_reward": logged.decided.get("asked_minimum_reward"),
        "selection": logged.decided.get("asked_method"),
    }
    return tuple(
        f"The request itself asked for {name.replace('_', ' ')} {value}: a server with this setting would obey it."
        for name, value in asked.items()
        if value is not None and name in changes.given
    )


def _count(logged: Logged, changes: Changes) -> int:
    drawn = len(logged.reply.candidates)
    if changes.rescore:
        return drawn
    return (
        changes.settings.candidates if "candidates" in changes.given else logged.decided.get("candidate_count", drawn)
    )


def _tokens(logged: Logged) -> int:
    most = max(candidate.sampling.max_tokens for candidate in logged.reply.candidates)
    asked: int = logged.decided.get("max_output_tokens", most)
    return asked
