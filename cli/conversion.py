"""`ratchet export`: a model's checkpoint becomes a release, compared with it on the way."""

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from cli import output

if TYPE_CHECKING:  # help must not wait for them
    from exporters.source import Report
    from triton_models.manifest import Release

ENCODER_TARGETS = ("onnx", "onnx-fp16", "tensorrt")
POLICY_TARGETS = ("ctranslate2", "vllm")
MAX_LENGTH = 512
Command = Callable[..., Any]


@click.group("export")
def command() -> None:
    """Make a release of a Hugging Face model: a directory, or a name on the hub.

    A release is refused that does not answer as the model does; its release.json has the figures.
    """


def _kind(targets: tuple[str, ...], what: str) -> Callable[[Command], Command]:
    """The flags that all kinds share."""
    options = (
        click.argument("model"),
        click.option("--out", required=True, type=click.Path(path_type=Path), help="The release directory to write."),
        click.option("--id", "release_id", help="The release's id, such as reward-000002. [default: OUT's name]"),
        click.option("--parent", help="The release that this one comes from."),
        click.option("--target", "targets", type=click.Choice(targets), multiple=True, help=what),
        click.option("--json", "as_json", is_flag=True, help="Print the manifest, and nothing else."),
    )
    return lambda function: _decorated(function, options)


def _encoder(function: Command) -> Command:
    """The flags that rewards, embeddings and classifiers share."""
    what = "What it is to run on, repeatable: onnx, on CPUs, always comes with it; tensorrt is for this machine's GPU."
    options = (
        click.option(
            "--precision",
            type=click.Choice(("int8", "fp32")),
            default="int8",
            show_default=True,
            help="On CPUs; int8 as far as it ranks alike and is no slower.",
        ),
        click.option("--max-length", type=click.IntRange(8), default=MAX_LENGTH, show_default=True, help="Tokens."),
    )
    return _kind(ENCODER_TARGETS, what)(_decorated(function, options))


