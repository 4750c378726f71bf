"""`ratchet releases`, `publish` and `rollout` against the real services, whose controller is the test."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import click
import pytest
from click.testing import CliRunner, Result

from cli import rollout_watch
from cli.main import ratchet
from server.rollout import orders
from server.rollout.arrivals import Made
from server.rollout.types import Kind, Rollout, State, Trigger
from server.rpc import rollouts as service
from server.storage import releases, safety
from server.storage import rollouts as store
from server.storage.arrivals import PostgresArrivals
from tests.registered import settle, two
from tests.releases import reward_directory
from tests.rollout_api import Edge, serving
from tests.tenants import a_run, a_tenant


class Terminal(Edge):
    """Runs commands as another process would, in a thread."""

    address = ""

    async def command(self, *arguments: str, **environment: str) -> Result:
        where = ["--address", self.address, "--timeout", "20"]
        given = {"RATCHET_API_KEY": self.text, **environment}
        return await asyncio.to_thread(CliRunner().invoke, ratchet, [*arguments, *where], env=given)

    async def told(self, *arguments: str) -> Any:
        """What a command prints for programs."""
        done = await self.command(*arguments, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)


@pytest.fixture
async def edge(pool: asyncpg.Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Terminal]:
    monkeypatch.setattr(service, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(orders, "LOOK_SECONDS", 0.3)
    for name in ("READING", "WRITING"):
        for module in (store, releases, safety):
            monkeypatch.setattr(module, name, 20.0, raising=False)  # a busy machine is no Postgres that is away
    await settle(pool)
    edge = Terminal(pool, tmp_path / "models")
    async with serving(edge) as edge.address:
        yield edge
    await settle(pool)


async def in_canary(edge: Terminal) -> Rollout:
    _, challenger = await two(edge.rollouts)
    await edge.ready(challenger)
    begun = await edge.told("rollout", "start", challenger, "--no-shadow", "--stages", "20,100")
    for _ in range(2):
        stored = await edge.advance(begun["rollout_id"])
    await edge.look(stored)
    return stored


async def test_a_release_is_published_listed_and_shown(edge: Terminal, tmp_path: Path) -> None:
    made = reward_directory(tmp_path / f"reward-{uuid4().hex[:20]}", metrics={"accuracy": {"vi": 0.712}})
    done = await edge.command("publish", str(made))
    assert (done.exit_code, f"`ratchet rollout start {made.name}` rolls it out." in done.output) == (0, True)
    assert "nothing changed" in (await edge.command("publish", str(made))).output
    listed = (await edge.told("releases", "--limit", "5", "--kind", "reward"))["releases"]
    assert made.name in [each["release"] for each in listed]
    shown = (await edge.command("releases", "show", made.name)).output
    assert "metric accuracy vi  0.712" in shown
    for wrong, why in (
        (tmp_path, "it has no release.json"),
        (tmp_path / "none", "there is no such directory"),
        (made / "release.json", "it is no directory"),
    ):
        refused = await edge.command("publish", str(wrong))
        assert (refused.exit_code, "RELEASE_INVALID" in refused.output, why in refused.output) == (1, True, True)
    (made / "notes.txt").write_text("x")
    assert "does not name them: notes.txt" in (await edge.command("publish", str(made))).output


async def test_a_release_is_retired_after_a_yes_and_comes_back_by_publishing(edge: Terminal, tmp_path: Path) -> None:
    made = reward_directory(tmp_path / f"reward-{uuid4().hex[:20]}")
    await edge.command("publish", str(made))
    done = await edge.command("releases", "retire", made.name)
    assert (done.exit_code, "pass --yes" in done.output) == (2, True)
    assert "retire_time" not in (await edge.told("releases", "show", made.name))["release"]
    found = await edge.told("releases", "retire", made.name, "--yes")
    assert (found["release"]["release"], found["existed"]) == (made.name, False)
    assert "nothing changed" in (await edge.command("releases", "retire", made.name, "--yes")).output
    assert f"{made.name}  reward  retired" in (await edge.command("releases", "--limit", "1000")).output
    assert "\nretired " in (await edge.command("releases", "show", made.name)).output
    await edge.command("publish", str(made))
    assert "retired" not in (await edge.command("releases", "show", made.name)).output
    champion, _ = await two(edge.rollouts)
    refused = await edge.command("releases", "retire", champion, "--yes")
    assert (refused.exit_code, "RELEASE_IN_USE" in refused.output) == (1, True)


@pytest.mark.parametrize("answer", [False, True])
async def test_a_person_at_a_terminal_is_asked_before_a_release_is_retired(
    edge: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bool
) -> None:
    made, asked = reward_directory(tmp_path / f"reward-{uuid4().hex[:20]}"), list[str]()
    await edge.command("publish", str(made))

    def confirm(text: str, abort: bool, err: bool) -> None:
        asked.append(text)
        if not answer:
            raise click.Abort

    monkeypatch.setattr("cli.releases.click.confirm", confirm)
    monkeypatch.setattr("cli.releases.someone_answers", lambda: True)
    done = await edge.command("releases", "retire", made.name)
    assert asked == [f"Retire {made.name}? No rollout can start with it, or go back to it."]
    stored = await edge.rollouts.release(made.name)
    assert (done.exit_code == 0, stored.retired_at is not None) == (answer, answer)


async def test_what_training_made_in_vain_is_told_where_releases_are_listed(edge: Terminal) -> None:
    await edge.pool.execute("DELETE FROM refused_releases")
    assert "All that training made was published." in (await edge.command("releases", "refused")).output
    assert (await edge.told("releases", "refused"))["refused_releases"] == []
    run = await a_run(await a_tenant(edge.pool), ended_at=datetime.now(UTC), release_path="/home/t/reward-9")
    await PostgresArrivals(edge.pool).refuse(Made(run, "reward-9", Path("/x")), "Tệp model.onnx bị\x1b[2J hỏng.")
    champion, _ = await two(edge.rollouts)
    await edge.pool.execute("UPDATE releases SET published_at = now() - interval '1 hour' WHERE release = $1", champion)
    listed = (await edge.command("releases")).output
    assert "1 newer release that training made could not be published" in listed
    assert "could not be published" not in (await edge.command("releases", "--kind", "policy")).output
    told = (await edge.command("releases", "refused")).output
    for words in ("reward-9  newer than the champion", "Tệp model.onnx bị[2J hỏng.", "/home/t/reward-9", str(run)):
        assert words in told
    (found,) = (await edge.told("releases", "refused", "--limit", "1"))["refused_releases"]
    assert (found["release"], found["newer_than_champion"]) == ("reward-9", True)
    await edge.pool.execute("UPDATE training_runs SET ended_at = now() - interval '1 day' WHERE training_id = $1", run)
    assert "could not be published" not in (await edge.command("releases")).output
    await edge.pool.execute("DELETE FROM refused_releases")


async def test_a_rollout_is_started_with_a_plan_and_found_without_its_id(edge: Terminal) -> None:
    rollout = await in_canary(edge)
    assert [stage.share for stage in rollout.plan.stages] == [0.2, 1]
    assert rollout.plan.shadow is None
    for which in ((), ("reward",), (rollout.rollout_id,)):
        assert (await edge.told("rollout", "show", *which))["rollout"]["rollout_id"] == rollout.rollout_id
    listed = (await edge.told("rollout", "list", "--active"))["rollouts"]
    assert [each["rollout_id"] for each in listed] == [rollout.rollout_id]
    none = await edge.command("rollout", "show", "policy")
    assert (none.exit_code, "No rollout of a policy is under way" in none.output) == (1, True)


async def test_what_is_no_rollout_is_told_with_what_one_is(edge: Terminal) -> None:
    for command in (("show",), ("watch",), ("pause",), ("roll-back",)):
        done = await edge.command("rollout", *command, "garbage")
        assert (done.exit_code, "give an id" in done.output) == (2, True)


async def test_what_is_done_already_is_said_and_changes_nothing(edge: Terminal) -> None:
    rollout = await in_canary(edge)
    started = await edge.command("rollout", "start", rollout.rollout_id)
    resumed = await edge.command("rollout", "resume", "--yes")
    for done in (started, resumed):
        assert "Nothing changed: it was under way already, and not paused." in done.output
    for command, state in (("pause", "paused"), ("roll-back", "rolling back")):
        first = await edge.command("rollout", command, rollout.rollout_id)
        stored = await edge.rollouts.get(rollout.rollout_id)
        again = await edge.command("rollout", command, rollout.rollout_id)
        assert [f"Nothing changed: it was {state} already." in each.output for each in (first, again)] == [False, True]
        assert (await edge.rollouts.get(rollout.rollout_id)).version == stored.version


async def test_where_two_are_under_way_which_one_must_be_said(edge: Terminal) -> None:
    await in_canary(edge)
    _, policy = await two(edge.rollouts, Kind.POLICY)
    await edge.told("rollout", "start", policy)
    done = await edge.command("rollout", "roll-back")
    assert (done.exit_code, "say which" in done.output) == (1, True)
    assert (await edge.told("rollout", "roll-back", "policy"))["challenger"] == policy


async def test_a_draft_is_started_by_its_id(edge: Terminal) -> None:
    _, challenger = await two(edge.rollouts)
    draft = await edge.told("rollout", "start", challenger, "--draft", "--at-once", "--reason", "Mai.")
    assert (draft["state"], draft["plan"]["strategy"]) == ("ROLLOUT_STATE_DRAFT", "ROLLOUT_STRATEGY_AT_ONCE")
    done = await edge.command("rollout", "start", draft["rollout_id"], "--at-once")
    assert (done.exit_code, "name no plan" in done.output) == (2, True)
    assert (await edge.told("rollout", "start", draft["rollout_id"]))["state"] == "ROLLOUT_STATE_PUBLISHED"


async def test_what_gives_traffic_asks_first_or_takes_a_yes(edge: Terminal) -> None:
    rollout = await in_canary(edge)
    done = await edge.command("rollout", "promote")
    assert (done.exit_code, "pass --yes" in done.output) == (1, True)
    assert (await edge.rollouts.get(rollout.rollout_id)).version == rollout.version
    late = await edge.command("rollout", "promote", "--version", str(rollout.version - 1))
    assert (late.exit_code, "CONFLICT" in late.output) == (1, True)
    promoted = await edge.told("rollout", "promote", "--yes", "--reason", "Gấp.")
    assert (promoted["stage"], promoted["share"]) == (1, 0.95)
    paused = await edge.command("rollout", "pause", "--reason", "Lễ.")
    assert "paused in canary 100 %" in paused.output
    await edge.look(await edge.rollouts.get(rollout.rollout_id))
    assert "canary 100 %" in (await edge.command("rollout", "resume", "--yes")).output


@pytest.mark.parametrize("answer", [True, False])
async def test_a_person_at_a_terminal_is_asked_with_the_version_shown(
    edge: Terminal, monkeypatch: pytest.MonkeyPatch, answer: bool
) -> None:
    rollout, asked = await in_canary(edge), list[str]()

    def confirm(text: str, abort: bool, err: bool) -> None:
        asked.append(text)
        if not answer:
            raise click.Abort

    monkeypatch.setattr("cli.rollout.click.confirm", confirm)
    monkeypatch.setattr("cli.rollout.someone_answers", lambda: True)
    done = await edge.command("rollout", "promote")
    assert asked == [f"Promote {rollout.challenger}, canary 20 %, at version {rollout.version}?"]
    now = await edge.rollouts.get(rollout.rollout_id)
    assert (done.exit_code == 0, now.stage) == (answer, int(answer))


@pytest.mark.parametrize("options", [(), ("--json",)])
async def test_a_watch_tells_every_change_and_its_exit_status_how_it_ended(
    edge: Terminal, options: tuple[str, ...]
) -> None:
    rollout = await in_canary(edge)
    watching = asyncio.ensure_future(edge.command("rollout", "watch", rollout.rollout_id, *options))
    for trigger in (Trigger.ROLL_BACK, Trigger.DRAIN):
        await edge.advance(rollout.rollout_id, trigger)
    done = await watching
    assert done.exit_code == 3
    if options:
        messages = [json.loads(each) for each in done.stdout.splitlines()]
        versions = [event["version"] for message in messages for event in message["events"]]
        assert versions == [str(each) for each in range(1, 7)]
        assert messages[-1]["rollout"]["state"] == "ROLLOUT_STATE_ROLLED_BACK"
    else:
        assert [word in done.output for word in ("rolling back", "rolled back", "All is well.")] == [True] * 3
    assert (await edge.command("rollout", "watch", str(uuid4()), *options)).exit_code == 1


@pytest.mark.parametrize("options", [(), ("--json",)])
async def test_a_watch_outlasts_a_server_that_goes_away_and_tells_each_change_once(
    edge: Terminal, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setattr(rollout_watch, "AGAIN", 0.05)
    gone = threading.Event()
    for shown in (rollout_watch._Json, rollout_watch._Lines):
        monkeypatch.setattr(shown, "away", lambda _: gone.set())
    rollout = await in_canary(edge)
    begun = asyncio.Event()
    events = edge.rollouts.events

    async def telling(*arguments: Any, **named: Any) -> Any:
        begun.set()
        return await events(*arguments, **named)

    monkeypatch.setattr(edge.rollouts, "events", telling)
    watching = asyncio.ensure_future(edge.command("rollout", "watch", rollout.rollout_id, *options))
    await begun.wait()
    edge.draining = True
    assert await asyncio.to_thread(gone.wait, 20)
    edge.draining = False
    for trigger in (Trigger.ROLL_BACK, Trigger.DRAIN):
        await edge.advance(rollout.rollout_id, trigger)
    done = await watching
    assert done.exit_code == 3
    assert options or done.stdout.count("All is well.") == 4


async def test_the_exit_status_of_a_watch_is_0_once_it_is_verified_and_4_when_it_failed(edge: Terminal) -> None:
    rollout = await in_canary(edge)
    for _ in range(2):
        stored = await edge.advance(rollout.rollout_id)
    assert stored.state is State.VERIFIED
    assert (await edge.command("rollout", "watch", rollout.rollout_id)).exit_code == 0
    _, challenger = await two(edge.rollouts, Kind.POLICY)
    failed = await edge.told("rollout", "start", challenger)
    await edge.advance(failed["rollout_id"], Trigger.FAIL)
    assert (await edge.command("rollout", "watch", failed["rollout_id"])).exit_code == 4


async def test_safety_reports_are_listed_and_decided(edge: Terminal) -> None:
    rollout = await in_canary(edge)
    assert "no safety reports" in (await edge.command("rollout", "report", "reward")).output
    _, given = await edge.reported(rollout)
    listed = (await edge.command("rollout", "report", rollout.rollout_id)).output
    assert f"waits     {given}  dangerous: Nguy hiểm!" in listed
    for wrong in ((str(given),), ("--confirm",)):
        assert (await edge.command("rollout", "report", rollout.rollout_id, *wrong)).exit_code == 2
    decided = await edge.told("rollout", "report", "reward", str(given), "--confirm", "--note", "Đúng.")
    assert (decided["confirmed"], decided["decided_by"]) == (True, f"key of {edge.tenant}")
    assert (await edge.reports.counted(rollout)).confirmed == 1


async def test_text_that_is_no_text_is_a_mistake_of_the_caller(edge: Terminal) -> None:
    for command in (("releases", "show"), ("rollout", "show"), ("rollout", "start"), ("publish",)):
        done = await edge.command(*command, "\udcff")
        assert done.exit_code == 2, done.output
