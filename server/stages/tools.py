"""Stage 2: tools are selected and run side by side; each finds evidence, or its run says why there is none."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from server.errors import InvalidRequest, Violation
from server.metrics import TOOL_RUNS, TOOL_SECONDS
from server.patience import Late, within
from server.progress import ToolFinished, ToolsSelected
from server.tools.selector import Selection, Selector
from server.tools.settings import TOOLS
from server.tools.tool import Question, Tool, ToolFailed, ToolRefused
from server.types import Degradation, DegradationReason, Evidence, ToolOutcome, ToolRun

log = logging.getLogger(__name__)

Watch = Callable[[ToolsSelected | ToolFinished], None]

CANCEL_SECONDS = 0.2
"""How long a cancelled tool is awaited; one that does not heed it can't hold the reply longer."""
CANCEL_SHARE = 0.1
"""Nor longer than this share of the budget."""
CANCEL_LEAST = 0.01
"""Seconds that it gets in any case."""
_SELECTION_SHARE = 0.5
"""Share of the budget after which the selection is made without the policy."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    outcome: ToolOutcome
    detail: str
    evidence: tuple[Evidence, ...] = ()


async def run(
    question: Question, tools: Sequence[Tool], selector: Selector, allowed: tuple[str, ...], budget: float, watch: Watch
) -> tuple[tuple[ToolRun, ...], tuple[Degradation, ...]]:
    """What the selected tools found within `budget` seconds, in the order of `tools`; the selection counts.

    Only the tools in `allowed` may run; empty: all. Late ones are cancelled and awaited. `watch` hears what was
    selected, and of each run as it ends. Raises InvalidRequest for a name in `allowed` that is no tool; nothing else.
    """
    permitted = permit(tools, allowed)
    deadline = asyncio.get_running_loop().time() + budget
    selected = await selector.select(question, permitted, budget * _SELECTION_SHARE)
    watch(ToolsSelected(tuple(each.tool.name for each in selected)))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_run(each, question, deadline, budget, watch)) for each in selected]
    runs = tuple(task.result() for task in tasks)
    return runs, tuple(
        Degradation(DegradationReason.TOOL_UNAVAILABLE, f"The tool {run.tool} gave nothing: {run.detail}")
        for run in runs
        if run.outcome in (ToolOutcome.FAILED, ToolOutcome.LATE)
    )


def permit(tools: Sequence[Tool], allowed: Sequence[str]) -> tuple[Tool, ...]:
    """The `tools` that are `allowed`, all when it is empty. Raises InvalidRequest, fields `tools[i]`."""
    names = [tool.name for tool in tools]
    unknown = [
        Violation(f"tools[{index}]", _missing(name, names)) for index, name in enumerate(allowed) if name not in names
    ]
    if unknown:
        raise InvalidRequest(unknown)
    return tuple(tool for tool in tools if not allowed or tool.name in allowed)


def _missing(name: str, names: Sequence[str]) -> str:
    said = f"{name!r} is none of the tools: {', '.join(names) or 'there are none'}"
    if name not in TOOLS:
        return said
    needs = " and ".join(part for part in (TOOLS[name], "its name in RATCHET_TOOLS") if part)
    return f"{said}; the server needs {needs} to run it"


def grace(budget: float) -> float:
    """Seconds for which a cancelled tool is awaited when all tools have `budget`."""
    return min(CANCEL_SECONDS, max(CANCEL_LEAST, CANCEL_SHARE * budget))


async def _run(selection: Selection, question: Question, deadline: float, budget: float, watch: Watch) -> ToolRun:
    began, name = time.perf_counter(), selection.tool.name
    found = await _outcome(selection.tool, question, deadline, budget)
    seconds = time.perf_counter() - began
    TOOL_RUNS.labels(name, found.outcome.value).inc()
    TOOL_SECONDS.labels(name).observe(seconds)
    finished = ToolRun(name, found.outcome, selection.relevance, seconds, found.detail, found.evidence)
    watch(ToolFinished(finished))
    return finished


async def _outcome(tool: Tool, question: Question, deadline: float, budget: float) -> _Outcome:
    left = deadline - asyncio.get_running_loop().time()
    try:
        return _found(tuple(await within(left, tool.run(question), grace(budget))))
    except Late:
        return _Outcome(ToolOutcome.LATE, f"No evidence within {budget:.1f} s.")
    except ToolRefused as error:
        return _Outcome(ToolOutcome.REFUSED, str(error))
    except ToolFailed as error:
        return _Outcome(ToolOutcome.FAILED, str(error))
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            raise
        log.exception("the tool %s failed", tool.name)
        return _Outcome(ToolOutcome.FAILED, "A defect in this tool; the server's log has it.")


def _found(evidence: tuple[Evidence, ...]) -> _Outcome:
    evidence = tuple(_storable(each) for each in evidence)
    if not evidence:
        return _Outcome(ToolOutcome.NOTHING, "No evidence fits the query.")
    return _Outcome(ToolOutcome.FOUND, f"{len(evidence)} passage{'s' if len(evidence) > 1 else ''}.", evidence)


def _is_cancelled() -> bool:
    """Whether someone cancels this request: a tool may also let a cancellation of its own escape."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _storable(evidence: Evidence) -> Evidence:
    """Without what neither Postgres nor protobuf takes, U+0000 and lone surrogates: no tool can make a reply fail."""
    texts = {name: getattr(evidence, name) for name in ("source", "title", "text", "uri")}
    return replace(
        evidence, **{name: text.replace("\0", "").encode("utf-8", "replace").decode() for name, text in texts.items()}
    )
