"""The measurements. A baseline is always measured in the same run, in turns with its rival."""

import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2_grpc

from benchmarks import load, noop, ratchets, stages, texts
from benchmarks.load import Load
from ratchet.v1 import inference_pb2 as pb
from ratchet.v1 import inference_pb2_grpc
from server.backends import codec
from server.settings import STARTER
from triton_models.manifest import read
from triton_models.serializer import RewardSerializer

Figures = dict[str, Any]
CALLERS = (1, 16)
VARIANTS = 32
"""Different inputs, so that no cache answers."""
TURNS = 4
"""So often rivals take turns."""


def start(home: Path) -> Figures:
    """Warm start to SERVING (aim: 8 s) and memory of the whole stack (aim: 1 GB), after a first start."""
    with ratchets.serving(home) as cold:
        cold_seconds = cold.start_seconds
    with ratchets.serving(home) as warm:
        memory = warm.memory_mb()
    return {"cold_seconds": cold_seconds, "warm_seconds": warm.start_seconds, "aim_seconds": 8.0, "memory_mb": memory}


async def generate(home: Path, seconds: float) -> Figures:
    """Generate at 1 and 16 callers, five candidates against one, and what Ratchet adds to its slowest candidate."""
    with ratchets.serving(home) as running:
        async with grpc.aio.insecure_channel(running.address) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            added: list[float] = []
            found: Figures = {}
            for callers in CALLERS:
                for candidates in (1, 5):
                    call = _generate_call(stub, candidates, added if callers == 1 and candidates == 5 else [])
                    result = await load.run(call, callers=callers, seconds=seconds)
                    found[f"{candidates} candidates, {callers} callers"] = asdict(result)
            five, one = (found[f"{n} candidates, 1 callers"]["p50"] for n in (5, 1))
            found["five against one, p50"] = five / one
            ordered = sorted(added)
            found["added_ms"] = {"p50": load.percentile(ordered, 50), "p99": load.percentile(ordered, 99)}
            return found


def _generate_call(stub: Any, candidates: int, added: list[float]) -> Callable[[int], Awaitable[object]]:
    async def call(index: int) -> object:
        query = texts.QUERIES[index % len(texts.QUERIES)]
        request = pb.GenerateRequest(
            query=query, candidate_count=candidates, session_id=f"bench-{index}", user_id="bench"
        )
        began = time.perf_counter()
        reply = await stub.Generate(request, timeout=60)
        seconds = time.perf_counter() - began
        slowest = max(each.latency.ToTimedelta().total_seconds() for each in reply.candidates)
        scoring = next(each.duration for each in reply.latencies if each.stage == "scoring")
        added.append((seconds - slowest - scoring.ToTimedelta().total_seconds()) * 1e3)
        return reply

    return call


async def latency(home: Path, seconds: float) -> Figures:
    """What Generate adds by stage, one caller, five candidates, all on: request id, user, session, log.

    Against a reward that computes nothing, so that scoring, too, is all Ratchet's and Triton's own; without tools and
    with those of the settings, in turns.
    """
    reward = noop_release(STARTER / "reward-000001", home)
    uses: dict[str, Any] = {"no tools": "TOOL_USE_NONE", "tools": "TOOL_USE_AUTO"}
    with ratchets.serving(home, reward=reward, minimum_reward=0) as running:
        async with grpc.aio.insecure_channel(running.address) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            calls: dict[str, list[stages.Parts]] = {name: [] for name in (*uses, "one candidate")}
            for turn in range(TURNS + 1):  # the first warms up
                for name, found in calls.items():
                    call = _timed_call(
                        stub, 1 if name == "one candidate" else 5, uses.get(name, "TOOL_USE_NONE"), found
                    )
                    await load.run(call, callers=1, seconds=seconds / TURNS if turn else 1.0, warm_up=0)
                    if not turn:
                        found.clear()
    figures = {name: stages.summary(found) for name, found in calls.items()}
    return {
        "calls": {name: len(found) for name, found in calls.items()},
        "stages_ms": {name: figures[name] for name in uses},
        "aims_ms": stages.AIMS_MS,
        "five_to_one": figures["no tools"][stages.WHOLE]["p50"] / figures["one candidate"][stages.WHOLE]["p50"],
        "five_to_one_aim": stages.FIVE_TO_ONE,
    }


def _timed_call(stub: Any, candidates: int, use: Any, found: list[stages.Parts]) -> Callable[[int], Awaitable[object]]:
    """A whole request, as an application sends it; its user and session come back every few calls."""

    async def call(index: int) -> object:
        request = pb.GenerateRequest(
            query=texts.QUERIES[index % len(texts.QUERIES)],
            candidate_count=candidates,
            request_id=str(uuid.uuid4()),
            user_id=f"bench-{index % VARIANTS}",
            session_id=f"bench-{index % VARIANTS}",
            tool_use=use,
        )
        began = time.perf_counter()
        reply = await stub.Generate(request, timeout=60)
        found.append(stages.parts(reply, time.perf_counter() - began))
        return reply

    return call


async def score(home: Path, reward: Path, seconds: float, callers: tuple[int, ...] = CALLERS) -> Figures:
    """Score of 5 responses of 128 tokens through Ratchet, against the same tensors sent to Triton directly."""
    release = read(reward)
    serializer = RewardSerializer.load(reward, release.serializer)
    # The rows must have 128 tokens together with the query and the marks.
    room = 128 - len(serializer.serialize("", texts.QUERIES[0], [""])[0])
    inputs = [texts.responses(reward, count=5, tokens=room, variant=variant) for variant in range(VARIANTS)]
    tensors = [serializer.pad(serializer.serialize("", texts.QUERIES[0], each)) for each in inputs]
    requests = [pb.ScoreRequest(query=texts.QUERIES[0], responses=each) for each in inputs]
    direct = [codec.encoder_request(release.id, each) for each in tensors]
    with ratchets.serving(home, reward=reward) as running:
        async with (
            grpc.aio.insecure_channel(running.address) as ours,
            grpc.aio.insecure_channel(running.triton) as triton,
        ):
            score_stub = inference_pb2_grpc.InferenceServiceStub(ours)
            infer_stub = service_pb2_grpc.GRPCInferenceServiceStub(triton)
            found: Figures = {"tokens": int(tensors[0].input_ids.shape[1])}
            for count in callers:
                through = await _alternate(
                    lambda index: score_stub.Score(requests[index % VARIANTS], timeout=60),
                    lambda index: infer_stub.ModelInfer(direct[index % VARIANTS], timeout=60),
                    count,
                    seconds,
                )
                found[f"{count} callers"] = through
            return found


async def _alternate(ours: Callable[[int], Any], theirs: Callable[[int], Any], callers: int, seconds: float) -> Figures:
    """Both in turns, twice, the better of each: other work on the machine then hits both alike."""
    mine, baseline = [], []
    for _ in range(2):
        mine.append(await load.run(ours, callers=callers, seconds=seconds / 2))
        baseline.append(await load.run(theirs, callers=callers, seconds=seconds / 2))
    best, rival = max(mine, key=_speed), max(baseline, key=_speed)
    return {"ratchet": asdict(best), "triton": asdict(rival), "throughput_ratio": best.per_second / rival.per_second}


def _speed(found: Load) -> float:
    return found.per_second


def noop_release(starter: Path, home: Path) -> Path:
    """A reward release that computes nothing, below `home`."""
    return noop.build(starter, home / "releases")
