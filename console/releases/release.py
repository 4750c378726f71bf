"""One release: whether it serves, what it came from, what was measured of it, what each replica has of it."""

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from functools import partial

from nicegui import ui

from console import client, moments, parts, shell
from console.confirming import confirming
from console.numerals import number
from console.parts import el
from console.releases import figures, telling
from console.rollouts.starting import Starting
from console.words import t
from ratchet.v1 import release_pb2 as pb

EVERY = 2.0
"""Seconds between two looks: replicas load, and shares grow, while somebody watches."""


class ReleasePage:
    """One visitor's page of a release. Draws itself where it is made."""

    def __init__(self, release: str) -> None:
        self._id = release
        self._zone: tzinfo = UTC
        self._shown: pb.GetReleaseResponse | None = None
        keep = t("releases.keep")
        self._dialog = Starting(release)
        self._retiring = confirming("releases", "retire", self._retire, keep=keep, symbol="archive", about=release)
        with el("div", "stack run-page"):
            parts.link(t("releases.back"), "/releases", symbol="arrow_back", classes="link log-back")
            self._room = el("div", "stack")
            shell.placeholder(self._room, lines=4)
            self._head, self._replicas, self._rest = el("div"), el("div"), el("div", "stack")
        shell.when_ready(self.load)
        shell.on_return(self.load)
        ui.timer(EVERY, self._look, immediate=False)

    async def load(self) -> None:
        """From the beginning."""
        with self._room:
            try:
                with shell.loading(self._room, lines=4):
                    self._zone = await moments.zone()
                    answer = await self._fetch()
            except client.Trouble as trouble:
                self._fail(trouble)
                return
        self._show(answer)

    def _fail(self, trouble: client.Trouble) -> None:
        if self._shown is None and trouble.nothing_there:
            back = t("releases.back"), "/releases"
            shell.missing(self._room, t("releases.missing"), t("releases.missing_text"), back)
        else:
            shell.trouble(self._room, trouble, retry=self.load)

    async def _look(self) -> None:
        if self._shown is None:
            return
        try:
            answer = await self._fetch()
        except client.Trouble:
            return  # the page says that already, and loads this again when it is over
        self._show(answer)

    async def _fetch(self) -> pb.GetReleaseResponse:
        api = client.api()
        return await api.call(api.releases.GetRelease, pb.GetReleaseRequest(release=self._id))

    async def _retire(self) -> Callable[[], None]:
        api = client.api()
        await api.call(api.releases.RetireRelease, pb.RetireReleaseRequest(release=self._id))
        return partial(self._show, await self._fetch())

    def _show(self, answer: pb.GetReleaseResponse) -> None:
        """What has changed; the rest of a release never does."""
        before, self._shown = self._shown, answer
        release = answer.release
        if before is None or _heading(before.release) != _heading(release):
            self._show_head(release)
        if before is None or _loaded(before.release) != _loaded(release):
            self._replicas.clear()
            with self._replicas:
                _replicas(release, self._zone)
        if before is None:
            with self._rest:
                _lineage(answer)
                _origin(release, self._zone)
                _passing(release)
                figures.metrics(release)
                figures.parity(release)

    def _show_head(self, release: pb.Release) -> None:
        self._head.clear()
        words, tone, symbol = telling.standing(release)
        kind_words, kind_symbol = telling.kind(release.kind)
        with self._head, parts.card("run-card"):
            with el("div", "row spread"):
                with el("div", "row"):
                    parts.chip(words, tone, symbol=symbol)
                    el("h2", "run-title", release.release)
                    parts.chip(kind_words, symbol=kind_symbol)
                self._offer(release)
            facts = [telling.publisher(release), telling.replicas(release)]
            if release.HasField("retire_time"):
                moment = moments.written(moments.of(release.retire_time), self._zone)
                facts.insert(0, t("releases.retired_since", moment=moment))
            if release.HasField("champion_time"):
                moment = moments.written(moments.of(release.champion_time), self._zone)
                facts.insert(0, t("releases.champion_since", moment=moment))
            el("p", "muted num", " · ".join(facts))
            if release.HasField("retire_time"):
                el("p", "muted small", t("releases.retired_text"))

    def _offer(self, release: pb.Release) -> None:
        """What can be done with it now."""
        if release.rollout_id:
            address = f"/rollouts?rollout={release.rollout_id}"
            parts.link(t("releases.to_rollout"), address, symbol="alt_route", classes="btn")
        elif not release.champion and not release.HasField("retire_time"):
            with el("div", "row"):
                parts.button(t("releases.retire"), self._retiring.open, symbol="archive", kind="ghost")
                parts.button(t("releases.roll_out"), self._dialog.open, symbol="play_arrow", kind="primary")


