"""Safety reports on the challenger's replies, and what a person makes of each."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import tzinfo

from console import moments, parts
from console.logs.filters import PATH
from console.parts import Kind, el
from console.rollouts.deciding import Deciding
from console.words import has, t
from ratchet.v1 import rollout_pb2 as pb

Decide = Callable[[pb.RolloutSafetyReport, bool, str], Awaitable[None]]
"""Says that a report was confirmed or not, with a note. Raises Trouble."""


class Reports:
    """Draws itself where it is made; nothing while there are none."""

    def __init__(self, dialog: Deciding, decide: Decide) -> None:
        self._dialog, self._decide = dialog, decide
        self._shown: tuple[list[pb.RolloutSafetyReport], bool] | None = None
        self._box = el("div")

    def show(self, reports: Sequence[pb.RolloutSafetyReport], zone: tzinfo, *, open_: bool) -> None:
        """Those that wait first. `open_`: whether a decision still changes something."""
        if self._shown == (list(reports), open_):
            return
        self._shown = list(reports), open_
        self._box.clear()
        if not reports:
            return
        with self._box, parts.card("reports", aria_label=t("rollouts.safety")):
            el("h3", "card-title", t("rollouts.safety"))
            el("p", "muted small", t("rollouts.safety_text"))
            with el("ul", "report-list"):
                for report in reports:
                    self._one(report, zone, open_)

    def _one(self, report: pb.RolloutSafetyReport, zone: tzinfo, open_: bool) -> None:
        with el("li", "report"):
            with el("div", "row"):
                _standing(report)
                el("strong", "", category(report.category))
                el("span", "muted small num report-time", moments.written(moments.of(report.time), zone))
            if report.comment:
                el("blockquote", "story-text", report.comment)
            else:
                el("p", "muted small", t("rollouts.no_comment"))
            if report.decided_by:
                el("p", "muted small", t("rollouts.decided_by", who=report.decided_by))
            with el("div", "row"):
                if open_:
                    self._buttons(report)
                parts.link(
                    t("rollouts.read_reply"),
                    f"{PATH}/{report.response_id}",
                    symbol="forum",
                    classes="btn btn-ghost btn-small",
                )

    def _buttons(self, report: pb.RolloutSafetyReport) -> None:
        """Both while nobody has decided, then only the other one: deciding again replaces it."""
        decided = report.confirmed if report.HasField("confirmed") else None
        if decided is not True:
            self._button(report, "confirm", "gpp_bad", "danger", confirmed=True)
        if decided is not False:
            self._button(report, "dismiss", "gpp_good", "plain", confirmed=False)

    def _button(self, report: pb.RolloutSafetyReport, name: str, symbol: str, kind: Kind, *, confirmed: bool) -> None:
        async def decide(note: str) -> Callable[[], None]:
            await self._decide(report, confirmed, note)
            return lambda: None

        what = f"{category(report.category)}: {report.comment[:200]}" if report.comment else category(report.category)
        parts.button(
            t(f"rollouts.{name}"),
            lambda: self._dialog.open(name, what, decide, kind=kind, symbol=symbol),
            symbol=symbol,
            kind=kind,
            classes="btn-small",
        )


def category(name: str) -> str:
    """What is wrong with the reply, as its user said."""
    key = f"conversations.{name.lower()}"
    return t(key) if has(key) else name.replace("_", " ").capitalize()


def _standing(report: pb.RolloutSafetyReport) -> None:
    if not report.HasField("confirmed"):
        parts.chip(t("rollouts.safety_waits"), "bad", symbol="priority_high")
    elif report.confirmed:
        parts.chip(t("rollouts.safety_confirmed"), "bad", symbol="gpp_bad")
    else:
        parts.chip(t("rollouts.safety_dismissed"), "good", symbol="gpp_good")
