"""What came out of a run: its main figures beside those it is compared with, and why it was promoted or not."""

from collections.abc import Callable, Mapping, Sequence

from console import parts
from console.meter import compared
from console.numerals import number
from console.parts import el
from console.training import telling
from console.training.findings import Excluded, Findings
from console.words import t
from ratchet.v1 import training_pb2 as pb

_COMPARED = (
    ("pairwise_accuracy", "this_model"),
    ("service_pairwise_accuracy", "in_service"),
    ("tfidf_pairwise_accuracy", "tfidf"),
    ("longest_pairwise_accuracy", "longest"),
)
_PASSED: dict[bool | None, tuple[str, str, str]] = {
    True: ("check_circle", "clause-passed", "passed"),
    False: ("cancel", "clause-failed", "failed_clause"),
    None: ("help_outline", "clause-open", "not_asked"),
}

MAIN = "pairwise_accuracy"
"""The figure that a run is judged by."""
_SIMILAR = "pairwise_accuracy_similar_length"
_Tell = Callable[[float], str]
_TILES: tuple[tuple[str, _Tell], ...] = (
    ("pairwise_accuracy", telling.percent),
    ("difference_to_service", lambda share: f"{'+' if share > 0 else ''}{number(100 * share, 1)}"),
    (_SIMILAR, telling.percent),
    ("best_of_5_gain", telling.percent),
    ("ece", lambda value: number(value, 3)),
    ("mse", lambda value: number(value, 3)),
    ("spearman", lambda value: number(value, 3)),
    ("validation_pairs", number),
)


def tiles(metrics: Mapping[str, float]) -> None:
    """The main figures, as far as they are known; nothing where the first of them is not."""
    if MAIN not in metrics:
        return
    with el("div", "grid run-tiles"):
        for name, tell in _TILES:
            if name in metrics:
                note = telling.interval(metrics, name, signed=name == "difference_to_service")
                parts.stat(t(f"training.{name}"), tell(metrics[name]), note or t(f"training.{name}_note"))
            elif name == _SIMILAR:  # the trainer tells nothing from a handful
                parts.stat(t(f"training.{name}"), "–", t("training.too_few"))


def comparison(run: pb.Training) -> None:
    """How many pairs each puts in the right order, all judged on the same ones."""
    with parts.card(aria_label=t("training.comparison")):
        el("h3", "card-title", t("training.comparison"))
        for name, word in _COMPARED:
            if name in run.metrics:
                share = run.metrics[name]
                label = t(f"training.{word}")
                if word == "in_service" and run.compared_with:
                    label = f"{label} ({run.compared_with})"
                compared(label, telling.percent(share), share, "" if word == "this_model" else "compared-other")
        el("p", "muted small", t("training.comparison_note"))


def reasons(run: pb.Training, found: Findings) -> None:
    """Why it was or wasn't promoted: each demand of the gate where the report tells, else the reasons as they are."""
    with parts.card(f"run-verdict run-verdict-{telling.state(run)[1]}", aria_label=t("training.why")):
        with el("div", "row"):
            words, tone, symbol = telling.state(run)
            parts.chip(words, tone, symbol=symbol)
            el("h3", "card-title run-verdict-title", t("training.why"))
        clauses = [(clause.sentence, _PASSED[clause.passed]) for clause in found.clauses]
        clauses = clauses or [(reason, ("chevron_right", "clause-open", "")) for reason in run.reasons]
        if found.summary and found.summary not in (sentence for sentence, _ in clauses):
            el("p", "run-verdict-summary", found.summary, lang="en")
        with el("ul", "clauses", lang="en"):
            for sentence, looks in clauses:
                _clause(sentence, looks)
        if run.verdict == pb.TRAINING_VERDICT_NOT_BETTER:
            el("p", "muted small", t("training.stays_eligible"))


def exclusions(found: Sequence[Excluded]) -> None:
    """What was left out, and why."""
    with el("table", "table"):
        with el("thead"), el("tr"):
            for name in ("excluded_reason", "excluded_count", "excluded_detail"):
                el("th", "", t(f"training.{name}"), scope="col")
        with el("tbody"):
            for each in found:
                with el("tr"):
                    el("th", "mono", each.reason, scope="row")
                    el("td", "num", number(each.count))
                    el("td", "", each.detail, lang="en")


def _clause(sentence: str, looks: tuple[str, str, str]) -> None:
    symbol, classes, word = looks
    with el("li", f"clause {classes}"):
        parts.icon(symbol)
        if word:
            el("span", "sr-only", t(f"training.{word}"))
        el("span", "", sentence)
