"""Rollouts through a whole server of two processes: arms that both agree on, a safety report, rolling back, kill -9."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest

from ratchet.v1 import (
    feedback_pb2,
    feedback_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
    release_pb2,
    release_pb2_grpc,
    rollout_pb2,
    rollout_pb2_grpc,
)
from server.settings import STARTER
from tests.conftest import new_home
from tests.e2e.serving import Serving, serving
from tests.e2e.test_feedback import CONNECTIONS, connected
from triton_models.manifest import read, verify, write

USERS = tuple(f"user-{number}" for number in range(10))
ASKED = 3
"""Times, through other connections each."""
SECONDS = 60.0
FLAGS = ("--processes=2", "--deadline=5", "--max-deadline=5", "--candidates=2")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Ratchet:
    """One that serves, and connections to both of its processes."""

    server: Serving
    channels: Sequence[grpc.Channel]

    @property
    def rollouts(self) -> Any:
        return rollout_pb2_grpc.RolloutServiceStub(self.channels[0])

    def get(self, rollout_id: str) -> rollout_pb2.GetRolloutResponse:
        found: rollout_pb2.GetRolloutResponse = self.rollouts.GetRollout(
            rollout_pb2.GetRolloutRequest(rollout_id=rollout_id), timeout=20
        )
        return found

    def state(self, rollout_id: str) -> str:
        state = rollout_pb2.RolloutState.Name(self.get(rollout_id).rollout.state)
        return state.removeprefix("ROLLOUT_STATE_")

    def ask(self, user: str, channel: grpc.Channel | None = None) -> inference_pb2.GenerateResponse:
        request = inference_pb2.GenerateRequest(
            query="How long is the warranty?", user_id=user, max_output_tokens=8, tool_use=inference_pb2.TOOL_USE_NONE
        )
        stub = inference_pb2_grpc.InferenceServiceStub(channel or self.channels[0])
        reply: inference_pb2.GenerateResponse = stub.Generate(request, timeout=5)
        return reply

    def publish(self, directory: Path) -> None:
        request = release_pb2.PublishReleaseRequest(directory=str(directory))
        release_pb2_grpc.ReleaseServiceStub(self.channels[0]).PublishRelease(request, timeout=30)

    def retire(self, release: str) -> None:
        request = release_pb2.RetireReleaseRequest(release=release)
        release_pb2_grpc.ReleaseServiceStub(self.channels[0]).RetireRelease(request, timeout=20)

    def start(self, challenger: Path) -> str:
        """Publishes and starts; gives the rollout's id once it has users."""
        self.publish(challenger)
        stages = [rollout_pb2.RolloutStage(share=share) for share in (0.5, 1.0)]
        wanted = rollout_pb2.RolloutPlan(stages=stages, no_shadow=True, salt="e2e")
        request = rollout_pb2.StartRolloutRequest(release=challenger.name, plan=wanted, reason="a test")
        rollout_id: str = self.rollouts.StartRollout(request, timeout=20).rollout.rollout_id
        eventually(lambda: self.state(rollout_id) == "CANARY")
        return rollout_id


def eventually(look: Callable[[], Found]) -> Found:
    """What it gives once that is true."""
    deadline = time.monotonic() + SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.1)
    return found


@contextmanager
def ratchet(home: Path) -> Iterator[Ratchet]:
    """Serves from `home`, with connections that both processes have some of."""
    with serving(home, *FLAGS) as server:
        address = str(server.started["serving"])
        deadline = time.monotonic() + SECONDS
        while True:
            with ExitStack() as stack:
                alone = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
                channels = [
                    stack.enter_context(grpc.insecure_channel(address, options=alone)) for _ in range(CONNECTIONS)
                ]
                for each in channels:
                    grpc.channel_ready_future(each).result(20)
                if connected(server, int(address.rpartition(":")[2])) >= 2:
                    yield Ratchet(server, channels)
                    return
            assert time.monotonic() < deadline, "there is one process only"
            time.sleep(0.5)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    path = new_home()
    yield path
    shutil.rmtree(path, ignore_errors=True)


def copied(home: Path, release: str, name: str) -> Path:
    """The starter's release under another name: another Triton model that does the same."""
    target = home / "made" / name
    shutil.copytree(STARTER / release, target)
    write(target, replace(read(target), id=name))
    return target


