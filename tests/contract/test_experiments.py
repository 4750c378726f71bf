"""Experiments over a loopback server with keys and a real Postgres, moved by the controller on planted users."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc
import pytest

from ratchet.v1 import experiment_pb2 as pb
from ratchet.v1 import experiment_pb2_grpc, rollout_pb2
from server.deliberation import Judges
from server.errors import Conflict, UnreadableRow
from server.experiments import decision
from server.experiments.controller import Controller
from server.experiments.types import Experiment, Plan, State
from server.identity import Role
from server.keyring import KeyRing
from server.rollout import evidence as gathering
from server.rollout import routes as routing
from server.rollout.observed import Mark
from server.rollout.registry import Looked
from server.rollout.routes import Routes
from server.rollout.table import Champions
from server.rollout.types import Kind, Variation
from server.rpc.experiments import ExperimentService
from server.rpc.interceptors import Admission, Guard
from server.rpc.messages import Defaults
from server.services import ROUTES
from server.storage import experiments as store
from server.storage import releases
from server.storage.erasure import Erasures
from server.storage.evidence import PostgresEvidence
from server.storage.experiments import PostgresExperiments
from server.storage.notices import listen
from server.storage.rollouts import PostgresRollouts
from server.storage.safety import PostgresSafetyReports
from tests.arms import log, row, say, thumbs
from tests.conftest import RunningStack
from tests.experiments import begun, experiment, part_of
from tests.path import StubPolicy, StubReward
from tests.registered import two
from tests.rollouts import LAN
from tests.turns import a_turn
from tests.unit.test_keyring import Store
from tests.unit.test_rpc import refused

SELECTION = pb.ExperimentVariant(name="warm", selection={"method": 2, "temperature": 0.5})
PROMPT = pb.ExperimentVariant(prompt={"instructions": "Trả lời ngắn gọn."})
INTERFACE = pb.ExperimentVariant(name="big-buttons", interface={})
RUNNING, HELD, STOPPED = (pb.ExperimentState.Value(f"EXPERIMENT_STATE_{each.name}") for each in State)


class Edge:
    """A tenant of its own and an operator's key; and the controller."""

    def __init__(self, pool: asyncpg.Pool, digest: Any) -> None:
        self.pool, self.keys = pool, Store()
        self.experiments, self.source = PostgresExperiments(pool), PostgresEvidence(pool, digest)
        self.controller = Controller(self.experiments, self.source)
        self.tenant = f"t-{uuid4().hex}"
        self.key = self.keys.add(Role.OPERATOR, tenant=self.tenant)
        self.stub: Any = None

    async def call(self, method: str, key: str = "", **fields: Any) -> Any:
        metadata = (("authorization", f"Bearer {key or self.key}"),)
        request = getattr(pb, f"{method}Request")(**fields)
        return await getattr(self.stub, method)(request, metadata=metadata, timeout=30)

    async def start(self, **fields: Any) -> Any:
        return (await self.call("StartExperiment", **{"name": "warmer", "variant": SELECTION, **fields})).experiment

    async def get(self, experiment_id: str) -> Any:
        return await self.call("GetExperiment", experiment_id=experiment_id)

    async def planted(
        self, of: Experiment, users: int = 600, liked: float = 0.7, seconds: float = 1.0, treated: float = 0.5
    ) -> list[UUID]:
        """Users of both arms, each with a reply and a rating; the variant's like and take as said. Gives the variant's
        replies."""
        rows, said = [], []
        for number in range(users):
            own = number < users * treated
            name = {"tenant_id": self.tenant, "reward_score": 0.5 + number % 7 / 20, "quality": 0.8 + number % 5 / 50}
            rows.append(row(part_of(of, own), seconds=(seconds if own else 1.0) * (1 + number % 997 / 5000), **name))
            up = number % 100 < 100 * (liked if own else 0.7)
            said.append(thumbs(rows[-1], reaction_type="thumbs_up" if up else "thumbs_down"))
        await log(self.pool, rows)
        await say(self.pool, said)
        return [each["response_id"] for each in rows[: int(users * treated)]]

    async def reported(self, reply: UUID) -> UUID:
        """A safety report on a reply."""
        row_: Any = await self.pool.fetchrow(
            "SELECT tenant_id, response_id, user_id, timestamp, policy_release FROM conversation_logs"
            " WHERE response_id = $1",
            reply,
        )
        said = thumbs(dict(row_), kind="safety_report", reaction_type=None)
        await say(self.pool, [said])
        found: UUID = said["feedback_id"]
        return found


