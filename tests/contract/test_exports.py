"""`ratchet logs` over a real log: what is listed and told, and exports that load elsewhere as Postgres has them."""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from click.testing import CliRunner, Result

from cli import exports
from cli.export_columns import KINDS
from cli.main import ratchet
from cli.output import CommandFailed
from ratchet.v1 import conversation_pb2_grpc
from server.rpc.conversations import ConversationService
from server.rpc.interceptors import Admission, Guard
from server.rpc.messages import Defaults
from server.storage.conversations import Conversations
from server.types import Evidence, ToolOutcome, ToolRun
from tests.logged import NOW, OfTenant, entry_at, give_feedback, log

VIETNAMESE = "Đổi trả thế nào? 🎉 \u201cngoặc\u201d \\ \u2028 Vie\u0323\u0302t"


class Logs:
    """A tenant's log behind a server, and the command as its user runs it."""

    def __init__(self, pool: asyncpg.Pool, tenant: str, address: str) -> None:
        self.pool, self.tenant, self.address = pool, tenant, address

    async def __call__(self, *arguments: str) -> Result:
        line = ["logs", *arguments, "--address", self.address]
        return await asyncio.to_thread(CliRunner().invoke, ratchet, line, catch_exceptions=False)

    async def export(self, to: Path, *arguments: str) -> Result:
        return await self("export", "--to", str(to), "--until", "2026-12-31", *arguments)


@pytest.fixture
async def logs(pool: asyncpg.Pool) -> AsyncIterator[Logs]:
    """Small pages, so that exports take several."""
    tenant = f"tenant-{uuid.uuid4()}"
    server = grpc.aio.server(interceptors=[Guard(Admission(limit=8)), OfTenant(tenant)])
    service = ConversationService(Conversations(pool), Defaults(), page_bytes=4000)
    conversation_pb2_grpc.add_ConversationServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield Logs(pool, tenant, f"127.0.0.1:{port}")
    await server.stop(0)


async def some(logs: Logs) -> list[str]:
    """Seven replies, two of them rated, the last unscored; newest first."""
    page = Evidence("docs", "doc-1", "Bảo hành", "Hai năm.", "https://shop.example", 0.9)
    run = ToolRun("docs", ToolOutcome.FOUND, 0.8, 0.01, "1 passage", (page,))
    entries = [
        entry_at(
            NOW + timedelta(minutes=number),
            tenant_id=logs.tenant,
            query=VIETNAMESE if number % 2 else f"q{number}",
            text=f"Trả lời {number}",
            score=None if number == 6 else number / 10,
            tool_runs=(run,) if number == 3 else (),
        )
        for number in range(7)
    ]
    ids = await log(logs.pool, *entries)
    await give_feedback(logs.pool, logs.tenant, ids[1], rating_overall=2, reaction_type="thumbs_down")
    await give_feedback(
        logs.pool, logs.tenant, ids[3], rating_overall=5, rating_dimensions={"safety": 4}, text_feedback=VIETNAMESE
    )
    return [str(each) for each in reversed(ids)]


