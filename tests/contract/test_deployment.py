"""Who answers when a server starts: what the settings name, until a rollout makes another release the champion."""

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from server.deployment import deploy, named, renewed
from server.errors import ConfigurationError
from server.rollout import publishing
from server.rollout.plan import Plan
from server.rollout.types import Kind, Rollout, State, Trigger
from server.settings import STARTER, Settings, load
from server.storage import releases as registry
from server.storage import rollouts as store
from server.storage.rollouts import PostgresRollouts
from tests.conftest import RunningStack
from tests.registered import drafted, onward, settle, started
from tests.releases import reward_directory
from triton_models.removal import take_out

STARTERS = "reward-000001"


@pytest.fixture
async def rollouts(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PostgresRollouts]:
    for name in ("READING", "WRITING"):
        for module in (registry, store):
            monkeypatch.setattr(module, name, 20.0)  # a busy machine is no Postgres that is away
    await settle(pool)
    await pool.execute("UPDATE rollouts SET state = 'failed' WHERE state = 'verified'")
    yield PostgresRollouts(pool)
    await settle(pool)


def settings(home: Path, reward: Path = STARTER / STARTERS) -> Settings:
    return load({"home": home, "backend": "fake", "model_repository": home / "models", "reward": str(reward)}, {})


def a_reward(home: Path, name: str = "", **changes: Any) -> Path:
    """A release below `home`, of an id that no other test has."""
    home.mkdir(exist_ok=True)
    return reward_directory(home / (name or f"reward-{uuid4().hex}"), **changes)


async def rolled_out(rollouts: PostgresRollouts, champion: str, challenger: str) -> Rollout:
    """A rollout that went all the way."""
    made = await rollouts.create(drafted(champion, challenger, plan=Plan(shadow=None)))
    step = started(made)
    await rollouts.apply(step)
    while step.rollout.state is not State.VERIFIED:
        step = onward(step.rollout)
        await rollouts.apply(step)
    return step.rollout


async def test_the_settings_are_published_and_answer_and_others_may_follow_them(
    stack: RunningStack, rollouts: PostgresRollouts, home: Path, tmp_path: Path
) -> None:
    first = await deploy(settings(home), stack.endpoints)
    assert (first.reward.name, first.policy.name) == (STARTERS, "policy-000001")
    assert (await rollouts.release(STARTERS)).published_by == "settings"
    own = a_reward(tmp_path)
    second = await deploy(settings(home, own), stack.endpoints)
    assert second.reward == home / "models" / own.name
    assert (await rollouts.champions())[Kind.REWARD].release == own.name
    assert (await deploy(settings(home), stack.endpoints)).reward.name == STARTERS


