"""Has the policy write a statement for a question. What it writes is no more trusted than a caller's own text."""

import asyncio
import re
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Protocol

from server.errors import BackendError
from server.sql.catalog import Catalog
from server.sql.guard import MOST_TABLES
from server.tools.tool import ToolFailed
from server.types import Generation, Preset, Sampling

_TOKENS = 256
"""Of a statement."""
_GREEDY = Preset("sql", top_k=1)
_FENCED = re.compile(r"```(?:sql)?\s*(.+?)```", re.DOTALL | re.IGNORECASE)
_SELECT = re.compile(r"\b(?:select|with)\b.*", re.DOTALL | re.IGNORECASE)
_LONGEST = 2_000
"""Characters of a question that the policy is shown."""
_ORDERS = """You write one PostgreSQL SELECT that answers the user's question from these tables, and nothing else.
{tables}
Functions: {functions}.
Rules: plain SELECT, at most {most} tables, joins with ON or USING, no UNION, no window, no comment, no semicolon.
The tables already hold only the rows of the user who asks: do not filter by user.
When the tables can't answer the question, write NONE."""


class Policy(Protocol):
    """What writing needs of the policy release that is being served."""

    @property
    def can_call_functions(self) -> bool:
        """Whether it was trained to follow such orders."""

    def window(self, max_output_tokens: int) -> tuple[int, int]:
        """Tokens for (prompt, answer)."""

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        """The prompt for chat messages."""

    def count(self, text: str) -> int:
        """Length in tokens."""

    async def generate(self, prompt: str, sampling: Sampling, timeout: float) -> Generation:
        """One answer."""


class Author:
    """Writes statements for one catalog."""

    def __init__(self, policy: Policy, catalog: Catalog, threads: Executor, timeout: float) -> None:
        """`timeout` is in seconds, for each statement."""
        self._policy, self._threads, self._timeout = policy, threads, timeout
        self._orders = _ORDERS.format(
            tables="\n".join(_described(catalog)), functions=", ".join(catalog.functions) or "none", most=MOST_TABLES
        )

    @property
    def able(self) -> bool:
        """Whether the policy of now can be expected to write any."""
        return self._policy.can_call_functions

    async def write(self, question: str, refused: tuple[str, str] | None = None) -> str:
        """A statement, or "" when the policy has none. `refused`: its statement before, and why that may not run.

        Raises ToolFailed.
        """
        messages = [{"role": "system", "content": self._orders}, {"role": "user", "content": question[:_LONGEST]}]
        if refused is not None:
            messages += [
                {"role": "assistant", "content": refused[0]},
                {"role": "user", "content": f"That may not run: {refused[1]} Write another statement."},
            ]
        try:
            prompt, tokens = await asyncio.get_running_loop().run_in_executor(self._threads, self._fit, messages)
            sampling = Sampling(_GREEDY, seed=0, max_tokens=tokens)
            return extract((await self._policy.generate(prompt, sampling, self._timeout)).text)
        except BackendError as error:
            raise ToolFailed(f"The policy wrote no statement: {error}") from error

    def _fit(self, messages: list[dict[str, str]]) -> tuple[str, int]:
        limit, tokens = self._policy.window(_TOKENS)
        prompt = self._policy.render(messages)
        if self._policy.count(prompt) > limit:
            raise ToolFailed("The catalog and the question do not fit the policy's window.")
        return prompt, tokens


def extract(answer: str) -> str:
    """The statement in what the policy wrote: fenced, or from its first SELECT or WITH on; "" when there is none."""
    fenced = _FENCED.search(answer)
    found = _SELECT.search(fenced[1] if fenced else answer)
    return found[0].strip() if found else ""


def _described(catalog: Catalog) -> list[str]:
    lines = [catalog.description]
    for name, table in catalog.tables.items():
        lines.append(f"Table {name}: {table.description}")
        lines += [f"- {column}: {meaning}" for column, meaning in table.columns.items()]
    return lines
