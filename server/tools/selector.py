"""Which tools a query needs: a policy that can call functions says, otherwise their own relevance decides."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final, Protocol

from server.errors import BackendError
from server.tools.calls import Malformed, called
from server.tools.tool import Question, Tool
from server.types import Exchange, Generation, Preset, Sampling

log = logging.getLogger(__name__)

_GREEDY: Final = Preset("tool_choice", temperature=0.0)
_ANSWER_TOKENS: Final = 128
"""What naming the tools may take."""
_EXCHANGES: Final = 2
"""Earlier exchanges that the policy sees when it chooses."""
_EXCHANGE_CHARACTERS: Final = 500
_INSTRUCTION: Final = (
    "Call the functions that find what is needed to answer the user's last message. "
    "Call several when each finds something of its own. When none of them helps, write: none"
)


@dataclass(frozen=True, slots=True)
class Selection:
    """A tool that is to run, and how likely it helps, 0 to 1; 1 when the policy chose it."""

    tool: Tool
    relevance: float


class Selector(Protocol):
    """Chooses among tools."""

    async def select(self, question: Question, tools: Sequence[Tool], budget: float) -> tuple[Selection, ...]:
        """The tools to run, in the order of `tools`, within `budget` seconds; none when the query needs none.

        Never raises for what a tool or a policy does.
        """


class Policy(Protocol):
    """What choosing needs of a policy release."""

    @property
    def can_call_functions(self) -> bool:
        """Whether it was trained to, and its chat template shows it the functions."""

    def window(self, max_output_tokens: int) -> tuple[int, int]:
        """Tokens for (prompt, answer)."""

    def render(self, messages: Sequence[Mapping[str, str]], functions: Sequence[Mapping[str, Any]] = ()) -> str:
        """The prompt; raises BackendRefused."""

    def count(self, text: str) -> int:
        """Length in tokens."""

    async def generate(self, prompt: str, sampling: Sampling, timeout: float) -> Generation:
        """A text; raises BackendError."""


class Router:
    """Runs each tool whose own relevance reaches `threshold`: none when none does."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold

    async def select(self, question: Question, tools: Sequence[Tool], budget: float) -> tuple[Selection, ...]:
        """See `Selector.select`; takes no time of the `budget`."""
        del budget
        scored = [Selection(tool, _relevance(tool, question)) for tool in tools]
        return tuple(each for each in scored if each.relevance >= self._threshold)


class PolicySelector:
    """Asks the policy, which answers with function calls; the router decides when it can't, is late or writes nonsense.

    The tools get the user's own words: of a call only the name counts.
    """

    def __init__(self, policy: Policy, router: Router, threads: Executor) -> None:
        self._policy, self._router, self._threads = policy, router, threads

    async def select(self, question: Question, tools: Sequence[Tool], budget: float) -> tuple[Selection, ...]:
        """See `Selector.select`."""
        if not tools:
            return ()
        if not self._policy.can_call_functions:
            return await self._router.select(question, tools, budget)
        try:
            async with asyncio.timeout(budget):
                names = called(await self._ask(question, tools, budget), {tool.name for tool in tools})
        except (BackendError, Malformed, TimeoutError) as error:
            log.info("the router selects tools instead of the policy: %s", error or "it was late")
            return await self._router.select(question, tools, budget)
        return tuple(Selection(tool, 1.0) for tool in tools if tool.name in names)

    async def _ask(self, question: Question, tools: Sequence[Tool], budget: float) -> str:
        limit, tokens = self._policy.window(_ANSWER_TOKENS)
        prompt = await asyncio.get_running_loop().run_in_executor(self._threads, self._prompt, question, tools, limit)
        return (await self._policy.generate(prompt, Sampling(_GREEDY, 0, tokens), budget)).text

    def _prompt(self, question: Question, tools: Sequence[Tool], limit: int) -> str:
        """Raises BackendError when the functions and the query do not fit into `limit` tokens, or are refused."""
        functions = [function(tool) for tool in tools]
        for exchanges in (question.exchanges[-_EXCHANGES:], ()):
            prompt = self._policy.render(messages(question.query, exchanges), functions)
            if self._policy.count(prompt) <= limit:
                return prompt
        raise BackendError(f"Choosing tools takes more than the {limit} tokens that the policy model reads.")


def make_selector(policy: Policy, threshold: float, threads: Executor) -> Selector:
    """The policy where it can call functions, else the router. `threads` render and count."""
    router = Router(threshold)
    return PolicySelector(policy, router, threads) if policy.can_call_functions else router


def messages(query: str, exchanges: Sequence[Exchange]) -> list[dict[str, str]]:
    """The chat in which the policy chooses: an instruction, the exchanges cut short, the query."""
    chat = [{"role": "system", "content": _INSTRUCTION}]
    for exchange in exchanges:
        chat.append({"role": "user", "content": exchange.query[:_EXCHANGE_CHARACTERS]})
        chat.append({"role": "assistant", "content": exchange.response[:_EXCHANGE_CHARACTERS]})
    return [*chat, {"role": "user", "content": query}]


def function(tool: Tool) -> dict[str, Any]:
    """The tool as chat templates show functions: JSON Schema of its one argument."""
    query = {"type": "string", "description": "What to look for."}
    parameters = {"type": "object", "properties": {"query": query}, "required": ["query"]}
    described = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": described}


def _relevance(tool: Tool, question: Question) -> float:
    try:
        return min(max(tool.relevance(question), 0.0), 1.0)
    except Exception:
        log.exception("the relevance of the tool %s failed", tool.name)
        return 0.0
