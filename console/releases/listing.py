"""The list of releases, newest first, of one kind or of all."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo

from console import client, moments, parts, shell
from console.listing import PAGE, Lines, Listing
from console.parts import el
from console.releases import telling
from console.releases.refusals import Refusals
from console.words import t
from ratchet.v1 import release_pb2 as pb

_CHOICES = {"all": pb.RELEASE_KIND_UNSPECIFIED, "reward": pb.RELEASE_KIND_REWARD, "policy": pb.RELEASE_KIND_POLICY}


class Releases:
    """The page's content. Draws itself where it is made. `publish` asks whether to publish a directory."""

    def __init__(self, publish: Callable[[str], None]) -> None:
        self._kind = "all"
        with el("div", "stack training-page"):
            Refusals(publish)
            options = {name: t(f"releases.{name}") for name in _CHOICES}
            parts.choice(t("releases.kind"), options, self._kind, self._take)
            self._listing = Listing(
                Lines(
                    name=t("releases.title"),
                    older=t("releases.older"),
                    fetch=self._fetch,
                    key=lambda release: release.release,
                    draw=_draw,
                    looks=_ago,
                    empty=_empty,
                )
            )

    async def _take(self, name: str) -> None:
        self._kind = name
        await self._listing.load()

    async def _fetch(self, token: str) -> tuple[Sequence[pb.Release], str]:
        api = client.api()
        request = pb.ListReleasesRequest(page_size=PAGE, page_token=token, kind=_CHOICES[self._kind])
        answer = await api.call(api.releases.ListReleases, request)
        return answer.releases, answer.next_page_token


def _empty() -> None:
    shell.empty(t("releases.empty"), t("releases.empty_text"), icon="inventory_2")


def _ago(release: pb.Release) -> str:
    return moments.ago(moments.of(release.publish_time), datetime.now(UTC))


def _draw(release: pb.Release, zone: tzinfo) -> None:
    with el("a", "run-row", href=f"/releases?release={release.release}"):
        words, tone, symbol = telling.standing(release)
        with el("span", "run-head"):
            parts.chip(words, tone, symbol=symbol)
            el("strong", "run-name", release.release)
            moment = moments.written(moments.of(release.publish_time), zone)
            el("span", "run-time num", _ago(release), title=moment)
        refused = [each.refusal for each in release.replicas if each.refusal]
        if refused:
            el("span", "run-error", refused[0], lang="en")
        with el("span", "run-facts num"):
            el("span", "", telling.kind(release.kind)[0])
            if release.parent:
                el("span", "", t("releases.made_of", parent=release.parent))
            el("span", "", telling.publisher(release))
            el("span", "", telling.replicas(release))