def arms(of: Ratchet, release_of: Callable[[inference_pb2.GenerateResponse], str]) -> dict[str, str]:
    """The release that each user gets, asked through connections in turn; {} while a user gets several."""
    found: dict[str, set[str]] = {user: set() for user in USERS}
    for number, user in enumerate(USERS):
        for turn in range(ASKED):
            channel = of.channels[(number + turn * CONNECTIONS // ASKED) % CONNECTIONS]
            found[user].add(release_of(of.ask(user, channel)))
    return {user: releases.pop() for user, releases in found.items()} if all(map(_one, found.values())) else {}


def _one(releases: set[str]) -> bool:
    return len(releases) == 1


def by_reward(reply: inference_pb2.GenerateResponse) -> str:
    return reply.reward_release


def by_policy(reply: inference_pb2.GenerateResponse) -> str:
    return reply.policy_release


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[Ratchet]:
    with ratchet(home) as found:
        yield found


def test_both_processes_agree_on_each_users_arm_and_a_safety_report_gives_all_traffic_back(
    home: Path, served: Ratchet
) -> None:
    """Then a person rolls back, and the audit says who did what."""
    rollout_id = served.start(copied(home, "reward-000001", "reward-000077"))
    found = eventually(lambda: both(arms(served, by_reward)))
    assert set(found.values()) == {"reward-000001", "reward-000077"}
    treated = next(user for user, release in found.items() if release == "reward-000077")

    report(served, treated)
    eventually(lambda: served.state(rollout_id) == "PAUSED")
    paused = served.get(rollout_id).rollout
    assert [pause.cause for pause in paused.pauses] == [rollout_pb2.ROLLOUT_PAUSE_CAUSE_SAFETY]
    assert paused.share == 0
    assert eventually(lambda: set(arms(served, by_reward).values()) == {"reward-000001"})

    request = rollout_pb2.RollBackRolloutRequest(rollout_id=rollout_id, reason="It was unsafe.")
    rolling = served.rollouts.RollBackRollout(request, timeout=20).rollout
    assert rolling.state == rollout_pb2.ROLLOUT_STATE_ROLLING_BACK
    audit = [(each.trigger, each.is_person) for each in reversed(served.get(rollout_id).events)]
    assert audit == [
        ("draft", True),
        ("start", True),
        ("advance", False),
        ("advance", False),
        ("suspend", False),
        ("roll_back", True),
    ]


def test_a_retired_release_is_unloaded_and_leaves_the_repository_until_it_is_published_again(
    home: Path, served: Ratchet
) -> None:
    """Triton lets go of it first."""
    name, place = "reward-000078", home / "models" / "reward-000078"
    under_way = rollout_pb2.ListRolloutsRequest(active_only=True)
    eventually(lambda: not served.rollouts.ListRollouts(under_way, timeout=20).rollouts)
    rollout_id = served.start(copied(home, "reward-000001", name))
    assert place.is_dir()
    for release, says in (("reward-000001", "champion"), (name, "under way")):
        with pytest.raises(grpc.RpcError, match=says) as refusal:
            served.retire(release)
        assert refusal.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    served.rollouts.RollBackRollout(rollout_pb2.RollBackRolloutRequest(rollout_id=rollout_id), timeout=20)
    eventually(lambda: served.state(rollout_id) == "ROLLED_BACK")
    served.retire(name)
    eventually(lambda: not place.exists())
    assert (home / "made" / name / "release.json").is_file()
    eventually(lambda: not list((home / "models.staging").glob("retired-*")))
    assert verify(home / "models" / "reward-000001").id == "reward-000001"
    served.publish(home / "made" / name)
    assert verify(place).id == name


def test_after_kill_9_a_rollout_goes_on_where_it_stood_with_the_same_users(home: Path, served: Ratchet) -> None:
    """The last test of this server, which is killed with the leader in it."""
    rollout_id = served.start(copied(home, "policy-000001", "policy-000077"))
    before = eventually(lambda: both(arms(served, by_policy)))
    version = served.get(rollout_id).rollout.version
    served.server.kill()
    with ratchet(home) as again:
        assert again.get(rollout_id).rollout.version == version
        assert eventually(lambda: arms(again, by_policy) == before)
        promote = rollout_pb2.PromoteRolloutRequest(rollout_id=rollout_id, version=version, reason="It is fine.")
        promoted = eventually(lambda: promotable(again, promote))
        assert (promoted.state, promoted.stage) == (rollout_pb2.ROLLOUT_STATE_CANARY, 1)
        assert eventually(lambda: grown(arms(again, by_policy), before))


def both(found: dict[str, str]) -> dict[str, str]:
    """The arms, once there are two."""
    return found if len(set(found.values())) == 2 else {}


def grown(found: dict[str, str], before: dict[str, str]) -> dict[str, str]:
    """The arms, once more users are treated and none is not who was."""
    treated, were = ({u for u, release in each.items() if release == "policy-000077"} for each in (found, before))
    return found if treated > were else {}


def report(served: Ratchet, user: str) -> None:
    reply = served.ask(user)
    said = feedback_pb2.SafetyReport(category=feedback_pb2.SAFETY_CATEGORY_DANGEROUS, detail="It told me to.")
    request = feedback_pb2.SubmitFeedbackRequest(response_id=reply.response_id, user_id=user, safety_report=said)
    feedback_pb2_grpc.FeedbackServiceStub(served.channels[0]).SubmitFeedback(request, timeout=20)


def promotable(served: Ratchet, request: rollout_pb2.PromoteRolloutRequest) -> Any:
    """The promoted rollout; None while the new leader does not know yet that all is ready."""
    try:
        return served.rollouts.PromoteRollout(request, timeout=20).rollout
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
            raise
        return None
