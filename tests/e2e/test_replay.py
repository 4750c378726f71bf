"""`ratchet replay` as operators meet it: beside a running Ratchet, and from its home when it has stopped."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
import redis
from google.protobuf.json_format import MessageToDict

from ratchet.v1 import inference_pb2 as pb
from ratchet.v1 import inference_pb2_grpc
from server.backends.triton import TritonClient
from server.embedded import EmbeddedSettings, Endpoints
from server.embedded.running import endpoints
from server.storage import leases
from server.storage.counters import PREFIX
from tests.conftest import RunningStack, new_home
from tests.contrary import contrary_reward
from tests.e2e.serving import Serving, serving

SAID = (
    pb.GenerateRequest(query="How do I return a gift?", user_id="lan", session_id="replayed"),
    pb.GenerateRequest(query="How long does delivery take?", user_id="lan", session_id="replayed", seed=7),
)

NOISE = 0.02


class Running:
    """A Ratchet that answered SAID: `replies`, oldest first."""

    def __init__(self, home: Path, served: Serving) -> None:
        self.home = home
        with grpc.insecure_channel(served.started["serving"]) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            self.replies = [stub.Generate(request, timeout=30) for request in SAID]
        found = endpoints(EmbeddedSettings(home, triton="--backend=fake" not in served.process.args))  # type: ignore[operator]
        assert found is not None
        self.endpoints: Endpoints = found

    @property
    def ids(self) -> list[str]:
        return [reply.response_id for reply in self.replies]


@pytest.fixture(scope="module")
def ratchet() -> Iterator[Running]:
    home = new_home()
    with serving(home) as served:
        yield Running(home, served)


@pytest.fixture(scope="module")
def contrary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return contrary_reward(tmp_path_factory.mktemp("releases") / "reward-000002", threshold=0.0)


def command(home: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "replay", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=os.environ | {"RATCHET_HOME": str(home), "COLUMNS": "160"} | environment,
    )


def replay(home: Path, *arguments: str, status: int = 0, **environment: str) -> list[dict[str, Any]]:
    """The documents that it printed, the summary last."""
    done = command(home, "--json", *arguments, **environment)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def everything_kept(ratchet: Running) -> object:
    """All that requests leave behind: rows, request ids, profiles, the memory, cached scores."""

    async def rows() -> list[object]:
        connection = await asyncpg.connect(ratchet.endpoints.database_url)
        tables = ("conversation_logs", "request_keys", "profiles")
        found = [await connection.fetchval(f"SELECT jsonb_agg(t ORDER BY t) FROM {table} t") for table in tables]
        await connection.close()
        return found

    with redis.Redis.from_url(ratchet.endpoints.redis_url) as client:
        # The live counters follow the log, which is compared: their position moves by itself.
        keys = sorted(key for key in client.scan_iter() if not key.startswith(PREFIX.encode()))
        return asyncio.run(rows()), {key: client.dump(key) for key in keys}


def ready(ratchet: Running, model: str) -> bool:
    async def ask() -> bool:
        client = TritonClient(ratchet.endpoints.triton_url)
        try:
            return await client.ready(model)
        finally:
            await client.close()

    return asyncio.run(ask())


def test_a_replay_rests_on_the_logged_evidence_and_leaves_nothing_behind(ratchet: Running) -> None:
    time.sleep(0.5)  # what the requests themselves learned and cached has been written by now
    before = everything_kept(ratchet)
    first, second, summary = replay(ratchet.home, *ratchet.ids)
    assert everything_kept(ratchet) == before
    assert [first["response_id"], second["response_id"]] == ratchet.ids
    assert first["logged"]["tool_runs"][0]["evidence"]
    for found, reply in ((first, ratchet.replies[0]), (second, ratchet.replies[1])):
        assert found["logged"]["response"] == reply.response
        evidence = [run["evidence"] for run in found["replayed"]["tool_runs"]]
        assert evidence == [run["evidence"] for run in as_object(reply)["tool_runs"]]
        assert found["replayed"]["seed"] == str(reply.seed)
        assert found["replayed"]["candidates_count"] in (5, 10)
        assert found["minimum_reward"]["before"] == found["minimum_reward"]["after"] == 0.6
    assert summary["summary"]["replayed"] == 2
    assert summary["summary"]["failed"] == 0


def as_object(reply: pb.GenerateResponse) -> dict[str, Any]:
    return MessageToDict(reply, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def test_a_threshold_that_none_passes_refuses_what_was_answered(ratchet: Running) -> None:
    *found, summary = replay(ratchet.home, "--last=2", "--session=replayed", "--minimum-reward=0.9999")
    assert [each["replayed"]["refused"] for each in found] == [True, True]
    assert all(each["replayed"]["refusal_reasons"] for each in found)
    refused_then = sum(reply.refused for reply in ratchet.replies)
    assert (summary["summary"]["before"]["refused"], summary["summary"]["after"]["refused"]) == (refused_then, 2)
    assert summary["summary"]["answers_changed"] == 2 - refused_then


def test_rescoring_by_the_same_release_finds_the_same_scores(ratchet: Running) -> None:
    """About: an int8 model's scores hang a little on what they are scored together with."""
    *found, summary = replay(ratchet.home, *ratchet.ids, "--rescore")
    for each in found:
        assert [one["text"] for one in each["replayed"]["candidates"]] == [
            one["text"] for one in each["logged"]["candidates"]
        ]
        for one, other in zip(each["replayed"]["candidates"], each["logged"]["candidates"], strict=True):
            assert one["reward_score"] == pytest.approx(other["reward_score"], abs=NOISE)
        assert each["replayed"]["refused"] == each["logged"]["refused"]
        assert each["rewards"] is None or each["rewards"]["after"] == pytest.approx(
            each["rewards"]["before"], abs=NOISE
        )
    assert summary["summary"]["before"]["mean_candidates"] == summary["summary"]["after"]["mean_candidates"]


