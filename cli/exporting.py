"""What the commands share that export: their flags, the place, progress, and what they say at the end."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import output
from cli.export_files import ENDINGS, Row, require_parquet

if TYPE_CHECKING:
    from cli.exports import Manifest


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be exported: `kind` (logs or feedback), `form` (jsonl or parquet), where `to`, by which filters."""

    kind: str
    form: str
    to: Path | None
    filters: Mapping[str, Any]


def options(kind: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """--to and --format."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        form = click.option("--format", "form", type=click.Choice(ENDINGS), default=ENDINGS[0], show_default=True)
        to = click.option(
            "--to",
            type=click.Path(path_type=Path),
            help=f"The directory to make. [default: RATCHET_HOME/exports/{kind}-TIME]",
        )
        return to(form(command))

    return add


def folder() -> Path:
    """Where exports go by default: RATCHET_HOME/exports."""
    from server.embedded.settings import default_home

    home = os.environ.get("RATCHET_HOME")
    return (Path(home).expanduser() if home else default_home()) / "exports"


def export(order: Order, rows: Iterable[Row], *, as_json: bool) -> None:
    """Writes the rows with progress on a terminal, and says where they are. Raises CommandFailed."""
    from cli.exports import exporting

    if order.form == "parquet":
        require_parquet()
    place = (order.to or folder() / f"{order.kind}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}").absolute()
    try:
        with exporting(place, order.kind, order.form) as made:
            for row in _watched(rows):
                made.add(row)
            manifest = made.finish(order.filters)
    except OSError as error:
        raise output.CommandFailed(f"The export to {place} failed: {error.strerror or error}.") from error
    _say(place, manifest, as_json)


def _watched(rows: Iterable[Row]) -> Iterable[Row]:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    shown = TextColumn("{task.completed:,.0f} rows"), TextColumn("{task.description}"), TimeElapsedColumn()
    bar = Progress(
        SpinnerColumn(), *shown, console=output.stderr, transient=True, disable=not output.stderr.is_terminal
    )
    with bar:
        task = bar.add_task("", total=None)
        for row in rows:
            yield row
            bar.update(task, advance=1, description=f"back to {row['create_time'][:16].replace('T', ' ')} UTC")


def _say(place: Path, manifest: "Manifest", as_json: bool) -> None:
    if as_json:
        files = [{"name": each.name, "rows": each.rows, "bytes": each.bytes} for each in manifest.files]
        output.as_json({"directory": str(place), "kind": manifest.kind, "rows": manifest.rows, "files": files})
        return
    size = sum(each.bytes for each in manifest.files)
    count = len(manifest.files)
    output.console.print(
        f"{manifest.rows:,} rows in {count} {'file' if count == 1 else 'files'} ({size / 1e6:.1f} MB):"
    )
    output.console.print(output.visible(str(place)), soft_wrap=True, markup=False)
