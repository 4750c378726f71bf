"""The tools' stage: what runs, what each run becomes, what is said of it; and which tools there are."""

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from server.errors import ConfigurationError, InvalidRequest
from server.progress import ToolFinished, ToolsSelected
from server.stages.tools import grace, run
from server.tools import registry
from server.tools.registry import close_tools, open_tools
from server.tools.selector import Router
from server.tools.settings import TOOLS
from server.tools.tool import Question, Tool, ToolFailed, ToolRefused
from server.types import Degradation, DegradationReason, Evidence, ToolOutcome, ToolRun
from tests.tools import ScriptedTool, a_question, an_evidence, forever

ROUTER = Router(0.35)


async def ran(
    *tools: ScriptedTool, allowed: tuple[str, ...] = (), budget: float = 5.0
) -> tuple[dict[str, ToolRun], tuple[Degradation, ...], list[ToolsSelected | ToolFinished]]:
    progress: list[ToolsSelected | ToolFinished] = []
    runs, lost = await run(a_question(), tools, ROUTER, allowed, budget, progress.append)
    return {each.tool: each for each in runs}, lost, progress


async def cancels_itself(question: Question) -> tuple[Evidence, ...]:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("script", "outcome", "told"),
    [
        ((an_evidence(),), ToolOutcome.FOUND, False),
        ((), ToolOutcome.NOTHING, False),
        (ToolRefused("127.0.0.1 is no public address."), ToolOutcome.REFUSED, False),
        (ToolFailed("The search is away."), ToolOutcome.FAILED, True),
        (KeyError("defect"), ToolOutcome.FAILED, True),
        (TimeoutError(), ToolOutcome.FAILED, True),
        (cancels_itself, ToolOutcome.FAILED, True),
        (forever, ToolOutcome.LATE, True),
    ],
)
async def test_each_end_of_a_tool_is_a_run_and_never_an_error(script: Any, outcome: ToolOutcome, told: bool) -> None:
    tool = ScriptedTool(script=script)
    runs, lost, _ = await ran(tool, budget=0.05 if script is forever else 5.0)
    assert runs["docs"].outcome is outcome
    assert runs["docs"].detail
    assert runs["docs"].evidence == (script if isinstance(script, tuple) else ())
    assert [each.reason for each in lost] == [DegradationReason.TOOL_UNAVAILABLE] * told


async def test_a_defect_is_logged_and_told_without_its_inside(caplog: pytest.LogCaptureFixture) -> None:
    runs, _, _ = await ran(ScriptedTool(script=KeyError("password=hunter2")))
    assert "hunter2" not in runs["docs"].detail
    assert "hunter2" in caplog.text


async def test_tools_run_side_by_side_and_the_late_one_is_cancelled() -> None:
    late, meeting = ScriptedTool("web", forever), asyncio.Barrier(2)

    async def meets(question: Question) -> tuple[Evidence, ...]:
        await meeting.wait()  # returns only when both run at once
        return (an_evidence(),)

    runs, _, progress = await ran(ScriptedTool("docs", meets), late, ScriptedTool("sql", meets), budget=0.3)
    assert [each.outcome for each in runs.values()] == [ToolOutcome.FOUND, ToolOutcome.LATE, ToolOutcome.FOUND]
    assert late.cancelled == 1
    assert progress[0] == ToolsSelected(("docs", "web", "sql"))
    finished = [each.run for each in progress[1:] if isinstance(each, ToolFinished)]
    assert sorted(each.tool for each in finished) == ["docs", "sql", "web"]
    assert finished[-1].tool == "web"


async def test_no_tool_runs_when_none_fits() -> None:
    tool = ScriptedTool(fits=0.34)
    runs, lost, progress = await ran(tool)
    assert (runs, lost, progress) == ({}, (), [ToolsSelected(())])
    assert not tool.questions