def test_rescoring_by_another_release_turns_the_choice_around_and_unloads_it(ratchet: Running, contrary: Path) -> None:
    *found, summary = replay(ratchet.home, *ratchet.ids, "--rescore", f"--reward={contrary}", "--grounding=off")
    assert not ready(ratchet, "reward-000002")
    assert ready(ratchet, "reward-000001")
    assert ready(ratchet, "policy-000001")
    for each in found:
        logged = each["logged"]["candidates"]
        passing = [one for one in each["replayed"]["candidates"] if one["passed"] and one["text"]]
        assert [one["text"] for one in each["replayed"]["candidates"]] == [one["text"] for one in logged]
        for one, other in zip(each["replayed"]["candidates"], logged, strict=True):
            assert one["reward_score"] == pytest.approx(1 - other["reward_score"], abs=NOISE)
        assert each["replayed"]["reward_score"] == max(one["reward_score"] for one in passing)
        assert each["replayed"]["reward_release"] == "reward-000002"
        if not each["logged"]["refused"]:
            assert each["rewards"]["release"] == "reward-000002"
            assert each["rewards"]["after"] >= each["rewards"]["before"]
        assert each["minimum_reward"] == {"before": 0.6, "after": 0.0}
    changed = [each["replayed"]["response"] != each["logged"]["response"] for each in found]
    assert any(changed)
    assert summary["summary"]["answers_changed"] == sum(changed)
    assert summary["summary"]["before"]["releases"] == ["reward-000001"]


def test_a_release_that_another_replay_has_loaded_is_left_to_it(ratchet: Running, contrary: Path) -> None:
    async def while_it_is_held() -> "subprocess.CompletedProcess[str]":
        connection = await asyncpg.connect(ratchet.endpoints.database_url)
        name = f"ratchet replay {ratchet.endpoints.triton_url}/reward-000002"
        assert await leases.own(connection, name)
        try:
            return await asyncio.to_thread(command, ratchet.home, ratchet.ids[0], "--rescore", f"--reward={contrary}")
        finally:
            await connection.close()

    refused = asyncio.run(while_it_is_held())
    assert refused.returncode == 1
    assert "Another replay has reward-000002 loaded" in refused.stderr
    assert not ready(ratchet, "reward-000002")


