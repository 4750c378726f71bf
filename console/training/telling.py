"""A run in words: how it stands, what came out, how long it took."""

from collections.abc import Mapping
from datetime import UTC, datetime

from console import moments
from console.numerals import number
from console.parts import Tone
from console.words import has, t
from ratchet.v1 import training_pb2 as pb

ENDED = (
    pb.TRAINING_STATE_SUCCEEDED,
    pb.TRAINING_STATE_FAILED,
    pb.TRAINING_STATE_CANCELLED,
    pb.TRAINING_STATE_DUPLICATE,
)
_STATES: dict[int, tuple[str, Tone, str]] = {
    pb.TRAINING_STATE_QUEUED: ("queued", "plain", "schedule"),
    pb.TRAINING_STATE_RUNNING: ("running", "accent", "autorenew"),
    pb.TRAINING_STATE_SUCCEEDED: ("succeeded", "plain", "check"),
    pb.TRAINING_STATE_FAILED: ("failed", "bad", "error_outline"),
    pb.TRAINING_STATE_CANCELLED: ("cancelled", "plain", "block"),
    pb.TRAINING_STATE_DUPLICATE: ("duplicate", "plain", "content_copy"),
}
_VERDICTS: dict[int, tuple[str, Tone, str]] = {
    pb.TRAINING_VERDICT_BETTER: ("better", "good", "verified"),
    pb.TRAINING_VERDICT_NOT_BETTER: ("not_better", "warn", "remove_circle_outline"),
    pb.TRAINING_VERDICT_TOO_LITTLE_DATA: ("too_little_data", "warn", "hourglass_empty"),
}
_NEW: tuple[str, Tone, str] = ("new_state", "plain", "help_outline")
"""What a newer server may say."""


def state(run: pb.Training) -> tuple[str, Tone, str]:
    """Words, tone and symbol of what there is to know first: the verdict, or else the state."""
    name, tone, symbol = _VERDICTS.get(run.verdict) or _STATES.get(run.state, _NEW)
    if run.cancelling:
        name, tone, symbol = "cancelling", "warn", "block"
    return t(f"training.{name}"), tone, symbol


def stage(run: pb.Training) -> str:
    """What a run under way does now."""
    key = f"training.stage_{run.stage}"
    return t(key) if run.stage and has(key) else run.stage


def who(run: pb.Training) -> str:
    """Who asked for it."""
    key = f"training.by_{run.requested_by or 'somebody'}"
    return t(key) if has(key) else t("training.by", who=run.requested_by)


def took(run: pb.Training) -> str:
    """From when a trainer took it to its end, or to now; "" of one that nobody took."""
    if not run.HasField("start_time"):
        return ""
    end = moments.of(run.end_time) if run.HasField("end_time") else datetime.now(UTC)
    return moments.length((end - moments.of(run.start_time)).total_seconds())


def percent(share: float, digits: int = 1) -> str:
    """0.712 -> `71.2 %`."""
    return number(100 * share, digits, " %")


def interval(metrics: Mapping[str, float], name: str, *, signed: bool = False) -> str:
    """The interval of a share, in percent; "" where there is none."""
    low, high = (metrics.get(f"{name}_{end}") for end in ("low", "high"))
    if low is None or high is None:
        return ""
    plus = "+" if signed else ""
    first, last = (f"{plus if value > 0 else ''}{number(100 * value, 1)}" for value in (low, high))
    return t("training.interval", low=first, high=last)


def against(run: pb.Training) -> str:
    """The main figure beside that of the release in service; "" before there is one."""
    ours, theirs = run.metrics.get("pairwise_accuracy"), run.metrics.get("service_pairwise_accuracy")
    if ours is None:
        return ""
    if theirs is None:
        return t("training.accuracy_alone", ours=percent(ours))
    return t("training.accuracy_against", ours=percent(ours), theirs=percent(theirs))
