"""A run's curve, and who watches a run: each change and each point once, until it ends or the watcher must go."""

from itertools import pairwise
from uuid import UUID

import grpc
import pytest

from ratchet.v1 import training_pb2 as pb
from server.identity import Role
from tests.training_api import Edge
from tests.unit.test_rpc import refused


async def test_a_long_curve_is_thinned_and_keeps_its_ends_and_what_validation_said(edge: Edge) -> None:
    run = await edge.start()
    validated = (999, 1999, 2999)
    await edge.point(run.training_id, *(step for step in range(3001) if step not in validated))
    await edge.point(run.training_id, *validated, validation_loss=0.5)
    points = (await edge.call("GetTraining", training_id=run.training_id)).points
    steps = [point.step for point in points]
    assert len(steps) <= 1000
    assert len(steps) > 400
    assert steps == sorted(steps)
    assert steps[-1] == 3000
    assert max(after - before for before, after in pairwise(steps)) <= 8
    assert [point.step for point in points if "validation_loss" in point.values] == list(validated)
    few = await edge.start()
    await edge.point(few.training_id, *range(7))
    assert len((await edge.call("GetTraining", training_id=few.training_id)).points) == 7


async def test_who_watches_sees_the_state_each_change_each_point_once_and_the_end(edge: Edge) -> None:
    run = await edge.start()
    await edge.point(run.training_id, 0, 1)
    async with edge.watching(run.training_id) as messages:
        first = await anext(messages)
        assert (first.training, [p.step for p in first.points], first.restarted) == (run, [0, 1], True)
        await edge.point(run.training_id, 2, 5)
        second = await anext(messages)
        assert ([p.step for p in second.points], second.restarted) == ([2, 5], False)
        assert not second.HasField("training"), "the run itself has not changed"
        await edge.run(run.training_id, state="RUNNING", stage="training")
        changed = await anext(messages)
        while changed.training.stage != "training":
            changed = await anext(messages)
        assert (changed.training.state, len(changed.points)) == (pb.TRAINING_STATE_RUNNING, 0)
        await edge.point(run.training_id, *range(6, 6 + 2500))
        await edge.run(run.training_id, state="SUCCEEDED", verdict="BETTER", release="reward-000009")
        steps, last = [], None
        async for message in messages:
            steps += [point.step for point in message.points]
            last = message.training if message.HasField("training") else last
    assert steps == list(range(6, 6 + 2500))
    assert last is not None
    assert last.release == "reward-000009"


async def test_an_ended_run_is_told_once_and_the_stream_ends(edge: Edge) -> None:
    run = await edge.start()
    await edge.call("CancelTraining", training_id=run.training_id)
    async with edge.watching(run.training_id) as messages:
        assert [message.training.state async for message in messages] == [pb.TRAINING_STATE_CANCELLED]


@pytest.mark.parametrize("attempts", [1, 2], ids=["handed back and taken up at once", "taken up after a crash"])
async def test_another_attempt_takes_the_place_of_the_points_that_it_writes_anew(edge: Edge, attempts: int) -> None:
    run = await edge.start()
    await edge.run(run.training_id, state="RUNNING", attempts=1)
    await edge.point(run.training_id, *range(50))
    async with edge.watching(run.training_id) as messages:
        assert len((await anext(messages)).points) == 50
        await edge.run(run.training_id, attempts=attempts, stage="snapshot")
        taken_up = await anext(messages)
        while taken_up.training.stage != "snapshot":
            taken_up = await anext(messages)
        assert not taken_up.points, "the curves stay until there is something else"
        async with edge.pool.acquire() as connection, connection.transaction():
            anew = "DELETE FROM training_points WHERE training_id = $1 AND step >= 20"
            await connection.execute(anew, UUID(run.training_id))
            await edge.point(run.training_id, 20, 21, on=connection)
        message = await anext(messages)
        assert (message.restarted, [point.step for point in message.points]) == (True, list(range(22)))
        await edge.point(run.training_id, 22, 23)
        message = await anext(messages)
        assert (message.restarted, [point.step for point in message.points]) == (False, [22, 23])


async def test_a_watch_ends_when_the_server_stops_when_the_key_is_revoked_and_beyond_its_places(edge: Edge) -> None:
    run = await edge.start()
    guest = edge.keys.add(Role.OPERATOR, tenant=edge.tenant)
    async with edge.watching(run.training_id, guest) as theirs, edge.watching(run.training_id) as ours:
        await anext(theirs)
        await anext(ours)
        async with edge.watching(run.training_id) as third, edge.watching(run.training_id) as fourth:
            await anext(third)
            await anext(fourth)
            async with edge.watching(run.training_id) as fifth:
                assert (await refused(anext(fifth))).reason == "OVERLOADED"
        edge.keys.revoke(guest)
        assert (await refused(anext(theirs))).code is grpc.StatusCode.UNAUTHENTICATED
        edge.draining = True
        assert (await refused(anext(ours))).reason == "DRAINING"
