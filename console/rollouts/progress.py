"""How far a rollout is in its present stage: samples and time, and how long until a verdict."""

from console import moments, parts
from console.meter import Meter
from console.numerals import number
from console.parts import el
from console.rollouts import telling
from console.words import t
from ratchet.v1 import rollout_pb2 as pb


class Progress:
    """Built once, shown often: somebody may be reading it."""

    def __init__(self) -> None:
        with el("div", "grid stage-progress") as self._box:
            with el("div", "stat progress-samples"):
                el("div", "stat-label", t("rollouts.samples"))
                self._samples = el("div", "stat-value", "")
                self._samples_meter = Meter(t("rollouts.samples"), progress=True)
                self._samples_note = el("div", "stat-note", "")
            with el("div", "stat progress-time"):
                el("div", "stat-label", t("rollouts.time"))
                self._time = el("div", "stat-value", "")
                self._time_meter = Meter(t("rollouts.time"), progress=True)
                self._time_note = el("div", "stat-note", "")
            self._days, self._days_note = parts.stat(t("rollouts.days_left"), "")

    def show(self, rollout: pb.Rollout, evidence: pb.RolloutEvidence | None) -> None:
        """As it is now; nothing where nothing is waited for."""
        waiting = telling.waiting(rollout)
        self._box.set_visibility(waiting is not None)
        if waiting is None:
            return
        seen = evidence.samples if evidence is not None else 0
        minimum = number(waiting.minimum_samples)
        parts.set_text(self._samples, t("rollouts.of", n=number(seen), m=minimum))
        self._samples_meter.show(seen / max(1, waiting.minimum_samples))
        in_shadow = telling.stands(rollout) == pb.ROLLOUT_STATE_SHADOW
        parts.set_text(self._samples_note, t("rollouts.samples_shadow" if in_shadow else "rollouts.samples_note"))
        elapsed, least = rollout.elapsed_seconds, waiting.minimum_seconds
        parts.set_text(self._time, t("rollouts.of", n=moments.length(elapsed), m=moments.length(least)))
        self._time_meter.show(elapsed / least if least else 1.0)
        longest = moments.length(waiting.longest_seconds)
        parts.set_text(self._time_note, t("rollouts.time_note", longest=longest))
        left = telling.days(evidence) if evidence is not None else ""
        self._days.text = left or "–"
        self._days_note.text = t("rollouts.days_left_note" if left else "rollouts.days_unknown")
