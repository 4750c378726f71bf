"""Plans of rollouts as people write them: a file, options, single settings."""

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import plan_fields
from cli.output import CommandFailed
from cli.percentages import Percentage, Percentages

if TYPE_CHECKING:
    from ratchet.v1 import rollout_pb2 as pb

SHARES = (0.1, 0.5, 1.0)
"""The server's own stages, to which `--minimum-samples` and the like apply when no others are named."""
WAITING = ("minimum_samples", "minimum_seconds", "longest_seconds")


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a plan may be given by; the command gets each as a keyword."""
    for option in (
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            help="One field of docs/rollouts.md, in its units: goals.gain=0.03.",
        ),
        click.option("--longest-seconds", type=float, help="Of each stage: after so long it goes back."),
        click.option("--minimum-seconds", type=float, help="Of each stage, at least."),
        click.option(
            "--minimum-samples", type=click.IntRange(1), help="Rated users of the smaller arm, of each stage."
        ),
        click.option(
            "--holdback", type=Percentage(0.01, 50), help="Percent of users who keep the champion. [default: 5]"
        ),
        click.option("--no-shadow", is_flag=True, help="Users are the first to see it."),
        click.option("--at-once", is_flag=True, help="Blue-green: all but the holdback in one step."),
        click.option("--stages", type=Percentages(), help="Percent of users, by stage. [default: 10,50,100]"),
        click.option(
            "--plan",
            "file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="The plan as TOML or JSON, with the fields of docs/rollouts.md.",
        ),
    ):
        command = option(command)
    return command


def message(
    file: Path | None,
    stages: tuple[float, ...] | None,
    *,
    at_once: bool,
    no_shadow: bool,
    holdback: float | None,
    settings: tuple[str, ...],
    waiting: Mapping[str, float | None],
) -> "pb.RolloutPlan":
    """The plan; options come after the file, single settings last. Shares and the holdback are parts of 1 here. Raises
    UsageError for what is no plan at all; values are the server's to check."""
    values: dict[str, Any] = _read(file) if file else {}
    if at_once:
        values["strategy"] = "at_once"
    if stages:
        values["stages"] = [{"share": share} for share in stages]
    if no_shadow:
        values["shadow"] = False
    if holdback is not None:
        values["holdback"] = holdback
    if waited := {name: value for name, value in waiting.items() if value is not None}:
        shares = (1.0,) if values.get("strategy") == "at_once" else SHARES
        values["stages"] = [{**stage, **waited} for stage in values.get("stages") or _of(shares)]
    for setting in settings:
        _set(values, setting)
    return of_values(values)


def of_values(values: Mapping[str, Any]) -> "pb.RolloutPlan":
    """The message of a plan with the fields of docs/rollouts.md. Raises UsageError."""
    from google.protobuf.json_format import ParseDict, ParseError

    from ratchet.v1 import rollout_pb2 as pb

    plan_fields.check(values, pb.RolloutPlan.DESCRIPTOR)
    given = dict(values)
    if "strategy" in given:
        given["strategy"] = f"ROLLOUT_STRATEGY_{str(given['strategy']).upper().replace('-', '_')}"
    if isinstance(given.get("stages"), list):
        given["stages"] = [_nested(stage) for stage in given["stages"]]
    if "shadow" in given and not isinstance(given["shadow"], dict):
        shadow = given.pop("shadow")
        given["no_shadow"] = shadow in (None, False)
    elif "shadow" in given:
        given["shadow"] = _nested(given["shadow"])
    try:
        return ParseDict(given, pb.RolloutPlan())
    except ParseError as error:
        raise click.UsageError(f"This is no plan of a rollout: {error}") from error


def _of(shares: tuple[float, ...]) -> list[dict[str, Any]]:
    return [{"share": share} for share in shares]


def _nested(part: Any) -> Any:
    """A stage or shadow whose times are in a message of their own."""
    if not isinstance(part, dict):
        return part
    waiting = {name: part[name] for name in WAITING if name in part}
    rest = {name: value for name, value in part.items() if name not in WAITING}
    return rest | ({"waiting": waiting} if waiting else {})


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text()
        found = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise CommandFailed(f"{file} can't be read as a plan: {error}.") from error
    if not isinstance(found, dict):
        raise CommandFailed(f"{file} holds no plan: it must be an object.")
    return found


def _set(values: dict[str, Any], setting: str) -> None:
    """Puts `goals.gain=0.03` where it belongs; the value is one of TOML, or a word."""
    name, equals, text = setting.partition("=")
    if not equals or not all(name.split(".")):
        raise click.UsageError(f"--set takes NAME=VALUE, such as goals.gain=0.03, not {setting!r}.")
    *path, last = name.strip().split(".")
    place: Any = values
    for part in path:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise click.UsageError(f"--set {setting}: {part} has no fields to set; write the plan as a file.")
    place[last] = _value(text.strip())


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
