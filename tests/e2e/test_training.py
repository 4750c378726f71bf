"""The trainer beside Postgres, killed and gone on with; its run in the console; training from files, gone on with."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from playwright.async_api import Page, expect

from console.training.curves import CHARTS, Points
from tests import tiny_models
from tests.browser import conftest as browsers
from tests.browser.consoles import console
from tests.conftest import RunningStack
from tests.logged import NOW
from tests.tenants import Tenant, a_tenant
from tests.training_api import Edge, serving
from trainer import runs
from trainer.reward.scoring import Scorer

# The fixtures of a visitor, which skip what asks for them where no browser is.
browser, context, watch, page = browsers.browser, browsers.context, browsers.watch, browsers.page
CHECKOUT = Path(__file__).resolve().parents[2]
SMALL = {"train": {"max_epochs": 12, "patience": 12, "threads": 1, "max_length": 64, "checkpoint_minutes": 0.005}}
WAIT = 280.0
"""Seconds, for machines that do much else."""

pytestmark = pytest.mark.timeout(600)


@contextmanager
def ratchet(home: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The command, killed at the end if it still runs."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RATCHET_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=CHECKOUT,
        env=clean | {"RATCHET_HOME": str(home), "PYTHONPATH": str(CHECKOUT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def until(said: str, found: Callable[[], Any]) -> Any:
    """What `found` gives, once it is something."""
    async with asyncio.timeout(WAIT):
        while not (value := await found()):
            await asyncio.sleep(0.1)
    return value


def questions(count: int) -> Iterator[tuple[str, str, int]]:
    """Queries with an answer and its stars: polite ones are good."""
    for number in range(count):
        polite = number % 2 == 0
        answer = f"Thank you, you can return it within {number} days." if polite else f"No {number}."
        yield f"How do I return the lamp {number // 2}?", answer, 5 if polite else 1


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.bert(tmp_path_factory.mktemp("base"), hidden=32)


@dataclass(frozen=True)
class Followed:
    """A run whose trainer was killed, and that a second one made an end of: its row, and how the second one ended."""

    tenant: Tenant
    training_id: UUID
    row: Mapping[str, Any]
    status: int
    log: str


@pytest.fixture(scope="module")
async def followed(
    stack: RunningStack, pool: asyncpg.Pool, base: Path, tmp_path_factory: pytest.TempPathFactory
) -> Followed:
    home, tenant = tmp_path_factory.mktemp("trainers"), await a_tenant(pool)
    for number, (query, answer, stars) in enumerate(questions(120)):
        user, when = f"user-{number // 2 % 30}", NOW + timedelta(minutes=number)
        reply = await tenant.reply(user, query, text=answer)
        await tenant.say(reply, user, rating_overall=stars, timestamp=when, updated_at=when)
    asked = SMALL | {"base": str(base), "gate": {"most_ece": 1.0, "least_pairs": 1}}
    training_id = await runs.ask(pool, tenant.name, asked, "somebody")

    async def row() -> Mapping[str, Any]:
        found: Mapping[str, Any] = await pool.fetchrow(
            "SELECT * FROM training_runs WHERE training_id = $1", training_id
        )
        return found

    async def checkpointed() -> bool:
        return any((home / "training" / "runs" / str(training_id)).glob("seed-1/checkpoint-*/COMPLETE"))

    where = {"DATABASE_URL": stack.endpoints.database_url}
    command = ("trainer", "--schedule", "off", "--tenant", tenant.name)
    with ratchet(home, *command, **where) as first:
        await until("it trains", checkpointed)
        first.kill()
    await pool.execute("UPDATE training_runs SET lease_until = now() WHERE training_id = $1", training_id)
    with ratchet(home, *command, **where) as second:
        found = await until("it ended", lambda: _ended(row))
        second.send_signal(signal.SIGTERM)
        _, log = second.communicate(timeout=WAIT)
    return Followed(tenant, training_id, found, second.returncode, log)


async def test_a_trainer_that_was_killed_is_followed_by_one_that_goes_on_and_makes_the_release(
    followed: Followed,
) -> None:
    found = followed.row
    assert (found["state"], found["attempts"], found["error"]) == ("SUCCEEDED", 2, "")
    assert followed.status == 0, followed.log
    assert "trainer stopped" in followed.log
    assert json.loads(found["report"])["about"]["training_id"] == str(followed.training_id)
    assert found["verdict"] in ("BETTER", "NOT_BETTER"), (found["reasons"], json.loads(found["report"])["data"])
    points = await followed.tenant.pool.fetch(
        "SELECT step FROM training_points WHERE training_id = $1 ORDER BY step", followed.training_id
    )
    assert [point["step"] for point in points] == list(range(len(points))), "its curve has no gap"


async def test_the_console_shows_what_came_out_of_the_run_as_its_trainer_told_it(
    followed: Followed, page: Page, home: Path
) -> None:
    edge, points = Edge(followed.tenant.pool, followed.tenant.name), Points()
    async with serving(edge) as address:
        found = await edge.call("GetTraining", training_id=str(followed.training_id))
        report = json.loads((await edge.call("GetTrainingReport", training_id=str(followed.training_id))).json)
        points.take(found.points, restarted=True)
        assert [name for name, read in CHARTS if read(points).empty] == [], "each chart has something to draw"
        with console(address, home, RATCHET_API_KEY=edge.text) as shown:
            await page.goto(f"{shown.url}/training?run={followed.training_id}")
            why = page.get_by_role("region", name="Why")
            await expect(why.get_by_role("listitem")).to_have_count(len(report["verdict"]["clauses"]))
            for told in (report["verdict"]["summary"], *(each["sentence"] for each in report["verdict"]["clauses"])):
                await expect(why).to_contain_text(told)
            right, pairs = (found.training.metrics[name] for name in ("pairwise_accuracy", "validation_pairs"))
            tiles = page.locator(".run-tiles")
            await expect(tiles.locator(".stat", has_text="Pairs in order")).to_contain_text(f"{100 * right:.1f} %")
            await expect(tiles.locator(".stat", has_text="Validation pairs")).to_contain_text(f"{pairs:.0f}")
            await page.get_by_role("button", name="Show it here").click()
            frame = page.frame_locator("iframe[title=Report]")
            await expect(frame.get_by_role("heading", name="Reward model report")).to_be_visible()
            await expect(frame.locator("svg, img").first).to_be_visible()


async def _ended(row: Callable[[], Any]) -> Any:
    found = await row()
    return found if found["ended_at"] is not None else None


def test_training_from_files_stops_at_ctrl_c_goes_on_and_makes_a_release_that_scores(
    tmp_path: Path, base: Path
) -> None:
    data, out = tmp_path / "data.jsonl", tmp_path / "mine"
    lines: dict[str, list[dict[str, Any]]] = {}
    for query, answer, stars in questions(160):
        lines.setdefault(query, []).append({"text": answer, "rating": stars})
    data.write_text("".join(json.dumps({"query": q, "responses": r}) + "\n" for q, r in lines.items()))
    settings = [f"--set=train.{name}={value}" for name, value in SMALL["train"].items()]
    command = ("train", "reward", "--data", str(data), "--base", str(base), "--out", str(out), *settings, "--json")
    with ratchet(tmp_path, *command) as first:
        curve = tmp_path / "mine.run" / "seed-1" / "metrics.jsonl"
        while not (curve.exists() and curve.stat().st_size):
            assert first.poll() is None, first.communicate()
            time.sleep(0.02)
        first.send_signal(signal.SIGINT)
        _, said = first.communicate(timeout=WAIT)
    assert first.returncode == 130, said
    assert "the same command goes on from" in said
    assert not out.exists()
    with ratchet(tmp_path, *command) as second:
        printed, said = second.communicate(timeout=WAIT)
    assert second.returncode == 0, said
    found = json.loads(printed)
    assert (found["release"], found["release_path"]) == ("mine", str(out))
    polite, rude = Scorer.open(out).scores("", "How do I return the lamp?", ["Thank you, you can return it.", "No."])
    assert polite > rude
