"""The list of rollouts, newest first."""

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo

from console import client, moments, parts, shell
from console.listing import PAGE, Lines, Listing
from console.meter import Meter
from console.parts import el
from console.releases.telling import kind, share
from console.rollouts import telling
from console.words import t
from ratchet.v1 import rollout_pb2 as pb


def rollouts(start: parts.Handler) -> Listing[pb.Rollout]:
    """Draws itself where it is made; `start` begins one."""

    async def fetch(token: str) -> tuple[Sequence[pb.Rollout], str]:
        api = client.api()
        request = pb.ListRolloutsRequest(page_size=PAGE, page_token=token)
        answer = await api.call(api.rollouts.ListRollouts, request)
        return answer.rollouts, answer.next_page_token

    def empty() -> None:
        with shell.empty(t("rollouts.empty"), t("rollouts.empty_text"), icon="alt_route"):
            parts.button(t("rollouts.new"), start, symbol="play_arrow", kind="primary")

    return Listing(
        Lines(
            name=t("rollouts.title"),
            older=t("rollouts.older"),
            fetch=fetch,
            key=lambda rollout: rollout.rollout_id,
            draw=_draw,
            looks=_ago,
            empty=empty,
        )
    )


def _ago(rollout: pb.Rollout) -> str:
    return moments.ago(moments.of(rollout.create_time), datetime.now(UTC))


def _draw(rollout: pb.Rollout, zone: tzinfo) -> None:
    with el("a", "run-row", href=f"/rollouts?rollout={rollout.rollout_id}"):
        words, tone, symbol = telling.state(rollout)
        with el("span", "run-head"):
            parts.chip(words, tone, symbol=symbol)
            el("strong", "run-name", rollout.challenger)
            el("span", "muted small hide-small", t("rollouts.instead_of", champion=rollout.champion))
            moment = moments.written(moments.of(rollout.create_time), zone)
            el("span", "run-time num", _ago(rollout), title=moment)
        if rollout.state not in (*telling.ENDED, pb.ROLLOUT_STATE_DRAFT):
            with el("span", "run-progress"):
                Meter(t("rollouts.traffic"), rollout.share)
                el("span", "num", t("rollouts.of_users", share=share(rollout.share)))
        if rollout.pauses:
            el("span", "row-pause", " · ".join(map(telling.cause, rollout.pauses)))
        with el("span", "run-facts"):
            el("span", "", kind(rollout.kind)[0])
            el("span", "", telling.strategy(rollout.plan))
            if rollout.creator:
                el("span", "", t("rollouts.by", who=rollout.creator))
            if rollout.undoes:
                el("span", "", t("rollouts.undoes"))