async def settle(pool: asyncpg.Pool) -> None:
    await pool.execute("UPDATE experiments SET state = 'stopped', version = version + 1 WHERE state <> 'stopped'")


@pytest.fixture
async def edge(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Edge]:
    for module in (store, releases):
        for name in ("READING", "WRITING"):
            monkeypatch.setattr(module, name, 20.0)  # a busy machine is no Postgres that is away
    monkeypatch.setattr(gathering, "AT_ONCE", 30.0)
    monkeypatch.setattr(gathering, "REFRESH", 0.0)
    monkeypatch.setattr(routing, "STALE_SECONDS", 60.0)
    monkeypatch.setattr(gathering, "RESTING", 0.0)
    await settle(pool)
    edge = Edge(pool, (await Erasures.open(pool)).digest)
    ring = KeyRing(edge.keys, grace=60, every=0.05, at_most_every=0)
    await ring.start()
    server = grpc.aio.server(interceptors=[Guard(Admission(limit=64, watch_limit=4), ring)])
    service = ExperimentService(edge.experiments, PostgresSafetyReports(pool), Defaults())
    experiment_pb2_grpc.add_ExperimentServiceServicer_to_server(service, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        edge.stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
        yield edge
    await server.stop(0)
    await ring.stop()
    await edge.controller.close()
    await settle(pool)


# Starting, listing, stopping


async def test_one_is_started_shown_and_stopped_and_the_audit_says_who(edge: Edge) -> None:
    made = await edge.start(share=0.3, reason="Ấm hơn?", goals=rollout_pb2.RolloutGoals(gain=0.02))
    assert (made.state, made.kind, made.share, made.goals.gain) == (RUNNING, pb.EXPERIMENT_KIND_SELECTION, 0.3, 0.02)
    assert made.variant == SELECTION
    assert list(made.to_set) == ["RATCHET_SELECTION=weighted", "RATCHET_SELECTION_TEMPERATURE=0.5"]
    assert made.salt, "drawn for this experiment"
    stopped = (await edge.call("StopExperiment", experiment_id=made.experiment_id, reason="Enough.")).experiment
    assert (stopped.state, stopped.version, stopped.reason) == (STOPPED, 2, "Enough.")
    again = (await edge.call("StopExperiment", experiment_id=made.experiment_id)).experiment
    assert again == stopped, "it has stopped"
    found = await edge.get(made.experiment_id)
    assert [(each.trigger, each.actor, each.is_person, each.reason) for each in found.events] == [
        ("stop", f"key of {edge.tenant}", True, "Enough."),
        ("start", f"key of {edge.tenant}", True, "Ấm hơn?"),
    ]


async def test_the_same_request_many_times_at_once_is_one_experiment(edge: Edge) -> None:
    request_id = f"một {edge.tenant}"
    made = await asyncio.gather(*(edge.start(request_id=request_id) for _ in range(10)))
    assert len({each.experiment_id for each in made}) == 1
    refusal = await refused(edge.start(request_id=request_id, share=0.2))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_one_of_each_kind_runs_and_no_two_of_one(edge: Edge) -> None:
    made = [await edge.start(variant=each) for each in (SELECTION, PROMPT, INTERFACE)]
    for variant in (SELECTION, PROMPT, INTERFACE):
        refusal = await refused(edge.start(variant=variant))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EXPERIMENT_NOT_POSSIBLE")
    await edge.call("StopExperiment", experiment_id=made[1].experiment_id)
    assert (await edge.start(variant=PROMPT)).state == RUNNING
    under_way = (await edge.call("ListExperiments", active_only=True)).experiments
    assert len(under_way) == 3
    only = (await edge.call("ListExperiments", kind=pb.EXPERIMENT_KIND_PROMPT, page_size=1)).experiments
    assert [each.state for each in only] == [RUNNING]
    first = await edge.call("ListExperiments", page_size=2)
    rest = await edge.call("ListExperiments", page_size=2, page_token=first.next_page_token)
    assert {each.experiment_id for each in first.experiments}.isdisjoint(
        each.experiment_id for each in rest.experiments
    )


async def test_operators_start_and_stop_trainers_only_read_and_what_is_not_there_is_said(edge: Edge) -> None:
    made = await edge.start()
    trainer = edge.keys.add(Role.TRAINER, tenant=edge.tenant)
    assert (await edge.call("GetExperiment", trainer, experiment_id=made.experiment_id)).experiment == made
    for method, fields in (
        ("StartExperiment", {"name": "a", "variant": PROMPT}),
        ("StopExperiment", {"experiment_id": made.experiment_id}),
    ):
        refusal = await refused(edge.call(method, trainer, **fields))
        assert refusal.code is grpc.StatusCode.PERMISSION_DENIED
    for method in ("GetExperiment", "StopExperiment"):
        refusal = await refused(edge.call(method, experiment_id=str(uuid4())))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "EXPERIMENT_NOT_FOUND")
    for bad in ({"name": "a\nb"}, {"salt": "a\0"}, {"variant": pb.ExperimentVariant()}):
        assert (await refused(edge.start(**bad))).code is grpc.StatusCode.INVALID_ARGUMENT