def _decorated(function: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for each in reversed(options):
        function = each(function)
    return function


@command.command("reward")
@_encoder
@click.option(
    "--like",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The release that MODEL is behind: OUT is that one for these targets, its temperature and threshold kept.",
)
def reward(like: Path | None, **given: Any) -> None:
    """Make a reward of a sequence classifier: one label (a score), two (bad, good), or five (overall and aspects)."""
    if like is not None:
        _export(_alike(like), **given)
        return

    def export(model: str, out: Path, **options: Any) -> "Release":
        from exporters.reward import export_reward

        return export_reward(model, out, **options)

    _export(export, **given)


def _alike(source: Path) -> Callable[..., "Release"]:
    """Exports for other targets; all else is the release's. Raises UsageError where something else is asked for."""
    context = click.get_current_context()
    for name in ("release_id", "parent", "precision", "max_length"):
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            flag = "--id" if name == "release_id" else f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{flag} goes without --like: it is the release's")

    def export(model: str, out: Path, *, report: "Report", targets: tuple[str, ...] = (), **_: Any) -> "Release":
        from exporters.further import alike

        return alike(model, source, out, targets=targets, report=report)

    return export


@command.command("embedding")
@_encoder
@click.option("--pooling", type=click.Choice(("mean", "cls")), help="[default: what the model says, else mean]")
@click.option("--prefix", default="", help="What the model wants before each text, such as 'query: '.")
def embedding(**given: Any) -> None:
    """Make an embedding of a sentence encoder."""

    def export(model: str, out: Path, **options: Any) -> "Release":
        from exporters.embedding import export_embedding

        return export_embedding(model, out, **options)

    _export(export, **given)


@command.command("classifier")
@_encoder
@click.option("--labels", default="", metavar="NAME,NAME,…", help="In order. [default: what the model says]")
def classifier(labels: str, **given: Any) -> None:
    """Make a classifier (toxicity, entailment) of a sequence classifier."""

    def export(model: str, out: Path, **options: Any) -> "Release":
        from exporters.classifier import export_classifier

        return export_classifier(model, out, **options)

    _export(export, **given, names=tuple(labels.split(",")) if labels else ())


@command.command("policy")
@_kind(POLICY_TARGETS, "What it is to run on, repeatable: ctranslate2, on CPUs, the default; vllm, on GPUs.")
@click.option("--quantization", default="int8", show_default=True, help="Of ctranslate2: int8, float32, and more.")
def policy(**given: Any) -> None:
    """Make a policy of a causal language model."""

    def export(model: str, out: Path, **options: Any) -> "Release":
        from exporters.policy import export_policy

        return export_policy(model, out, **options)

    _export(export, **given)


@command.command("plan")
@click.argument("release", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--built", type=click.Path(path_type=Path), help="The plan that trtexec wrote, to be put into OUT.")
@click.option("--gpu", help="With --built: the GPU's name, as nvidia-smi has it.")
@click.option("--compute-capability", metavar="X.Y", help="With --built: the GPU's, as nvidia-smi has it.")
@click.option("--tensorrt", "version", help="With --built: TensorRT's version, as trtexec prints it.")
@click.option("--out", type=click.Path(path_type=Path), help="The release directory to write, with the plan in it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, and nothing else.")
def plan(
    release: Path,
    built: Path | None,
    gpu: str | None,
    compute_capability: str | None,
    version: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Make a TensorRT plan of RELEASE's fp16 graph, for this machine's GPU: OUT becomes the same release with it.

    Without --out it prints the trtexec command that makes one, for a machine that has no Ratchet. Run the lines where
    the GPU is, in Triton's own image; then give the plan with --built, and OUT.
    """
    given = {"--gpu": gpu, "--compute-capability": compute_capability, "--tensorrt": version}
    if built is None and (only := [name for name, value in given.items() if value]):
        raise click.UsageError(f"{only[0]} goes with --built")
    if built is not None and (missing := [name for name, value in [*given.items(), ("--out", out)] if not value]):
        raise click.UsageError(f"--built goes with {missing[0]}")
    with _failures():
        from exporters import further
        from exporters import plan as plans

        if out is None:
            lines = plans.script(release.absolute(), Path("model.plan"))
            output.as_json({"script": lines}) if as_json else click.echo(lines, nl=False)
            return
        if built is None:
            with _progress(as_json) as report:
                made = further.with_plan(release, out, report)
        else:
            where = plans.Built(str(gpu), _capability(str(compute_capability)), str(version))
            made = plans.adopted(release, out, built, where)
    _say(made, out, as_json)


def _capability(text: str) -> str:
    parts = text.split(".")
    if len(parts) != 2 or not all(part.isdecimal() and part.isascii() for part in parts):
        raise click.UsageError(f"--compute-capability is two numbers, such as 9.0, not {text!r}")
    return text


def _export(
    export: Callable[..., "Release"],
    model: str,
    out: Path,
    release_id: str | None,
    targets: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Runs it with progress on a terminal, and says what came out."""
    if importlib.util.find_spec("torch") is None:
        raise output.CommandFailed("Exporting needs torch and transformers: run `./run setup train` once.")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if targets:
        options["targets"] = targets
    with _failures(), _progress(as_json) as report:
        report("loading torch")
        made = export(model, out, release_id=release_id or out.absolute().name, report=report, **options)
    _say(made, out, as_json)


@contextmanager
def _progress(as_json: bool) -> Iterator["Report"]:
    """The latest stage beside a spinner; nothing where there is no terminal."""
    if as_json or not output.stderr.is_terminal:
        yield lambda _: None
        return
    with output.stderr.status("") as status:
        yield lambda stage: status.update(Text(output.visible(stage), style="dim"))


@contextmanager
def _failures() -> Iterator[None]:
    """What is wrong with the model, or with what came of it, as one sentence."""
    from exporters.errors import ExportError
    from triton_models.manifest import ReleaseError

    try:
        yield
    except (ExportError, ReleaseError) as error:
        raise output.CommandFailed(str(error)) from error


def _say(made: "Release", out: Path, as_json: bool) -> None:
    if as_json:
        output.as_json({**asdict(made), "path": str(out)})
        return
    output.console.print(Text.assemble((made.id, "bold"), f" is in {out}"), soft_wrap=True)
    for variant in made.variants:
        output.console.print(Text("  " + _line(variant)), soft_wrap=True)
    said = ", ".join(f"{name} {value}" for name, value in made.parity.items())
    if said:
        output.console.print(Text(f"compared with the model: {said}", style="dim"), soft_wrap=True)


def _line(variant: Any) -> str:
    """A variant in a line: where it runs, how exactly, and how fast."""
    speed = variant.get("latency")
    beside = f", {speed['ratio']:.2f} x the time of fp32" if speed else ""
    where = variant.get("gpu") or f"any {str(variant['target']).upper()}"
    return f"{variant['backend']}, {variant['precision']}, on {where}{beside}"
