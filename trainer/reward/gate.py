"""Whether a new reward model may become a release. Pure: figures in, a verdict out.

That it is really better is for a rollout to prove on live traffic: here it must be better than the release in service
by its point estimate, and with confidence not worse. Where nothing is in service, it must surely be better than a coin.
"""

from collections.abc import Sequence
from typing import Final

from trainer.reward.calibration import LEAST_RATINGS, RANGE
from trainer.reward.config import GateConfig
from trainer.reward.findings import (
    BASELINES,
    LONGEST,
    SERVICE,
    TFIDF,
    Clause,
    Compared,
    Estimate,
    Group,
    Outcome,
    Report,
    Verdict,
)
from trainer.reward.wording import bounds, counted, interval, more_or_fewer, points, share

LEAST_CLUSTERS: Final = 10
"""Users or questions, below which no interval means anything."""
EQUAL: Final = 1e-9
"""Accuracies nearer than this are the same."""
CHANCE: Final = 0.5
"""The accuracy of a coin, and of a model that gives every response the same."""
AT_BOUND: Final = 1.01
"""A temperature within this factor of the ends of what is looked at was not found: the best one lies beyond."""
NO_SERVICE: Final = "There is no release in service to compare it with."


def gate(report: Report, config: GateConfig) -> Verdict:
    """The verdict on what `report` found, with a sentence for each demand."""
    data = _data(report, config)
    if not data.passed:
        return Verdict(
            outcome=Outcome.TOO_LITTLE_DATA, summary=data.sentence, reasons=(data.sentence,), clauses=(data,)
        )
    service = _baseline(report, SERVICE)
    clauses = (
        data,
        _chance(service, report),
        _not_inferior(service, report, config),
        _better(service),
        _not_behind(LONGEST, report, config),
        _not_behind(TFIDF, report, config),
        _groups(report, config),
        _calibrated(report, config),
    )
    return _verdict(report, service, clauses)


def _verdict(report: Report, service: Compared | None, clauses: Sequence[Clause]) -> Verdict:
    failed = tuple(clause.sentence for clause in clauses if clause.passed is False)
    than = f", {more_or_fewer(service.difference.value)} than {service.label} does" if service else ""
    standing = f"It puts {share(report.ranking.accuracy.value)} of the validation pairs in the right order{than}."
    if not failed:
        reasons = tuple(dict.fromkeys(clause.sentence for clause in clauses))  # without a service several say the same
        return Verdict(outcome=Outcome.BETTER, summary=f"Better. {standing}", reasons=reasons, clauses=tuple(clauses))
    return Verdict(
        outcome=Outcome.NOT_BETTER, summary=f"Not better. {standing}", reasons=failed, clauses=tuple(clauses)
    )


def _data(report: Report, config: GateConfig) -> Clause:
    accuracy, unit = report.ranking.accuracy, report.data.clustered_by
    there = f"{counted(accuracy.count, 'validation pair')} of {counted(accuracy.clusters, unit)}"
    if accuracy.count >= config.least_pairs and accuracy.clusters >= LEAST_CLUSTERS and accuracy.value is not None:
        return Clause(name="data", passed=True, sentence=f"There are {there} to judge by.")
    needed = f"{counted(config.least_pairs, 'pair')} of {counted(LEAST_CLUSTERS, unit)}"
    sentence = f"There is too little data to tell anything: {there}, where it takes {needed} at least."
    return Clause(name="data", passed=False, sentence=sentence)


def _chance(service: Compared | None, report: Report) -> Clause:
    """Surely above chance or, where a release in service is the sharper measure, by the point estimate."""
    accuracy = report.ranking.accuracy
    value, told = share(accuracy.value), bounds(accuracy, report.confidence)
    if accuracy.low is not None and accuracy.low > CHANCE:
        return Clause(name="chance", passed=True, sentence=f"It surely orders pairs better than chance ({told}).")
    if service is not None and (accuracy.value or 0.0) > CHANCE:
        sentence = f"It has {value} of the pairs right, more than by chance ({told})."
        return Clause(name="chance", passed=True, sentence=sentence)
    sentence = f"It may order pairs no better than chance: it has {value} of them right ({told})."
    return Clause(name="chance", passed=False, sentence=sentence)


def _not_inferior(service: Compared | None, report: Report, config: GateConfig) -> Clause:
    name, bound = "not_inferior", points(config.not_inferior)
    if service is None:
        return Clause(name=name, passed=None, sentence=NO_SERVICE)
    low, told = service.difference.low, interval(service.difference, report.confidence)
    if low is not None and low >= -config.not_inferior - EQUAL:
        sentence = f"It is surely not more than {bound} of accuracy behind {service.label} ({told})."
        return Clause(name=name, passed=True, sentence=sentence)
    sentence = f"It may be more than {bound} of accuracy behind {service.label} ({told}): more data would tell."
    if service.difference.high is not None and service.difference.high < 0:
        sentence = f"It is surely behind {service.label} in accuracy ({told})."
    return Clause(name=name, passed=False, sentence=sentence)