async def test_it_is_stopped_although_only_a_newer_server_can_read_what_was_seen(edge: Edge) -> None:
    made = await edge.start()
    seen = Looked(made.version, datetime.now(UTC), "No verdict yet.", {"rollout_id": made.experiment_id, "moods": 3})
    await edge.experiments.look(made.experiment_id, seen)
    assert (await edge.get(made.experiment_id)).look.reason == "No verdict yet."
    stopped = (await edge.call("StopExperiment", experiment_id=made.experiment_id)).experiment
    assert stopped.state == STOPPED


async def test_an_experiment_that_only_a_newer_server_can_read_is_told_as_such(edge: Edge) -> None:
    made = await edge.start(name="moods")
    newer = """UPDATE experiments SET plan = plan || '{"moods": 3}' WHERE experiment_id = $1"""
    await edge.pool.execute(newer, UUID(made.experiment_id))
    for method in ("GetExperiment", "StopExperiment"):
        refusal = await refused(edge.call(method, experiment_id=made.experiment_id))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
        assert "The experiment moods was written by a newer Ratchet" in refusal.text
    with pytest.raises(UnreadableRow):  # who leads must know
        await edge.controller.look()


async def test_of_two_who_write_one_is_told_and_the_audit_never_changes(edge: Edge) -> None:
    made = await edge.experiments.create(begun(experiment(started_at=datetime.now(UTC))))
    step = decision.stop(made, LAN, "", None, datetime.now(UTC))
    await edge.experiments.apply(step)
    with pytest.raises(Conflict):
        await edge.experiments.apply(step)
    assert len(await edge.experiments.events(made.experiment_id, 10)) == 2
    for change in ("UPDATE experiment_events SET reason = ''", "DELETE FROM experiment_events"):
        with pytest.raises(asyncpg.RaiseError, match="only grows"):
            await edge.pool.execute(change)


# What the controller makes of it


async def running(edge: Edge, kind: Variation = Variation.SELECTION, **changes: Any) -> Experiment:
    return await edge.experiments.create(begun(experiment(kind, started_at=datetime.now(UTC), **changes)))


@pytest.mark.parametrize("kind", list(Variation))
async def test_a_better_variant_meets_its_criteria_and_nothing_changes_by_itself(edge: Edge, kind: Variation) -> None:
    made = await running(edge, kind)
    await edge.planted(made, users=3000, liked=0.9)
    await edge.controller.look()
    found = await edge.get(made.experiment_id)
    assert found.experiment.state == RUNNING
    assert "All success criteria are met" in found.look.reason
    states = {each.name: each.state for each in found.look.evidence.measures if not each.guardrail}
    assert states == dict.fromkeys(("satisfaction", "safety", "quality", "latency"), rollout_pb2.MEASURE_STATE_MET)
    assert found.look.evidence.HasField("days_left")


@pytest.mark.parametrize(
    ("planted", "why"),
    [
        ({"liked": 0.3}, "Satisfaction"),
        ({"seconds": 1.5}, "latency"),
        ({"treated": 0.7}, "Shares of users"),
    ],
)
async def test_a_variant_that_misses_a_guardrail_stops_by_itself(
    edge: Edge, planted: dict[str, float], why: str
) -> None:
    made = await running(edge)
    await edge.planted(made, users=1500, **planted)
    await edge.controller.look()
    found = await edge.get(made.experiment_id)
    assert found.experiment.state == STOPPED
    assert why in found.experiment.reason
    assert (found.events[0].actor, found.events[0].is_person) == ("controller", False)
    assert found.events[0].evidence.measures


async def test_too_few_users_say_nothing(edge: Edge) -> None:
    made = await running(edge)
    await edge.planted(made, users=60, liked=1.0)
    await edge.controller.look()
    found = await edge.get(made.experiment_id)
    assert found.experiment.state == RUNNING
    assert "All success criteria are met" not in found.look.reason


