"""The report of a run: as JSON for programs, as one HTML page that fetches nothing for people.

The page is made from the report alone, so that a stored report can be shown again, also after texts were taken out.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from enum import Enum
from types import UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from trainer.errors import DataError
from trainer.reward.findings import SERVICE, VERSION, Estimate, Mistake, Report, Side

FORGOTTEN = "[erased]"
"""Stands for a text whose user was erased."""


def document(report: Report) -> dict[str, Any]:
    """The report as JSON values (docs/training-evaluation.md); no NaN in it."""
    return cast("dict[str, Any]", _plain(asdict(report)))


def parse(document: Mapping[str, Any]) -> Report:
    """What `document` was made of. Raises DataError for anything else."""
    if document.get("version") != VERSION:
        raise DataError(f"This is no report of version {VERSION}, the one that is known here.")
    try:
        return cast("Report", _typed(Report, document))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DataError(f"This report can't be read: {error}.") from None


def headline(report: Report) -> dict[str, float]:
    """The main figures by name, for `training_runs.metrics` and a release's manifest; what is unknown is absent."""
    found: dict[str, float | None] = {
        **_with_interval("pairwise_accuracy", report.ranking.accuracy),
        **_with_interval("pairwise_accuracy_similar_length", report.ranking.similar),
        **_with_interval("best_of_5_gain", report.ranking.gain),
        "spearman": report.ranking.spearman.value,
        "pearson": report.fit.pearson.value,
        "mse": report.fit.mse.value,
        "mae": report.fit.mae.value,
        "ece": report.calibration.after.ece,
        "brier": report.calibration.after.brier,
        "temperature": report.calibration.temperature,
        "trained_pairwise_accuracy": report.served.trained_accuracy if report.served else None,
        "validation_pairs": report.data.validation_pairs,
        "validation_ratings": report.data.validation_ratings,
        "train_pairs": report.data.train_pairs,
    }
    for each in report.baselines:
        found[f"{each.name}_pairwise_accuracy"] = each.ranking.accuracy.value
        found[f"{each.name}_best_of_5_gain"] = each.ranking.gain.value
        if each.name == SERVICE:
            found |= _with_interval("difference_to_service", each.difference)
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def html(report: Report) -> str:
    """One page, light and dark, without scripts and without anything from elsewhere. Texts are escaped."""
    from trainer.reward.page import render

    return render(report)


def forget(report: Report, users: Collection[str]) -> Report:
    """The report without the texts of what these users asked or judged. Figures stay: they tell of nobody alone."""
    gone = frozenset(users)
    return replace(report, mistakes=tuple(_forgotten(one) if gone & set(one.users) else one for one in report.mistakes))


def _forgotten(mistake: Mistake) -> Mistake:
    def blank(side: Side) -> Side:
        return replace(side, text=FORGOTTEN)

    return replace(
        mistake,
        question="",
        query=FORGOTTEN,
        better_query=FORGOTTEN if mistake.better_query else "",
        better=blank(mistake.better),
        worse=blank(mistake.worse),
        users=(),
    )


def _with_interval(name: str, estimate: Estimate) -> dict[str, float | None]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _plain(value: Any) -> Any:
    """JSON's own types: enumerations by value, tuples as lists, no infinite number."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def _typed(kind: Any, value: Any) -> Any:
    """`value` as the annotation `kind` has it."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return None if value is None else _typed(next(each for each in inner if each is not type(None)), value)
    if origin is tuple:
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_typed(each, one) for each, one in zip(kinds, value, strict=True))
    if origin is not None and issubclass(origin, Mapping):
        return {str(key): _typed(inner[1], each) for key, each in value.items()}
    if is_dataclass(kind):
        return _built(kind, value)
    if kind is object:
        return value
    return _scalar(kind, value)


def _built(kind: Any, value: Mapping[str, Any]) -> Any:
    if unknown := value.keys() - {each.name for each in fields(kind)}:
        raise ValueError(f"it has unknown parts: {', '.join(sorted(unknown))}")
    hints = get_type_hints(kind)
    return kind(**{name: _typed(hints[name], each) for name, each in value.items()})


def _scalar(kind: Any, value: Any) -> Any:
    if issubclass(kind, Enum):
        return kind(value)
    if kind is float and type(value) in (int, float):
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{value!r} is no {kind.__name__}")
    return value
