"""What training made that is newer than what serves, and could not be published."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo
from functools import partial

from nicegui import ui
from nicegui.element import Element

from console import client, moments, parts, shell
from console.numerals import number
from console.parts import el, icon
from console.words import t
from ratchet.v1 import release_pb2 as pb

EVERY = 10.0
"""Seconds between two looks."""
LOOKED_AT, SHOWN = 50, 3
"""Of the newest refusals, and how many of those that matter are shown at once."""


class Refusals:
    """A notice. Draws itself where it is made; nothing while there are none. `publish` asks whether to publish a
    directory."""

    def __init__(self, publish: Callable[[str], None]) -> None:
        self._publish = publish
        self._shown: list[pb.RefusedRelease] = []
        self._agos: list[Element] = []
        self._box = el("div", "unpublished-box")
        shell.when_ready(self._look)
        shell.on_return(self._look)
        ui.timer(EVERY, self._look, immediate=False)

    async def _look(self) -> None:
        api = client.api()
        request = pb.ListRefusedReleasesRequest(page_size=LOOKED_AT)
        with self._box:
            try:
                answer = await api.call(api.releases.ListRefusedReleases, request)
                zone = await moments.zone()
            except client.Trouble:
                return  # the list below says so
        found = [each for each in answer.refused_releases if each.newer_than_champion]
        if found != self._shown:
            self._shown, self._agos = found, []
            self._box.clear()
            if found:
                with self._box:
                    self._notice(found, zone)
        for element, refused in zip(self._agos, found, strict=False):  # somebody may be on a button beside it
            parts.set_text(element, _ago(refused))

    def _notice(self, found: Sequence[pb.RefusedRelease], zone: tzinfo) -> None:
        title = t("releases.refusals")
        with parts.card("run-verdict run-verdict-warn", aria_label=title):
            with el("div", "unpublished-head"):
                icon("report_problem")
                el("h2", "card-title run-verdict-title", title)
            el("p", "muted small", t("releases.refusals_text"))
            with el("ul", "unpublished"):
                for each in found[:SHOWN]:
                    self._refusal(each, zone)
            if len(found) > SHOWN:
                el("p", "muted small num", t("releases.refusals_more", n=number(len(found) - SHOWN)))

    def _refusal(self, refused: pb.RefusedRelease, zone: tzinfo) -> None:
        with el("li"):
            with el("div", "row"):
                el("strong", "run-name", refused.release)
                when = moments.written(moments.of(refused.refuse_time), zone)
                self._agos.append(el("span", "muted small num", _ago(refused), title=when))
                parts.link(t("releases.to_training"), f"/training?run={refused.training_id}", classes="link small")
            el("p", "run-error", refused.reason, lang="en")
            if refused.directory:
                with el("div", "row"):
                    el("code", "mono small", refused.directory)
                    parts.button(
                        t("releases.publish"),
                        partial(self._publish, refused.directory),
                        symbol="upload",
                        aria_label=f"{t('releases.publish')}: {refused.release}",
                    )


def _ago(refused: pb.RefusedRelease) -> str:
    return t("releases.refused_ago", ago=moments.ago(moments.of(refused.refuse_time), datetime.now(UTC)))