async def test_a_request_may_restrict_the_tools() -> None:
    docs, web = ScriptedTool("docs"), ScriptedTool("web")
    runs, _, _ = await ran(docs, web, allowed=("web",))
    assert list(runs) == ["web"]
    assert not docs.questions


@pytest.mark.parametrize("allowed", [("shell",), ("web", "shell"), ("Web",)])
async def test_an_unknown_tool_is_the_callers_error(allowed: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await ran(ScriptedTool("web"), allowed=allowed)
    assert [each.field for each in caught.value.violations] == [f"tools[{len(allowed) - 1}]"]


async def test_who_asks_for_a_tool_that_is_not_configured_is_told_what_it_needs() -> None:
    with pytest.raises(InvalidRequest, match="none of the tools: docs; the server needs RATCHET_WEB_SEARCH_URL and"):
        await ran(ScriptedTool("docs"), allowed=("web",))
    with pytest.raises(InvalidRequest, match="there are none; the server needs its name in RATCHET_TOOLS to run it"):
        await ran(allowed=("docs",))


@pytest.mark.parametrize(("budget", "seconds"), [(0.02, 0.01), (0.5, 0.05), (60.0, 0.2)])
def test_a_tool_that_ignores_its_cancellation_gets_a_tenth_of_the_time_at_most(budget: float, seconds: float) -> None:
    assert grace(budget) == pytest.approx(seconds)


async def test_a_tool_that_ignores_its_cancellation_does_not_hold_the_reply() -> None:
    heeds = asyncio.Event()

    async def deaf(question: Question) -> tuple[Evidence, ...]:
        while not heeds.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await heeds.wait()
        return ()

    async with asyncio.timeout(10):
        runs, _, _ = await ran(ScriptedTool(script=deaf), budget=0.05)
    assert runs["docs"].outcome is ToolOutcome.LATE
    heeds.set()


async def test_a_cancelled_request_cancels_its_tools() -> None:
    tool = ScriptedTool(script=forever)
    task = asyncio.create_task(ran(tool))
    while not tool.questions:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tool.cancelled == 1


async def test_a_tool_that_cannot_say_its_relevance_does_not_run() -> None:
    runs, _, _ = await ran(ScriptedTool("web", fits=ZeroDivisionError()), ScriptedTool("docs"))
    assert list(runs) == ["docs"]


async def test_runs_are_counted_by_tool_and_outcome() -> None:
    labels = {"tool": "counted", "outcome": "nothing"}
    before = REGISTRY.get_sample_value("ratchet_tool_runs_total", labels) or 0
    await ran(ScriptedTool("counted"))
    assert REGISTRY.get_sample_value("ratchet_tool_runs_total", labels) == before + 1


async def opened(setting: str, **tools: ScriptedTool | Exception | None) -> list[str]:
    def factory(tool: ScriptedTool | Exception | None) -> Any:
        async def make(services: Any) -> Tool | None:
            if isinstance(tool, Exception):
                raise tool
            return tool

        return make

    services: Any = SimpleNamespace(settings=SimpleNamespace(tools=setting))
    found = await open_tools(services, {name: factory(tool) for name, tool in tools.items()})
    await close_tools(found)
    return [tool.name for tool in found]


async def test_tools_open_in_the_order_of_the_setting_and_those_not_configured_are_left_out() -> None:
    docs, web = ScriptedTool("docs"), ScriptedTool("web")
    assert await opened(" web, docs,sql, web", docs=docs, web=web, sql=None) == ["web", "docs"]
    assert (docs.closed, web.closed) == (1, 1)
    assert await opened("", docs=docs) == []


def test_the_settings_know_the_tools_that_there_are() -> None:
    assert tuple(registry.TOOLS) == tuple(TOOLS)


async def test_a_tool_that_cannot_open_leaves_none_open() -> None:
    docs = ScriptedTool("docs")
    with pytest.raises(ConfigurationError):
        await opened("docs,sql", docs=docs, sql=ConfigurationError("no catalog"))
    assert docs.closed == 1