def _better(service: Compared | None) -> Clause:
    if service is None:
        return Clause(name="better", passed=None, sentence=NO_SERVICE)
    passed = service.difference.value is not None and service.difference.value > EQUAL
    order = f"puts {more_or_fewer(service.difference.value)} validation pairs in the right order"
    sentence = f"It {order} than {service.label}." if passed else f"It is no better than {service.label}: it {order}."
    return Clause(name="better", passed=passed, sentence=sentence)


def _not_behind(name: str, report: Report, config: GateConfig) -> Clause:
    """Neither surely behind nor by more than the margin: a model and a baseline that go by different things differ in
    so many pairs that, of a few hundred ratings, the point estimate's sign is a coin's.
    """
    found = _baseline(report, name)
    if found is None or found.difference.value is None:
        return Clause(name=name, passed=None, sentence=f"It was not compared with “{BASELINES[name]}”.")
    difference, high = found.difference.value, found.difference.high
    where = "as good as" if abs(difference) <= EQUAL else "ahead of" if difference > 0 else "behind"
    by = "" if abs(difference) <= EQUAL else f"{points(difference)} "
    theirs = f"which has {share(found.ranking.accuracy.value)} of the pairs right"
    told = interval(found.difference, report.confidence)
    surely = difference < -EQUAL and (high is None or high < 0)
    sentence = f"It is {by}{where} the simple baseline “{BASELINES[name]}”, {theirs} ({told})."
    return Clause(name=name, passed=not surely and difference >= -config.not_inferior - EQUAL, sentence=sentence)


def _groups(report: Report, config: GateConfig) -> Clause:
    """A group fails by its point estimate, however wide its interval: a loss that is let pass is served.

    Where no interval can be told, all pairs are of one user or question: such a group is named, not judged.
    """
    if _baseline(report, SERVICE) is None:
        return Clause(name="groups", passed=None, sentence=NO_SERVICE)
    bound, enough = points(config.group_bound), [group for group in report.groups if not group.small]
    worse = [group for group in enough if _value(group.difference) < -config.group_bound - EQUAL]
    judged = sum(_told(group) for group in enough)
    lost, unsure = [[_loss(one, report.confidence) for one in worse if _told(one) is told] for told in (True, False)]
    more = f" Of one {report.data.clustered_by} alone, and so not judged: {'; '.join(unsure)}." if unsure else ""
    if lost:
        sentence = f"It is worse for some by more than {bound} of accuracy: {'; '.join(lost)}.{more}"
        return Clause(name="groups", passed=False, sentence=sentence)
    if not judged:
        return Clause(name="groups", passed=None, sentence=f"No group has enough pairs to be judged by itself.{more}")
    return Clause(
        name="groups",
        passed=True,
        sentence=f"None of {counted(judged, 'group')} lost more than {bound} of accuracy.{more}",
    )


def _loss(group: Group, confidence: float) -> str:
    assert group.difference is not None
    lost = points(_value(group.difference))
    return f"{group.attribute} “{group.value}” lost {lost} ({interval(group.difference, confidence)})"


def _told(group: Group) -> bool:
    return group.difference is not None and group.difference.low is not None


def _calibrated(report: Report, config: GateConfig) -> Clause:
    name, found, ece = "calibrated", report.calibration, report.calibration.after.ece
    if found.on == "nothing" and found.count >= LEAST_RATINGS:
        sentence = "It gives every response the same score, which tells nothing."
        return Clause(name=name, passed=False, sentence=sentence)
    if found.on == "nothing" or ece is None:
        return Clause(name=name, passed=None, sentence="There are too few ratings to calibrate it.")
    if beyond := _beyond(report):
        return Clause(name=name, passed=False, sentence=beyond)
    of = "ratings" if found.on == "ratings" else "what people preferred"
    where = "within" if ece <= config.most_ece else "more than"
    sentence = f"Its scores lie {ece:.3f} from {of} on average (ECE), {where} the {config.most_ece:g} that is allowed."
    return Clause(name=name, passed=ece <= config.most_ece, sentence=sentence)


def _beyond(report: Report) -> str:
    """A sentence where no temperature fits; "" where one does.

    What has every pair in the right order is not refused for it: the steepest scores are the best ones there.
    """
    (low, high), found, accuracy = RANGE, report.calibration.temperature, report.ranking.accuracy.value
    if found >= high / AT_BOUND:
        return f"Its scores tell next to nothing: no temperature up to {high:g} makes them as flat as they should be."
    if found <= low * AT_BOUND and accuracy is not None and accuracy < 1 - EQUAL:
        return f"Its scores hardly differ: no temperature down to {low:g} sets them as far apart as they should be."
    return ""


def _baseline(report: Report, name: str) -> Compared | None:
    return next((each for each in report.baselines if each.name == name), None)


def _value(estimate: Estimate | None) -> float:
    return estimate.value if estimate is not None and estimate.value is not None else 0.0
