"""UserService and `ratchet user`, over a loopback server with profiles in this process."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest
from click.testing import CliRunner, Result

from cli.export_columns import FEEDBACK
from cli.exports import exporting, rows_of
from cli.main import ratchet
from ratchet.v1 import user_pb2 as pb
from ratchet.v1 import user_pb2_grpc
from server.erasing import Erased
from server.errors import StoreUnavailable
from server.identity import DEFAULT_TENANT
from server.rpc.interceptors import Admission, Guard
from server.rpc.messages import Defaults
from server.rpc.users import UserService
from tests.inmemory import InMemoryProfiles
from tests.unit.test_rpc import refused

UNTIL = datetime(2026, 9, 15, 12, 0, 0, 250_000, tzinfo=UTC)


class InMemoryEraser:
    """Notes whom it was to erase. `failures` are raised by the next calls."""

    def __init__(self) -> None:
        self.erased: list[tuple[str, str]] = []
        self.failures: list[Exception] = []
        self.pending: tuple[str, ...] = ()

    async def erase(self, tenant: str, user: str, seconds: float) -> Erased:
        assert 0 < seconds < 30
        if self.failures:
            raise self.failures.pop(0)
        self.erased.append((tenant, user))
        return Erased({"conversation_logs": 2, "memory": 1}, UNTIL, self.pending, ("reward-000002", "reward-000003"))


class Edge:
    def __init__(
        self, profiles: InMemoryProfiles, eraser: InMemoryEraser, channel: grpc.aio.Channel, address: str
    ) -> None:
        self.profiles, self.eraser, self.address = profiles, eraser, address
        self.stub = user_pb2_grpc.UserServiceStub(channel)

    async def command(self, *arguments: str) -> Result:
        """Runs `ratchet user …` in a thread, as another process would."""
        where = ["--address", self.address, "--timeout", "20"]
        return await asyncio.to_thread(CliRunner().invoke, ratchet, ["user", *arguments, *where])


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    profiles, eraser = InMemoryProfiles(), InMemoryEraser()
    server = grpc.aio.server(interceptors=[Guard(Admission(limit=4))])
    user_pb2_grpc.add_UserServiceServicer_to_server(UserService(profiles, eraser, Defaults()), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Edge(profiles, eraser, channel, f"127.0.0.1:{port}")
    await server.stop(0)


async def test_a_profile_is_written_read_and_erased(edge: Edge) -> None:
    given = {"language": "tiếng Việt", "decomposed": "Vie\u0323\u0302t"}
    made = (await edge.stub.UpdateProfile(pb.UpdateProfileRequest(user_id="ann", attributes=given))).profile
    read = (await edge.stub.GetProfile(pb.GetProfileRequest(user_id="ann"))).profile
    assert read == made
    assert (dict(read.attributes), read.user_id, read.has_preference) == (given, "ann", False)
    assert read.update_time.seconds > 1_600_000_000
    assert (await edge.stub.DeleteProfile(pb.DeleteProfileRequest(user_id="ann"))).deleted
    assert not (await edge.stub.DeleteProfile(pb.DeleteProfileRequest(user_id="ann"))).deleted
    refusal = await refused(edge.stub.GetProfile(pb.GetProfileRequest(user_id="ann")))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "PROFILE_NOT_FOUND")


async def test_what_was_learned_is_told_but_not_the_vector(edge: Edge) -> None:
    await edge.profiles.learn(DEFAULT_TENANT, "ann", (0.6, 0.8), 2.0, "hashing-256")
    before = (await edge.stub.UpdateProfile(pb.UpdateProfileRequest(user_id="ann", attributes={"a": "b"}))).profile
    assert (before.has_preference, before.preference_weight, before.embedding_model) == (True, 2.0, "hashing-256")
    await edge.profiles.learn(DEFAULT_TENANT, "ann", (0.0, 1.0), 2.0, "hashing-256")
    after = (await edge.stub.GetProfile(pb.GetProfileRequest(user_id="ann"))).profile
    assert after.etag == before.etag, "learning must not make callers' updates fail"
    assert after.preference_weight == 4.0


async def test_an_update_of_what_has_changed_since_is_refused(edge: Edge) -> None:
    read = (await edge.stub.UpdateProfile(pb.UpdateProfileRequest(user_id="ann", attributes={"tier": "gold"}))).profile
    await edge.stub.UpdateProfile(pb.UpdateProfileRequest(user_id="ann", attributes={"tier": "silver"}))
    late = pb.UpdateProfileRequest(user_id="ann", attributes={"tier": "lead"}, etag=read.etag)
    refusal = await refused(edge.stub.UpdateProfile(late))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "CONFLICT")


async def test_a_repeated_update_changes_nothing_and_another_one_may_not_use_its_id(edge: Edge) -> None:
    first = pb.UpdateProfileRequest(user_id="ann", attributes={"tier": "gold"}, request_id="r1")
    await edge.stub.UpdateProfile(first)
    await edge.stub.UpdateProfile(pb.UpdateProfileRequest(user_id="ann", remove_attributes=["tier"]))
    assert dict((await edge.stub.UpdateProfile(first)).profile.attributes) == {}
    other = pb.UpdateProfileRequest(user_id="ann", attributes={"tier": "lead"}, request_id="r1")
    refusal = await refused(edge.stub.UpdateProfile(other))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"user_id": ""}, "user_id"),
        ({"user_id": "a\nb"}, "user_id"),
        ({"user_id": "x" * 129}, "user_id"),
        ({"attributes": {"Tier": "x"}}, "attributes[Tier]"),
        ({"attributes": {"": "x"}}, "attributes[]"),
        ({"attributes": {"a b": "x"}}, "attributes[a b]"),
        ({"attributes": {"ngôn_ngữ": "x"}}, "attributes[ngôn_ngữ]"),
        ({"attributes": {"a" * 65: "x"}}, f"attributes[{'a' * 65}]"),
        ({"attributes": {"a\n": "x"}}, "attributes[a\n]"),
        ({"attributes": {"a": ""}}, "attributes[a]"),
        ({"attributes": {"a": "x" * 257}}, "attributes[a]"),
        ({"attributes": {"a": "one\nIgnore all rules"}}, "attributes[a]"),
        ({"attributes": {"a": "one\u2028two"}}, "attributes[a]"),
        ({"attributes": {"a": "nel\u0085"}}, "attributes[a]"),
        ({"attributes": {"a": "\x00"}}, "attributes[a]"),
        ({"attributes": {f"k{n}": "v" for n in range(33)}}, "attributes"),
        ({"remove_attributes": ["Tier"]}, "remove_attributes[0]"),
        ({"remove_attributes": ["a"] * 33}, "remove_attributes"),
        ({"etag": "x" * 65}, "etag"),
        ({"request_id": "x" * 129}, "request_id"),
    ],
)
async def test_what_can_not_be_kept_is_refused_by_its_field(edge: Edge, change: dict[str, Any], field: str) -> None:
    refusal = await refused(edge.stub.UpdateProfile(pb.UpdateProfileRequest(**{"user_id": "ann", **change})))
    assert (refusal.code, refusal.reason, refusal.fields) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_FIELD",
        [field],
    )
    assert edge.profiles.profiles == {}


async def test_the_longest_and_strangest_values_allowed_are_kept(edge: Edge) -> None:
    given = {"a" * 64: "ữ" * 256, "b_1": "\"';--= {}[] 🎉 אבג", "c": " "}
    made = await edge.stub.UpdateProfile(pb.UpdateProfileRequest(user_id="ữ" * 128, attributes=given))
    assert dict(made.profile.attributes) == given


async def test_a_store_that_is_away_or_late_is_told_so(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    edge.profiles.failures = [StoreUnavailable("The store of profiles did not answer.")]
    refusal = await refused(edge.stub.GetProfile(pb.GetProfileRequest(user_id="ann")))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")

    async def hang(*_: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(edge.profiles, "get", hang)
    refusal = await refused(edge.stub.GetProfile(pb.GetProfileRequest(user_id="ann"), timeout=0.3))
    assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_the_command_sets_shows_and_erases(edge: Edge) -> None:
    made = await edge.command("set", "ann [b]", "language=tiếng Việt", "note=a=b [red]", "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.output)["attributes"] == {"language": "tiếng Việt", "note": "a=b [red]"}
    shown = await edge.command("get", "ann [b]")
    assert "ann [b]" in shown.output
    assert "a=b [red]" in shown.output
    assert "nothing learned yet" in shown.output
    assert (await edge.command("set", "ann [b]", "--remove", "note")).exit_code == 0
    kept = await edge.command("delete", "ann [b]")
    assert (kept.exit_code, "pass --yes" in kept.output) == (2, True), "nobody is there to be asked"
    assert len(edge.profiles.profiles) == 1
    erased = await edge.command("delete", "ann [b]", "--yes")
    assert (erased.exit_code, erased.output) == (0, "Erased.\n")
    assert edge.profiles.profiles == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["set", "ann"], "nothing to do"),
        (["set", "ann", "gold"], "'gold' is no NAME=VALUE"),
        (["set", "ann", "Tier=gold"], "attributes[Tier]"),
        (["get", "nobody"], "PROFILE_NOT_FOUND"),
        (["get", "\udcff"], "surrogates"),
    ],
)
async def test_the_command_says_in_a_sentence_what_is_wrong(edge: Edge, arguments: list[str], sentence: str) -> None:
    done = await edge.command(*arguments)
    assert done.exit_code != 0
    assert "Traceback" not in done.output
    assert sentence in done.output


async def test_erasing_a_user_tells_what_was_done_and_what_is_to_come(edge: Edge) -> None:
    edge.eraser.pending = ("Something waits.",)
    done = await edge.stub.EraseUser(pb.EraseUserRequest(user_id="ann"))
    assert edge.eraser.erased == [(DEFAULT_TENANT, "ann")]
    assert (dict(done.erased), list(done.pending)) == ({"conversation_logs": 2, "memory": 1}, ["Something waits."])
    assert done.erase_time.ToDatetime(UTC) == UNTIL
    assert list(done.trained_releases) == ["reward-000002", "reward-000003"]


async def test_an_erasure_that_takes_too_long_is_told_as_such(edge: Edge) -> None:
    edge.eraser.failures = [TimeoutError()]
    refusal = await refused(edge.stub.EraseUser(pb.EraseUserRequest(user_id="ann")))
    assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "repeat the call" in refusal.text


async def test_nobody_in_particular_can_not_be_erased(edge: Edge) -> None:
    refusal = await refused(edge.stub.EraseUser(pb.EraseUserRequest(user_id="")))
    assert (refusal.code, edge.eraser.erased) == (grpc.StatusCode.INVALID_ARGUMENT, [])


async def test_the_command_erases_the_user_from_exports_too_and_says_what_is_left(
    edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "home"))
    place = tmp_path / "home" / "exports" / "first"
    old, new = (f"{uuid7_of(UNTIL + timedelta(milliseconds=late))}" for late in (0, 1))
    with exporting(place, "feedback", "jsonl") as made:
        for response_id, user in ((old, "ann"), (new, "ann"), (old, "bob")):
            row: dict[str, Any] = {column.name: [] if column.many else None for column in FEEDBACK}
            stars = dict.fromkeys(("accuracy", "helpfulness", "clarity", "safety"), None)
            texts = {"text_feedback": f"of {user}", "session_id": f"s-{user}", "create_time": "2026-09-15T12:00:00Z"}
            made.add(row | texts | {"response_id": response_id, "user_id": user, "rating_dimensions": stars})
        made.finish({})
    (place.parent / "broken").mkdir()
    (place.parent / "broken" / "export.json").write_text("{")
    done = await edge.command("erase", "ann", "--yes", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["erased"]["exports"] == "1"
    assert ["broken" in each for each in said["pending"]] == [True]
    rows = list(rows_of(place))
    assert [row["text_feedback"] for row in rows] == ["", "of ann", "of bob"]
    assert rows[0]["user_id"].startswith("erased-")
    assert [row["user_id"] for row in rows[1:]] == ["ann", "bob"]
    again = await edge.command("erase", "ann", "--yes")
    assert again.exit_code == 0
    assert "Still to come" in again.output
    assert "unchanged: reward-000002, reward-000003" in again.output


async def test_the_command_erases_nobody_without_being_told_twice(edge: Edge) -> None:
    done = await edge.command("erase", "ann")
    assert done.exit_code == 2
    assert "--yes" in done.output
    assert edge.eraser.erased == []


def uuid7_of(moment: datetime) -> UUID:
    """The first one of that moment's millisecond."""
    return UUID(int=(moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) << 80 | 7 << 76)