def test_a_replay_that_is_told_to_stop_unloads_what_it_loaded(ratchet: Running, contrary: Path) -> None:
    arguments = [*ratchet.ids, "--rescore", f"--reward={contrary}", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "replay", *arguments],
        env=os.environ | {"RATCHET_HOME": str(ratchet.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(600):
        if ready(ratchet, "reward-000002"):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode in (0, 130)  # it may have been quicker
    assert not ready(ratchet, "reward-000002")


def test_the_tools_run_again_when_asked_to(ratchet: Running) -> None:
    found, _ = replay(ratchet.home, ratchet.ids[0], "--run-tools", "--docs-passages=1")
    assert [len(run["evidence"]) for run in found["logged"]["tool_runs"] if run["tool"] == "docs"] == [3]
    assert [len(run["evidence"]) for run in found["replayed"]["tool_runs"] if run["tool"] == "docs"] == [1]


def test_people_see_both_sides_and_a_summary(ratchet: Running) -> None:
    one = command(ratchet.home, ratchet.ids[0], "--rescore")
    assert one.returncode == 0, one.stderr
    assert "logged" in one.stdout
    assert "Changed  " in one.stdout
    many = command(ratchet.home, "--user=lan", "--rescore")
    assert all(f"{each}  " in many.stdout for each in ratchet.ids)
    assert "2 replayed, " in many.stdout


def test_what_can_not_be_replayed_is_told_and_the_rest_goes_on(ratchet: Running) -> None:
    unknown = "01a204b5-c705-7128-a04c-a96c173bb6e0"
    lost, found, summary = replay(ratchet.home, unknown, ratchet.ids[0], "--rescore", status=1)
    assert lost == {"response_id": unknown, "error": f"The log has no reply {unknown}."}
    assert found["response_id"] == ratchet.ids[0]
    assert (summary["summary"]["replayed"], summary["summary"]["failed"]) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("not-a-uuid",), 2, "is not a valid UUID"),
        ((), 2, "name the replies to replay"),
        (("--last=2", "--rescore", "--candidates=3"), 2, "--candidates has no effect"),
        (("--last=2", "--docs-passages=1"), 2, "--docs-passages has no effect"),
        (("--last=2", "--tenant=nobody"), 1, "The log has no such replies"),
        (("--last=2", "--reward=/nowhere"), 1, "does not exist"),
        (("--last=2", "--reward=starter/policy-000001"), 1, "can't serve as the reward"),
        (("--last=2", "--minimum-reward=7"), 1, "RATCHET_MINIMUM_REWARD"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    ratchet: Running, arguments: tuple[str, ...], status: int, words: str
) -> None:
    done = command(ratchet.home, *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_without_a_log_it_says_where_it_looked(home: Path) -> None:
    nothing = command(home, "--last=1")
    assert nothing.returncode == 1
    assert "Nothing was ever logged under" in nothing.stderr
    away = command(home, "--last=1", DATABASE_URL="postgresql://u:hidden@127.0.0.1:1/none", RATCHET_BACKEND="fake")
    assert away.returncode == 1
    assert "Postgres can't be reached by DATABASE_URL" in away.stderr.replace("\n", " ")
    assert "hidden" not in away.stderr


def test_after_the_server_has_stopped_its_home_is_enough_and_the_same_seed_gives_the_same_answer(home: Path) -> None:
    """With the fake of Triton, whose texts follow from prompt and seed alone."""
    with serving(home, "--backend=fake", "--minimum-reward=0") as served:
        replies = Running(home, served).replies
    *found, summary = replay(home, "--last=9", RATCHET_BACKEND="fake")
    assert [each["replayed"]["response"] for each in found] == [reply.response for reply in replies]
    assert summary["summary"]["answers_changed"] == 0
    other, _ = replay(home, replies[0].response_id, "--seed=1", "--candidates=2", RATCHET_BACKEND="fake")
    assert other["replayed"]["candidates_count"] == 2
    texts = {each["text"] for each in other["logged"]["candidates"]}
    assert not texts & {each["text"] for each in other["replayed"]["candidates"]}


async def test_rows_that_are_gone_or_old_say_so(stack: RunningStack, pool: asyncpg.Pool, home: Path) -> None:
    environment = {"DATABASE_URL": stack.endpoints.database_url, "RATCHET_BACKEND": "fake"}
    flags = ("--backend=fake", "--minimum-reward=0")
    with serving(home, *flags, **environment) as served, grpc.insecure_channel(served.started["serving"]) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        erased, old = (
            stub.Generate(pb.GenerateRequest(query=f"Question {n}?", request_id=f"replay-{n}"), timeout=30)
            for n in range(2)
        )
    await pool.execute("DELETE FROM conversation_logs WHERE response_id = $1", erased.response_id)
    await pool.execute(
        """UPDATE conversation_logs SET selection = '{}', context = context - 'summary' - 'profile'
        WHERE response_id = $1""",
        old.response_id,
    )
    ids = (erased.response_id, old.response_id)
    lost, found, _ = await asyncio.to_thread(replay, home, *ids, "--minimum-reward=0", status=1, **environment)
    assert lost["error"] == f"The reply {erased.response_id} was erased from the log."
    assert found["replayed"]["response"] == old.response
    assert len(found["notes"]) >= 3
