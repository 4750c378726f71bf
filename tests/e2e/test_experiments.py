"""An experiment through a whole server and the command line: users' arms, what they are shown, and its end at once."""

import json
import shutil
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from cli.main import ratchet
from ratchet.v1 import inference_pb2, inference_pb2_grpc
from tests.conftest import new_home
from tests.e2e.serving import serving

USERS = tuple(f"user-{number}" for number in range(8))
SECONDS = 30.0


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Its address."""
    home = new_home()
    with serving(home, "--deadline=10", "--candidates=2", "--exploration=0", "--regenerate=off") as found:
        yield str(found.started["serving"])
    shutil.rmtree(home, ignore_errors=True)


def run(server: str, *arguments: str) -> Any:
    done = CliRunner().invoke(ratchet, ["experiment", *arguments, "--address", server, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def ask(server: str) -> dict[str, inference_pb2.GenerateResponse]:
    """Each user's reply."""
    with grpc.insecure_channel(server) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        requests = {
            user: inference_pb2.GenerateRequest(
                query="How long is the warranty?",
                user_id=user,
                max_output_tokens=8,
                tool_use=inference_pb2.TOOL_USE_NONE,
            )
            for user in USERS
        }
        return {user: stub.Generate(request, timeout=20) for user, request in requests.items()}


def eventually(server: str, seen: Any) -> dict[str, inference_pb2.GenerateResponse]:
    deadline = time.monotonic() + SECONDS
    while not seen(found := ask(server)):
        assert time.monotonic() < deadline, "it never came to that"
    return found


def test_users_have_the_variant_until_it_is_stopped(server: str) -> None:
    usual = ask(server)
    assert {len(each.candidates) for each in usual.values()} == {2}
    assert not any(each.experiments for each in usual.values())

    more = run(server, "start", "more", "--candidates", "3", "--method", "weighted", "--share", "50", "--salt", "e2e")
    run(server, "start", "buttons", "--interface", "--variant", "big", "--share", "50", "--salt", "e2e-2")
    both = eventually(
        server,
        lambda found: (
            all(each.experiments for each in found.values())
            and any(len(each.candidates) == 3 for each in found.values())
        ),
    )
    treated = {user for user, each in both.items() if len(each.candidates) == 3}
    assert 0 < len(treated) < len(USERS)
    for user, reply in both.items():
        weighted = inference_pb2.SELECTION_METHOD_WEIGHTED
        assert (reply.selection_method == weighted) is (user in treated)
        (shown,) = reply.experiments
        assert (shown.experiment, shown.variant) in {("buttons", "big"), ("buttons", "")}
        assert shown.challenger is bool(shown.variant)
    again = ask(server)
    assert {user for user, each in again.items() if len(each.candidates) == 3} == treated, "they stay where they are"
    assert [each.experiments for each in again.values()] == [each.experiments for each in both.values()]

    found = run(server, "show", "selection")
    assert found["experiment"]["to_set"] == ["RATCHET_CANDIDATES=3", "RATCHET_SELECTION=weighted"]
    listed = run(server, "list", "--active")["experiments"]
    assert [each["name"] for each in listed] == ["buttons", "more"]
    stopped = run(server, "stop", more["experiment_id"], "--reason", "Enough.")
    assert stopped["state"] == "EXPERIMENT_STATE_STOPPED"
    eventually(server, lambda replies: {len(each.candidates) for each in replies.values()} == {2})
    run(server, "stop", "interface")
    eventually(server, lambda replies: not any(each.experiments for each in replies.values()))


def test_the_leader_looks_at_it_and_says_why_it_waits(server: str) -> None:
    run(server, "start", "short", "--instructions", "Answer in one sentence.", "--share", "50")
    deadline = time.monotonic() + SECONDS
    while "look" not in (found := run(server, "show", "prompt")):
        assert time.monotonic() < deadline, "nobody looked at it"
        time.sleep(0.2)
    assert "Too little" in found["look"]["reason"] or "no verdict yet" in found["look"]["reason"]
    run(server, "stop", "prompt")
