"""What a deployment needs whatever the rollouts say is not retired, and the sentence says what to do."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from server import services
from server.errors import ReleaseInUse
from server.rollout.registry import Champion, Published
from server.rollout.retirement import retire
from server.rollout.types import Kind

NOW = datetime(2026, 11, 23, tzinfo=UTC)
ROUTES: Any = SimpleNamespace(
    policy=SimpleNamespace(release=SimpleNamespace(id="policy-1")),
    reward=SimpleNamespace(release=SimpleNamespace(id="reward-2")),
)
NEEDED = partial(services.needed, {"reward-1": "RATCHET_REWARD", "reward-9": "RATCHET_REWARD_FALLBACK"}, ROUTES)


class Store:
    """Releases, of which some serve; `asked`: what was to be retired."""

    def __init__(self, champion: str, retired: str = "") -> None:
        self.champion, self.retired, self.asked = champion, retired, list[str]()

    async def release(self, release: str) -> Published:
        found = Published(
            release=release, kind=Kind.REWARD, manifest={}, digest=b"", published_at=NOW, published_by="lan"
        )
        return replace(found, retired_at=NOW) if release == self.retired else found

    async def champions(self) -> dict[Kind, Champion]:
        return {Kind.REWARD: Champion(Kind.REWARD, self.champion, NOW)}

    async def retire(self, release: str) -> tuple[Published, bool]:
        self.asked.append(release)
        return await self.release(release), release == self.retired


@pytest.mark.parametrize(
    ("release", "says"),
    [
        ("reward-9", "The settings name reward-9 (RATCHET_REWARD_FALLBACK): name another one there first"),
        ("reward-1", "The settings name reward-1 (RATCHET_REWARD)"),
        ("reward-2", "reward-2 answers in place of the champion"),
        ("policy-1", "policy-1 answers in place of the champion"),
    ],
)
async def test_what_the_deployment_needs_is_not_retired(release: str, says: str) -> None:
    store: Any = Store(champion="reward-3")
    with pytest.raises(ReleaseInUse) as refusal:
        await retire(release, store, NEEDED)
    assert says in str(refusal.value)
    assert store.asked == []


@pytest.mark.parametrize(
    ("champion", "retired", "release"),
    [
        ("reward-3", "", "reward-4"),
        ("reward-1", "", "reward-1"),  # the store says that it is the champion, which is the better reason
        ("reward-3", "reward-9", "reward-9"),  # done before, by another deployment
    ],
)
async def test_of_all_else_the_store_decides(champion: str, retired: str, release: str) -> None:
    store: Any = Store(champion, retired)
    assert (await retire(release, store, NEEDED))[1] is (release == retired)
    assert store.asked == [release]