async def test_the_champion_of_a_rollout_answers_whatever_the_settings_name(
    stack: RunningStack,
    rollouts: PostgresRollouts,
    home: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await deploy(settings(home), stack.endpoints)
    better = a_reward(tmp_path)
    await publishing.publish(better, home / "models", rollouts, by="lan")
    await rolled_out(rollouts, STARTERS, better.name)
    with caplog.at_level(logging.WARNING):
        found = await deploy(settings(home), stack.endpoints)
    assert found.reward == home / "models" / better.name
    assert found.policy.name == "policy-000001"
    assert any(f"{better.name} answers" in text and STARTERS in text for text in caplog.messages)


@pytest.mark.parametrize("ends", [Trigger.ROLL_BACK, None])
async def test_settings_change_no_champion_that_a_rollout_is_compared_with(
    stack: RunningStack, rollouts: PostgresRollouts, home: Path, tmp_path: Path, ends: Trigger | None
) -> None:
    await deploy(settings(home), stack.endpoints)
    own, other = a_reward(tmp_path), a_reward(tmp_path)
    await publishing.publish(other, home / "models", rollouts, by="lan")
    step = started(await rollouts.create(drafted(STARTERS, other.name)))
    await rollouts.apply(step)
    if ends is not None:
        step = started(step.rollout, ends)
        await rollouts.apply(step)
        await rollouts.apply(onward(step.rollout, Trigger.DRAIN))
    found = await deploy(settings(home, own), stack.endpoints)
    assert found.reward.name == (own.name if ends else STARTERS)


async def test_a_champion_that_is_not_in_the_repository_is_told_and_the_settings_serve(
    stack: RunningStack, rollouts: PostgresRollouts, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await deploy(settings(home), stack.endpoints)
    gone = a_reward(tmp_path)
    await publishing.publish(gone, tmp_path / "elsewhere", rollouts, by="lan")
    await rolled_out(rollouts, STARTERS, gone.name)
    with caplog.at_level(logging.WARNING):
        found = await deploy(settings(home), stack.endpoints)
    assert found.reward.name == STARTERS
    assert any("as the settings say" in text and gone.name in text for text in caplog.messages)


async def test_a_champion_that_is_torn_in_the_repository_is_told_and_the_settings_serve(
    stack: RunningStack, rollouts: PostgresRollouts, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await deploy(settings(home), stack.endpoints)
    torn = a_reward(tmp_path)
    await publishing.publish(torn, home / "models", rollouts, by="lan")
    await rolled_out(rollouts, STARTERS, torn.name)
    (home / "models" / torn.name / "1" / "model.onnx").write_bytes(b"torn")
    with caplog.at_level(logging.WARNING):
        found = await deploy(settings(home), stack.endpoints)
    assert found.reward.name == STARTERS
    assert any("as the settings say" in text and "altered" in text for text in caplog.messages)


async def test_an_id_that_another_release_has_is_refused_in_a_sentence(
    stack: RunningStack, rollouts: PostgresRollouts, home: Path, tmp_path: Path
) -> None:
    one = a_reward(tmp_path / "one")
    two = a_reward(tmp_path / "two", one.name, threshold=0.123)
    await publishing.publish(one, tmp_path / "elsewhere", rollouts, by="lan")
    with pytest.raises(ConfigurationError, match=f"{one.name} was published with other files before"):
        await deploy(settings(home, two), stack.endpoints)


async def test_what_the_settings_name_is_retired_no_more_and_its_files_are_there(
    stack: RunningStack, rollouts: PostgresRollouts, home: Path, tmp_path: Path
) -> None:
    fallback = a_reward(tmp_path)
    await publishing.publish(fallback, home / "models", rollouts, by="lan")
    await rollouts.retire(fallback.name)
    found = load(
        {
            "home": home,
            "backend": "fake",
            "model_repository": home / "models",
            "reward": str(STARTER / STARTERS),
            "reward_fallback": str(fallback),
        },
        {},
    )
    deployed = await deploy(found, stack.endpoints)
    assert deployed.reward_fallback == home / "models" / fallback.name
    assert (await rollouts.release(fallback.name)).retired_at is None
    names = named(found)
    assert (names[fallback.name], names[STARTERS]) == ("RATCHET_REWARD_FALLBACK", "RATCHET_REWARD")
    fallback.joinpath("release.json").unlink()
    assert fallback.name not in named(found)


async def test_what_is_removed_right_when_a_server_starts_is_installed_again(
    stack: RunningStack,
    pool: asyncpg.Pool,
    rollouts: PostgresRollouts,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = a_reward(tmp_path)
    await publishing.publish(own, home / "models", rollouts, by="lan")
    await rollouts.retire(own.name)
    true, late = publishing.readmit, list[bool]()

    async def readmit(place: Path, store: PostgresRollouts) -> bool:
        if place.name == own.name and len(late) < 2:
            take_out(place)
            late.append(True)
        return await true(place, store)

    monkeypatch.setattr(publishing, "readmit", readmit)
    await deploy(settings(home, own), stack.endpoints)
    assert (home / "models" / own.name / "release.json").is_file()
    await settle(pool)
    await rollouts.retire(own.name)
    late.clear()
    monkeypatch.setattr(publishing, "ATTEMPTS", 2)
    with pytest.raises(ConfigurationError, match=f"{own.name} was retired and is being removed .*: start again"):
        await deploy(settings(home, own), stack.endpoints)


async def test_a_process_that_begins_again_begins_with_the_champion_of_now(
    stack: RunningStack, rollouts: PostgresRollouts, home: Path, tmp_path: Path
) -> None:
    """The champion of when the first process began was retired since."""
    before = await deploy(settings(home, a_reward(tmp_path)), stack.endpoints)
    better = a_reward(tmp_path)
    await publishing.publish(better, home / "models", rollouts, by="lan")
    await rolled_out(rollouts, before.reward.name, better.name)
    assert await renewed(before, stack.endpoints) == before
    take_out(before.reward)
    after = await renewed(before, stack.endpoints)
    assert after == replace(before, reward=home / "models" / better.name)