def loaded(directory: Path, cache: Path) -> list[dict[str, Any]]:
    """The rows as Hugging Face `datasets` loads them, in a process of its own that reaches nothing."""
    script = (
        "import json, sys, datasets\n"
        "found = datasets.load_dataset(sys.argv[1], split='train')\n"
        "print(json.dumps([row | {'create_time': str(row['create_time'])} for row in found], default=str))\n"
    )
    offline = {
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(cache),
        "HF_DATASETS_CACHE": str(cache),
    }
    done = subprocess.run(
        [sys.executable, "-c", script, str(directory)],
        env=os.environ | offline,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


async def kept(logs: Logs) -> list[Any]:
    """The rows of Postgres, newest first."""
    return await logs.pool.fetch(
        "SELECT * FROM conversation_logs WHERE tenant_id = $1 ORDER BY response_id DESC", logs.tenant
    )


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
async def test_datasets_load_what_postgres_has(logs: Logs, tmp_path: Path, form: str) -> None:
    await some(logs)
    done = await logs.export(tmp_path / "out", "--format", form)
    assert done.exit_code == 0, done.output
    found = await asyncio.to_thread(loaded, tmp_path / "out", tmp_path / "cache")
    rows = await kept(logs)
    assert [each["response_id"] for each in found] == [str(row["response_id"]) for row in rows]
    for each, row in zip(found, rows, strict=True):
        assert (each["query"], each["response"], each["user_id"]) == (
            *(row["query"], row["selected_response"]),
            row["user_id"],
        )
        assert each["reward_score"] == row["reward_score"]
        assert datetime.fromisoformat(each["create_time"]) == row["timestamp"]
        drawn = json.loads(row["all_candidates"])
        assert [c["text"] for c in each["candidates"]] == [o["text"] for o in drawn]
        assert [c["reward_score"] for c in each["candidates"]] == [o["reward_score"] for o in drawn]
        assert [c["error"] for c in each["candidates"]] == [o["error"] for o in drawn]
    assert found[0]["reward_score"] is None
    assert found[0]["candidates"][0]["aspects"] is None
    assert found[3]["tool_runs"][0]["evidence"][0]["text"] == "Hai năm."
    assert [(f["rating_overall"], f["text_feedback"]) for f in found[3]["feedback"]] == [(5, VIETNAMESE)]
    assert found[3]["feedback"][0]["rating_dimensions"]["safety"] == 4
    assert found[3]["feedback"][0]["rating_dimensions"]["accuracy"] is None
    assert found[0]["feedback"] == []


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
async def test_the_manifest_is_true_and_nothing_else_is_left(logs: Logs, tmp_path: Path, form: str) -> None:
    ids = await some(logs)
    done = await logs.export(tmp_path / "out", "--format", form, "--max-rating", "5", "--json")
    told = json.loads(done.stdout)
    manifest = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (told["rows"], manifest["rows"], manifest["kind"], manifest["format"]) == (2, 2, "logs", form)
    assert manifest["filters"] == {"max_rating": 5, "until": "2026-12-31T00:00:00+00:00"}
    assert [each["name"] for each in manifest["columns"]] == [each.name for each in KINDS["logs"]]
    for file in manifest["files"]:
        data = (tmp_path / "out" / file["name"]).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert [row["response_id"] for row in exports.rows_of(tmp_path / "out")] == [ids[3], ids[5]]
    assert [each.name for each in tmp_path.iterdir()] == ["out"]
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == [
        *("README.md", "export.json", f"logs-00000.{form}")
    ]


async def test_both_formats_have_the_same_rows_in_files_of_bounded_size(logs: Logs, tmp_path: Path) -> None:
    await some(logs)
    rows = {}
    for form in ("jsonl", "parquet"):
        await logs.export(tmp_path / form, "--format", form)
        whole = list(exports.rows_of(tmp_path / form))
        with exports.exporting(tmp_path / f"small-{form}", "logs", form, file_bytes=1) as made:
            for row in whole:
                made.add(row)
            assert len(made.finish({}).files) == 7
        assert list(exports.rows_of(tmp_path / f"small-{form}")) == whole
        rows[form] = whole
    assert rows["jsonl"] == rows["parquet"]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
async def test_an_empty_export_has_its_schema_and_no_rows(logs: Logs, tmp_path: Path, form: str) -> None:
    done = await logs.export(tmp_path / "out", "--format", form)
    assert done.exit_code == 0
    assert list(exports.rows_of(tmp_path / "out")) == []
    assert exports.manifest_of(tmp_path / "out").rows == 0
    if form == "parquet":
        import pyarrow.parquet

        schema = pyarrow.parquet.read_schema(tmp_path / "out" / "logs-00000.parquet")
        assert schema.names == [each.name for each in KINDS["logs"]]
        assert str(schema.field("reward_score").type) == "double"


async def test_a_place_that_is_taken_stays_as_it_was(logs: Logs, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    done = await logs.export(tmp_path / "out")
    assert done.exit_code == 1
    assert "is there already" in done.output
    assert [each.name for each in tmp_path.rglob("*")] == ["out", "mine"]


def broken_off(rows: Iterator[dict[str, Any]], to: Path, form: str) -> None:
    """An export that fails when all of it is written but the manifest."""
    with exports.exporting(to, "logs", form) as made:
        for row in rows:
            made.add(row)
        next(rows)


async def test_an_export_that_fails_midway_leaves_nothing(logs: Logs, tmp_path: Path) -> None:
    await some(logs)
    whole = tmp_path / "whole"
    await logs.export(whole)
    for form in ("jsonl", "parquet"):
        with pytest.raises(StopIteration):
            broken_off(exports.rows_of(whole), tmp_path / "out", form)
        assert list(tmp_path.iterdir()) == [whole]


def test_what_a_killed_export_left_is_swept_and_one_under_way_is_not(tmp_path: Path) -> None:
    dead = tmp_path / ".old.0123.partial"
    dead.mkdir()
    (dead / ".lock").touch()
    (dead / "logs-00000.jsonl").write_text("personal\n")
    with exports.exporting(tmp_path / "one", "logs", "jsonl") as one:
        assert not dead.exists()
        with exports.exporting(tmp_path / "two", "logs", "jsonl") as two:
            two.finish({})
        one.finish({})
    assert sorted(each.name for each in tmp_path.iterdir()) == ["one", "two"]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
async def test_a_rewritten_export_holds_what_was_made_of_its_rows_and_nothing_of_before(
    logs: Logs, tmp_path: Path, form: str
) -> None:
    ids = await some(logs)
    out = tmp_path / "out"
    await logs.export(out, "--format", form)
    before = exports.manifest_of(out)

    def change(row: dict[str, Any]) -> dict[str, Any] | None:
        if row["response_id"] == ids[0]:
            return None
        if row["response_id"] == ids[1]:
            row["query"] = ""  # in place, which must not go unnoticed
        return row

    assert exports.rewrite(out, change) == 2
    after = exports.manifest_of(out)
    rows = list(exports.rows_of(out))
    assert [row["response_id"] for row in rows] == ids[1:]
    assert (rows[0]["query"], after.rows, after.revision) == ("", 6, 1)
    assert {each.name for each in out.iterdir()} == {"README.md", "export.json", after.files[0].name}
    assert after.files[0].name != before.files[0].name
    assert exports.rewrite(out, lambda row: row) == 0
    assert exports.manifest_of(out) == after


async def test_a_rewriting_that_was_stopped_is_finished_by_the_next(
    logs: Logs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before the manifest names the new file, or after that and before the old one went."""
    ids = await some(logs)
    for stop in ("_write", "_remove_unnamed"):
        out = tmp_path / stop
        await logs.export(out)

        def stopped(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            calls = iter([None] if stop == "_remove_unnamed" else [])
            real = getattr(exports, stop)
            patch.setattr(exports, stop, lambda *a, r=real, c=calls: r(*a) if next(c, 1) is None else stopped())
            with pytest.raises(KeyboardInterrupt):
                exports.rewrite(out, lambda row: None if row["response_id"] == ids[0] else row)
        exports.rewrite(out, lambda row: None if row["response_id"] == ids[0] else row)
        assert [row["response_id"] for row in exports.rows_of(out)] == ids[1:]
        assert not any(ids[0] in path.read_text() for path in out.iterdir())
        assert len(list(out.iterdir())) == 3


def test_a_directory_that_is_no_export_is_refused(tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text('{"version": 99}')
    with pytest.raises(CommandFailed, match="newer Ratchet"):
        exports.rewrite(tmp_path, lambda row: None)
    (tmp_path / "export.json").write_text("torn")
    with pytest.raises(CommandFailed, match="no export"):
        exports.rewrite(tmp_path, lambda row: None)


async def test_the_list_shows_each_reply_with_an_id_that_show_takes(logs: Logs) -> None:
    ids = await some(logs)
    listed = await logs("list", "--text", "đổi", "--from", "2026-09-01", "--max-rating", "4")
    assert listed.exit_code == 0, listed.output
    assert ids[5] in listed.output
    assert not any(each in listed.output for each in ids if each != ids[5])
    assert "2★ 👎" in listed.output
    told = json.loads((await logs("list", "--json", "--limit", "3")).stdout)
    assert [each["response_id"] for each in told["conversations"]] == ids[:3]
    shown = await logs("show", ids[3])
    for part in ("Trả lời 3", "Bảo hành", "Hai năm.", "No text within 1.0 s.", "★★★★★", "safety 4", "Xin chào"):
        assert part in shown.output, part
    assert json.loads((await logs("show", ids[3], "--json")).stdout)["reply"]["response_id"] == ids[3]


async def test_mistakes_are_sentences(logs: Logs) -> None:
    nobody = await logs("show", str(uuid.uuid4()))
    assert (nobody.exit_code, "RESPONSE_NOT_FOUND" in nobody.output) == (1, True)
    assert "no time" in (await logs("list", "--from", "yesterday")).output
    assert "no such replies" in (await logs("list", "--user", "nobody")).output
