"""That two server processes put each user into the same arm."""

import os
import subprocess
import sys
from pathlib import Path

from server.rollout.assignment import Unit, bucket_of

ROOT = Path(__file__).parents[2]
_PROGRAM = """
import sys
from server.rollout.assignment import Unit, bucket_of
for line in sys.stdin.read().split():
    print(bucket_of("salt", "tenant", Unit.USER, line))
"""


def test_another_process_with_another_hash_seed_agrees_on_every_bucket() -> None:
    users = [f"user-{number}" for number in range(500)]
    answers = [
        subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            input="\n".join(users),
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.split()
        for seed in ("1", "2")
    ]
    own = [str(bucket_of("salt", "tenant", Unit.USER, user)) for user in users]
    assert answers == [own, own]
