"""The whole loop in small: simulated users ask and rate through the API, and the trainer makes a release of it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from ratchet.v1 import feedback_pb2 as pb
from ratchet.v1 import feedback_pb2_grpc
from tests.conftest import new_home
from tests.e2e.serving import serving
from trainer.reward.scoring import Scorer
from trainer.starter import base

REPLIES = 100
USERS = 20
QUERY = "How long is the warranty?"


def ratchet(home: Path, *arguments: str) -> dict[str, Any]:
    """What the command prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments, "--json"],
        env=os.environ | {"RATCHET_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.timeout(600)
def test_what_simulated_users_say_becomes_a_run_with_a_verdict_and_a_release_that_scores() -> None:
    home = new_home()
    with serving(home, "--feedback-per-minute=10000", "--profile-budget=5", "--memory-budget=5") as server:
        target = server.started["serving"]
        address = f"--address={target}"
        plan = (f"--users={USERS}", f"--replies={REPLIES}", "--noisy=0.3", "--seed=5", "--pace=0")
        said = ratchet(home, "simulate", address, *plan)
        assert (said["rated"], said["stars"] + said["thumbs"]) == (REPLIES, REPLIES)
        assert 0.2 < said["by_noisy"] / REPLIES < 0.4

        settings = ("train.max_epochs=1", "train.threads=1", "gate.least_pairs=1")
        chosen = [part for each in settings for part in ("--set", each)]
        run = ratchet(home, "train", "reward", f"--base={base()}", *chosen)
        assert run["verdict"] in ("BETTER", "NOT_BETTER", "TOO_LITTLE_DATA")  # so few replies may say any of it
        assert run["reasons"]
        assert run["figures"]["steps"] > 0
        assert run["metrics"]["validation_pairs"] > 0
        assert bool(run["release"]) == (run["verdict"] == "BETTER")
        report = ratchet(home, "report", run["training_id"], address)
        assert (report["verdict"]["outcome"], report["verdict"]["reasons"]) == (run["verdict"], run["reasons"])
        failed = [each["sentence"] for each in report["verdict"]["clauses"] if each["passed"] is False]
        assert failed == ([] if run["verdict"] == "BETTER" else run["reasons"])
        assert report["served"]["precision"] in ("int8", "fp32")
        assert 0 < report["data"]["raters"]["count"] <= USERS
        assert run["compared_with"] == "reward-000001"

        with grpc.insecure_channel(target) as channel:
            stub = feedback_pb2_grpc.FeedbackServiceStub(channel)
            kept = stub.ListFeedback(pb.ListFeedbackRequest(page_size=1000), timeout=30).feedback
        assert any(each.is_training_data for each in kept) == (run["verdict"] == "BETTER")  # others stay eligible
        assert len(kept) == REPLIES + said["preferences"]
    if run["release"]:
        good, bad = Scorer.open(Path(run["release_path"])).scores("", QUERY, ["24 months.", "Why do you ask?"])
        assert good != bad
