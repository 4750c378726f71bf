"""deploy/prometheus/ratchet.rules.yml: the server's own rules, on metrics that it has. promtool is not asked."""

import math
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

import server.metrics
from server.alerts.judges import ALPHA, FEW
from server.alerts.rule import Rule
from server.alerts.rules import RULES, SAFETY_REPORT
from server.analytics.calls import METHODS, OURS

FILE = Path(server.metrics.__file__).resolve().parent.parent / "deploy" / "prometheus" / "ratchet.rules.yml"
GROUPS: list[dict[str, Any]] = yaml.safe_load(FILE.read_text())["groups"]
ENTRIES = [entry for group in GROUPS for entry in group["rules"]]
ALERTS = {entry["alert"]: entry for entry in ENTRIES if "alert" in entry}
RECORDS = {entry["record"]: entry["expr"] for entry in ENTRIES if "record" in entry}
WORDS = {
    *("sum", "max", "by", "increase", "offset", "abs", "sqrt", "histogram_quantile", "ignoring", "group_left"),
    *("and", "or", "unless"),
}
"""Of PromQL, as far as it is used."""


def names_of(expression: str) -> set[str]:
    """What is neither a string, a duration, a number nor a word of PromQL: metrics."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|offset \w+|\b(by|ignoring|group_left) \([^)]*\)', " ", expression)
    return set(re.findall(r"[a-zA-Z_:][\w:]*", bare)) - WORDS


@lru_cache
def samples() -> dict[str, set[str]]:
    """The names that the server's metrics have on the wire, with their labels."""
    found: dict[str, set[str]] = {}
    registered = {metric.name for metric in REGISTRY.collect()}
    for collector in vars(server.metrics).values():
        if not hasattr(collector, "_labelnames"):
            continue
        labels = set(collector._labelnames)
        suffixes = {"counter": ["_total"], "histogram": ["_count", "_sum", "_bucket"], "gauge": [""]}[collector._type]
        for suffix in suffixes:
            name = collector._name + suffix
            assert name.removesuffix(suffix) in registered
            found[name] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    for name, labels in re.findall(r"([\w:]+)\{([^}]*)\}", expression):
        yield name, set(re.findall(r"(\w+)=~?\"", labels))


def seconds(duration: str) -> float:
    number, unit = re.fullmatch(r"(\d+)([smhd])", duration).groups()  # type: ignore[union-attr]
    return float(number) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[unit]


def whole(expression: str) -> str:
    """With what it takes from recorded ones."""
    return " ".join([expression, *(RECORDS[name] for name in names_of(expression) if name in RECORDS)])


def test_there_is_one_alert_for_each_rule_and_no_other() -> None:
    assert list(ALERTS) == [rule.name for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_levels_times_and_samples_are_those_of_the_server(rule: Rule) -> None:
    alert = ALERTS[rule.name]
    assert alert["labels"]["severity"] == rule.severity
    assert alert["annotations"]["summary"] == rule.description
    assert alert["annotations"]["link"].partition("?")[0] == rule.page
    for name, value in rule.link.items():
        assert f"{name}={value}" in alert["annotations"]["link"]
    if rule is SAFETY_REPORT:
        assert alert["expr"].count(" > 0") == 2
        assert "for" not in alert
        return
    assert seconds(alert["for"]) == rule.patience.fire
    assert seconds(alert["keep_firing_for"]) == rule.patience.clear
    assert f"{'<' if rule.below else '>'} {rule.threshold:g}" in alert["expr"]
    assert f">= {rule.minimum_samples}" in alert["expr"]
    ranges = {seconds(found) for found in re.findall(r"\[(\w+)\]", whole(alert["expr"]))}
    assert ranges == {rule.window_seconds, rule.baseline_seconds} - {0.0}
    offsets = {seconds(found) for found in re.findall(r"offset (\w+)", whole(alert["expr"]))}
    assert offsets == ({rule.window_seconds} if rule.baseline_seconds else set())


def test_comparisons_are_held_to_the_same_probability() -> None:
    normal = f"{NormalDist().inv_cdf(1 - ALPHA):.3f}"
    assert f"> {normal}" in ALERTS["negative_spike"]["expr"]
    assert f"< -{normal}" in ALERTS["feedback_rate_drop"]["expr"]
    assert f">= {FEW}" in ALERTS["feedback_rate_drop"]["expr"]
    assert f"> {math.sqrt(-math.log(ALPHA / 2) / 2):.4f}" in ALERTS["reward_shift"]["expr"]


def test_errors_are_the_same_codes_of_the_same_calls() -> None:
    codes = set(re.findall(r'grpc_code=~"([^"]*)"', ALERTS["error_rate"]["expr"])[0].split("|"))
    assert codes == OURS
    methods = {f"/ratchet.v1.InferenceService/{name}" for name in ("Generate", "StreamGenerate")}
    assert methods == set(METHODS)
    assert ALERTS["error_rate"]["expr"].count('grpc_method=~"Generate|StreamGenerate"') == 3


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.get("alert") or entry["record"])
def test_every_metric_and_label_exists_and_brackets_close(entry: dict[str, Any]) -> None:
    expression, known = entry["expr"], samples()
    names = names_of(expression)
    assert names
    assert names <= known.keys() | RECORDS.keys()
    for name, labels in selectors(expression):
        assert labels <= known[name]
    for grouped in re.findall(r"by \(([^)]*)\)", expression):
        wanted = {each.strip() for each in grouped.split(",")}
        assert any(wanted <= known[name] for name in names if name in known)
    depth = 0
    for character in expression:
        depth += {"(": 1, ")": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0


def test_the_bound_of_negative_stars_is_a_bucket_as_prometheus_writes_it() -> None:
    server.metrics.RATINGS.labels("policy-test").observe(2)
    bounds = {
        sample.labels["le"]
        for family in server.metrics.RATINGS.collect()
        for sample in family.samples
        if sample.name.endswith("_bucket")
    }
    assert "2.0" in bounds
    server.metrics.RATINGS.remove("policy-test")


def test_a_made_up_metric_would_be_seen() -> None:
    assert names_of('sum by (x) (increase(no_such_total{a="b"}[5m] offset 1h)) > 3') == {"no_such_total"}