def _heading(release: pb.Release) -> tuple[object, ...]:
    states = [(each.replica, each.state) for each in release.replicas]
    return release.champion, release.rollout_id, release.share, release.publisher, release.retire_time.seconds, states


def _lineage(answer: pb.GetReleaseResponse) -> None:
    """From the oldest to this one. What its first one was made of may never have been published here."""
    line = [*reversed(answer.ancestors), answer.release]
    with parts.card(aria_label=t("releases.lineage")):
        el("h3", "card-title", t("releases.lineage"))
        with el("ol", "lineage", aria_label=t("releases.lineage_of", n=number(len(line)))):
            first = line[0]
            if first.parent:
                _node(first.parent, t("releases.not_here"), "")
            elif first.base_model:
                _node(first.base_model, t("releases.base_model"), "")
            for release in line:
                here = release is line[-1]
                words = t("releases.this") if here else telling.standing(release)[0]
                _node(release.release, words, "" if here else f"/releases?release={release.release}", here=here)


def _node(name: str, note: str, href: str, *, here: bool = False) -> None:
    with el("li", f"node {'node-here' if here else ''}", aria_current="true" if here else None):
        if href:
            parts.link(name, href, classes="link node-name")
        else:
            el("span", "node-name", name)
        el("span", "muted small", note)


def _origin(release: pb.Release, zone: tzinfo) -> None:
    with parts.card(aria_label=t("releases.origin")):
        el("h3", "card-title", t("releases.origin"))
        with el("dl", "story-facts"):
            for name, value, title in telling.origin(release, zone):
                el("dt", "", t(f"releases.{name}"))
                el("dd", "num", value, title=title or None)
            if release.training_id:
                el("dt", "", t("releases.training"))
                with el("dd"):
                    parts.link(t("releases.to_training"), f"/training?run={release.training_id}")


def _passing(release: pb.Release) -> None:
    """The threshold, and how scores were calibrated; a policy has neither to speak of."""
    if release.kind != pb.RELEASE_KIND_REWARD:
        return
    with parts.card(aria_label=t("releases.passing")):
        el("h3", "card-title", t("releases.passing"))
        with el("dl", "story-facts"):
            el("dt", "", t("releases.threshold"))
            with el("dd", "num"):
                if release.HasField("threshold"):
                    el("strong", "", number(release.threshold, 3))
                    if release.threshold_reason:
                        el("p", "muted small", release.threshold_reason, lang="en")
                    else:
                        el("p", "muted small", t("releases.threshold_own"))
                else:
                    el("span", "", t("releases.threshold_none"))
            if release.calibration:
                el("dt", "", t("releases.calibration"))
                told = (f"{name} {number(value, 3)}" for name, value in sorted(release.calibration.items()))
                el("dd", "num", " · ".join(told), lang="en")


def _loaded(release: pb.Release) -> tuple[object, ...]:
    return release.HasField("retire_time"), list(release.replicas)


def _replicas(release: pb.Release, zone: tzinfo) -> None:
    with parts.card(aria_label=t("releases.replicas")):
        el("h3", "card-title", t("releases.replicas"))
        if not release.replicas:
            retired = release.HasField("retire_time")
            el("p", "muted", t("releases.no_replicas_retired" if retired else "releases.no_replicas"))
            return
        with el("ul", "replicas"):
            for each in release.replicas:
                words, tone, symbol = telling.replica(each.state)
                with el("li", "replica"):
                    with el("div", "row"):
                        parts.chip(words, tone, symbol=symbol)
                        el("span", "mono", each.replica)
                        since = moments.written(moments.of(each.since_time), zone)
                        ago = moments.ago(moments.of(each.check_time), datetime.now(UTC))
                        el(
                            "span",
                            "muted small num",
                            f"{t('rollouts.since', moment=since)} · {t('releases.checked', ago=ago)}",
                        )
                    if each.refusal:
                        el("p", "run-error", each.refusal, lang="en")
