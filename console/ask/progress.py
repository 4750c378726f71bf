"""The quiet line while an answer is made: which tools run, how many candidates there are, how they score."""

from nicegui.element import Element

from console.parts import el, set_text
from console.words import t
from ratchet.v1 import inference_pb2 as pb


class Progress:
    """Draws itself where it is made; `take` tells it what happened."""

    def __init__(self) -> None:
        self._drawn = self._scored = 0
        self._dots: dict[int, Element] = {}
        with el("div", "progress", aria_live="off"):
            el("span", "pulse", aria_hidden="true")
            self._line = el("span", "progress-line", f"{t('ask.thinking')}…")
            self._row = el("span", "progress-dots", aria_hidden="true")

    def take(self, event: pb.StreamGenerateResponse) -> None:
        """One thing that happened."""
        match event.WhichOneof("event"):
            case "tools_selected" if event.tools_selected.tools:
                set_text(self._line, f"{t('ask.tools', tools=', '.join(event.tools_selected.tools))}…")
            case "candidate_drawn":
                self._drawn += 1
                self._dot(event.candidate_drawn.index)
                self._count()
            case "candidate_scored":
                self._scored += 1
                self._fill(event.candidate_scored)
                self._count()
            case "regenerating":
                set_text(self._line, f"{t('ask.regenerating')}…")

    def _count(self) -> None:
        parts = [t("ask.drawn", n=self._drawn)]
        if self._scored:
            parts.append(t("ask.scored", n=self._scored))
        set_text(self._line, " · ".join(parts))

    def _dot(self, index: int) -> Element:
        if index not in self._dots:
            with self._row:
                self._dots[index] = el("span", "dot")
        return self._dots[index]

    def _fill(self, candidate: pb.Candidate) -> None:
        dot = self._dot(candidate.index).classes("full")
        dot.style(f"--score:{max(0.15, candidate.reward_score):.2f}")