async def test_it_stops_at_its_longest_time(edge: Edge) -> None:
    made = await running(edge, plan=Plan(share=0.5, longest_seconds=60, salt="s"))
    await edge.pool.execute(
        "UPDATE experiments SET started_at = $2 WHERE experiment_id = $1",
        *(UUID(made.experiment_id), datetime.now(UTC) - timedelta(seconds=61)),
    )
    await edge.controller.look()
    found = (await edge.get(made.experiment_id)).experiment
    assert (found.state, "longest time" in found.reason) == (STOPPED, True)


async def test_a_safety_report_holds_it_and_a_person_decides(edge: Edge) -> None:
    made = await running(edge)
    replies = await edge.planted(made, users=20)
    first = await edge.reported(replies[0])
    await edge.controller.look()
    found = await edge.get(made.experiment_id)
    assert found.experiment.state == HELD
    assert [each.feedback_id for each in found.safety_reports] == [str(first)]
    assert await edge.experiments.under_way() != []

    asked = {"experiment_id": made.experiment_id, "feedback_id": str(first)}
    report = (await edge.call("DecideExperimentReport", **asked, confirmed=False)).report
    assert (report.confirmed, report.decided_by) == (False, f"key of {edge.tenant}")
    await edge.controller.look()
    assert (await edge.get(made.experiment_id)).experiment.state == RUNNING

    second = await edge.reported(replies[1])
    await edge.call("DecideExperimentReport", **{**asked, "feedback_id": str(second)}, confirmed=True)
    await edge.controller.look()
    found = await edge.get(made.experiment_id)
    assert (found.experiment.state, "confirmed" in found.experiment.reason) == (STOPPED, True)
    assert [each.trigger for each in found.events] == ["stop", "release", "hold", "start"]


async def test_reports_on_the_usual_are_not_the_experiments(edge: Edge) -> None:
    made = await running(edge)
    usual = row(part_of(made, False), tenant_id=edge.tenant)
    await log(edge.pool, [usual])
    feedback = await edge.reported(usual["response_id"])
    await edge.controller.look()
    assert (await edge.get(made.experiment_id)).experiment.state == RUNNING
    asked = {"experiment_id": made.experiment_id, "feedback_id": str(feedback), "confirmed": True}
    refusal = await refused(edge.call("DecideExperimentReport", **asked))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "FEEDBACK_NOT_FOUND")


async def test_calls_without_a_reply_count_as_the_variants_failures(edge: Edge) -> None:
    made = await running(edge)
    await edge.planted(made, users=100)
    rollouts = PostgresRollouts(edge.pool)
    for _ in range(3):
        await rollouts.failed(edge.tenant, uuid4().bytes * 2, [part_of(made, True)], "POLICY_UNAVAILABLE")
    found = await edge.source.news(made, Mark())
    assert sum(each.calls for each in found.failures) == 3


# In a server process


async def test_a_process_hears_of_it_within_a_second_and_gives_it_back_at_once(edge: Edge, stack: RunningStack) -> None:
    rollouts = PostgresRollouts(edge.pool)
    reward, _ = await two(rollouts, Kind.REWARD)
    policy, _ = await two(rollouts, Kind.POLICY)
    judges: Any = Judges((), None, "", *([None] * 3))  # type: ignore[arg-type]
    first = StubPolicy()
    first.release = SimpleNamespace(id=policy)

    async def never(name: str) -> Any:
        raise AssertionError(name)

    routes = Routes(
        rollouts,
        Champions(first, StubReward(reward)),
        judges,
        open_policy=never,
        open_reward=never,
        answers=never,
        digest=lambda tenant, user: user.encode(),
        listen=lambda heard: listen(stack.endpoints.database_url, ROUTES, heard),
        experiments=edge.experiments,
    )
    await routes.start()
    try:
        assert routes.of(a_turn()).assignments == ()
        made = await edge.start(share=0.9)
        await until(lambda: routes.of(a_turn()).assignments != ())
        arms = [routes.of(a_turn(user_id=f"u{number}")) for number in range(100)]
        assert 75 < sum(bool(each.overrides) for each in arms) < 100
        await edge.call("StopExperiment", experiment_id=made.experiment_id)
        await until(lambda: routes.of(a_turn()).assignments == ())
    finally:
        await routes.stop()


async def until(seen: Any) -> None:
    async with asyncio.timeout(20):
        while not seen():
            await asyncio.sleep(0.02)
