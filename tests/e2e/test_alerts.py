"""Alerts of a whole server: from a safety report to the terminal and a webhook, and over a kill."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from ratchet.v1 import alert_pb2 as pb
from ratchet.v1 import alert_pb2_grpc, feedback_pb2, feedback_pb2_grpc, inference_pb2, inference_pb2_grpc
from server.alerts.rules import RULES
from tests.e2e.serving import serving
from tests.webhook_receiver import SECRET, Receiver, receiving

SECONDS = 60


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving(lambda _: 503) as found:
        yield found


async def command(address: str, *arguments: str) -> list[dict[str, Any]]:
    """`ratchet alerts ... --json`."""
    process = await _started(address, *arguments)
    out, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    assert process.returncode == 0
    return [json.loads(line) for line in out.splitlines()]


async def _started(address: str, *arguments: str) -> asyncio.subprocess.Process:
    given = ["-m", "cli.main", "alerts", *arguments, "--json", "--address", address]
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, *given, stdout=pipe, stderr=pipe)


async def _line(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(await asyncio.wait_for(process.stdout.readline(), SECONDS))
    return found


def _report(address: str, user: str) -> None:
    with grpc.insecure_channel(address) as channel:
        asked = inference_pb2.GenerateRequest(query="Làm sao đây?", user_id=user)
        reply = inference_pb2_grpc.InferenceServiceStub(channel).Generate(asked, timeout=SECONDS)
        category = feedback_pb2.SafetyReport(category=feedback_pb2.SAFETY_CATEGORY_TOXIC)
        feedback_pb2_grpc.FeedbackServiceStub(channel).SubmitFeedback(
            feedback_pb2.SubmitFeedbackRequest(response_id=reply.response_id, user_id=user, safety_report=category),
            timeout=SECONDS,
        )


async def test_a_safety_report_reaches_the_terminal_and_the_webhook_although_the_server_is_killed(
    home: Path, receiver: Receiver
) -> None:
    settings = {
        "RATCHET_ALERT_WEBHOOKS": json.dumps([receiver.url]),
        "RATCHET_ALERT_SECRET": SECRET,
        "RATCHET_ALERT_INTERVAL": "0.2",
        "RATCHET_CONSOLE": "off",
    }
    with serving(home, "--backend=fake", **settings) as ratchet:
        address = (await asyncio.to_thread(lambda: ratchet.started))["serving"]
        watching = await _started(address, "watch")
        assert await _line(watching) == {"initial": True}
        await asyncio.to_thread(_report, address, "ann")
        fired = (await _line(watching))["alert"]
        assert (fired["rule"], fired["severity"], fired["state"]) == (
            "safety_report",
            "ALERT_SEVERITY_CRITICAL",
            "ALERT_STATE_FIRING",
        )
        while not receiver.attempts:
            await asyncio.sleep(0.05)
        await asyncio.to_thread(ratchet.kill)
        _, said = await asyncio.wait_for(watching.communicate(), SECONDS)
        assert watching.returncode == 1
        assert b"Traceback" not in said
    assert receiver.messages == []
    receiver.answer = lambda _: 200
    with serving(home, "--backend=fake", **settings) as ratchet:
        address = (await asyncio.to_thread(lambda: ratchet.started))["serving"]
        while not receiver.messages:
            await asyncio.sleep(0.05)
        assert len(set(receiver.attempts)) == 1
        watching = await _started(address, "watch")
        assert [await _line(watching) for _ in range(2)] == [{"alert": fired, "initial": True}, {"initial": True}]
        await _look_at(address, fired)
        assert (await _line(watching))["alert"]["state"] == "ALERT_STATE_RESOLVED"
        while len(receiver.messages) < 2:
            await asyncio.sleep(0.05)
        stopping = asyncio.create_task(asyncio.to_thread(ratchet.stop))
        _, said = await asyncio.wait_for(watching.communicate(), SECONDS)
        assert b"stopping" in said
        assert await stopping == 0
        assert receiver.url not in str(ratchet.events), "the log does not tell what is after the host"
    assert [each["type"] for each in receiver.messages] == ["alert.firing", "alert.resolved"]


async def _look_at(address: str, fired: dict[str, Any]) -> None:
    """Lists, acknowledges, and lists again; what can't be is refused."""
    (listed,) = await command(address, "list", "--state", "firing")
    assert listed == {"alerts": [fired]}
    (acknowledged,) = await command(address, "ack", fired["alert_id"], "--as", "Lan", "--note", "đã xem")
    assert (acknowledged["acknowledged_by"], acknowledged["note"]) == ("Lan", "đã xem")
    assert await command(address, "ack", fired["alert_id"], "--as", "Lan", "--note", "đã xem") == [acknowledged]
    assert await command(address, "list", "--rule", "safety_report") == [{"alerts": [acknowledged]}]
    (rules,) = await command(address, "rules")
    assert [each["rule"] for each in rules["rules"]] == [rule.name for rule in RULES]
    async with grpc.aio.insecure_channel(address) as channel:
        stub = alert_pb2_grpc.AlertServiceStub(channel)
        for request, code in (
            (pb.AcknowledgeAlertRequest(alert_id="x"), grpc.StatusCode.INVALID_ARGUMENT),
            (pb.AcknowledgeAlertRequest(alert_id="0" * 8 + "-0000-0000-0000-" + "0" * 12), grpc.StatusCode.NOT_FOUND),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.AcknowledgeAlert(request, timeout=SECONDS)
            assert refused.value.code() is code
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ListAlerts(pb.ListAlertsRequest(page_token="eA"), timeout=SECONDS)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
