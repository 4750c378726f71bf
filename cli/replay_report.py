"""What `ratchet replay` prints while it runs and at its end, for people and for programs."""

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import asdict
from types import TracebackType
from typing import Self
from uuid import UUID

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from cli import output
from cli.comparison import line, side_by_side, summary
from server.errors import RatchetError
from server.replay.comparison import Figures, Summary, summarise
from server.replay.replayer import Failed, Replayed
from server.rpc.messages import response_of


class Report(ABC):
    """Shows what became of each request as it comes, then the summary. Keeps the figures alone, not the texts."""

    def __init__(self) -> None:
        self._figures: list[Figures] = []
        self._failed = 0

    def __enter__(self) -> Self:
        """Begins showing progress."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends it."""
        return None  # noqa: RET501

    def lost(self, response_id: UUID, error: RatchetError) -> None:
        """A request that could not be replayed."""
        self._failed += 1
        self._show_failure(response_id, str(error))

    def one(self, result: Replayed | Failed) -> None:
        """What became of one request."""
        if isinstance(result, Failed):
            self.lost(result.place.response_id, result.error)
        else:
            self._figures.append(result.comparison.figures)
            self._show(result)

    def finish(self) -> int:
        """Shows the summary; gives how many could not be replayed."""
        self._show_summary(summarise(self._figures, self._failed))
        return self._failed

    @abstractmethod
    def event(self, line: str) -> None:
        """One step on the way."""

    @abstractmethod
    def begin(self, total: int) -> None:
        """So many are to be replayed."""

    @abstractmethod
    def _show(self, result: Replayed) -> None: ...

    @abstractmethod
    def _show_failure(self, response_id: UUID, why: str) -> None: ...

    @abstractmethod
    def _show_summary(self, found: Summary) -> None: ...


class JsonReport(Report):
    """One document a replay, and `{"summary": ...}` as the last."""

    def event(self, line: str) -> None:
        """Nobody reads it."""

    def begin(self, total: int) -> None:
        """Nobody reads it."""

    def _show(self, result: Replayed) -> None:
        logged, found = result.logged, result.comparison
        output.as_json(
            {
                "response_id": str(result.place.response_id),
                "tenant_id": logged.tenant_id,
                "user_id": logged.user_id,
                "session_id": logged.session_id,
                "query": logged.query,
                "logged": output.as_object(response_of(found.before)),
                "replayed": output.as_object(response_of(found.after)),
                "answer_changed": found.answer_changed,
                "rewards": asdict(found.rewards) if found.rewards else None,
                "minimum_reward": {"before": result.minimum_before, "after": result.minimum_after},
                "changes": list(found.changes),
                "notes": list(result.notes),
            }
        )

    def _show_failure(self, response_id: UUID, why: str) -> None:
        output.as_json({"response_id": str(response_id), "error": why})

    def _show_summary(self, found: Summary) -> None:
        output.as_json({"summary": asdict(found) | {"share_changed": found.share_changed}})


class PeopleReport(Report):
    """For a terminal. Not `many`: one replay, side by side, without a summary. `rescored`: latencies say nothing."""

    def __init__(self, *, many: bool, verbose: bool, rescored: bool) -> None:
        super().__init__()
        self._many, self._verbose, self._rescored = many, verbose, rescored
        self._notes: Counter[str] = Counter()
        # One that is shown on another console than the lines would be torn by them.
        console = output.console if output.console.is_terminal else output.stderr
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("starting", total=None)

    def __enter__(self) -> Self:
        """Starts the bar, where there is a terminal to show it."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends it."""
        self._progress.stop()

    def event(self, line: str) -> None:
        """Shown beside the bar."""
        self._progress.update(self._task, description=line)

    def begin(self, total: int) -> None:
        """Sets the bar's length."""
        self._progress.update(self._task, description="replaying", total=total)

    def _show(self, result: Replayed) -> None:
        self._progress.advance(self._task)
        if self._verbose or not self._many:
            output.console.print(side_by_side(result, verbose=self._verbose, rescored=self._rescored))
        else:
            self._notes.update(result.notes)
            if output.console.is_terminal:
                output.console.print(line(result), no_wrap=True, overflow="ellipsis")
            else:  # whoever reads a file can scroll
                output.console.print(line(result), soft_wrap=True)

    def _show_failure(self, response_id: UUID, why: str) -> None:
        self._progress.advance(self._task)
        output.console.print(Text(f"✗ {why}" if str(response_id) in why else f"✗ {response_id}: {why}", style="red"))

    def _show_summary(self, found: Summary) -> None:
        self._progress.stop()
        if self._many:
            output.console.print()
            output.console.print(summary(found, rescored=self._rescored))
            for note, times in self._notes.most_common():
                output.console.print(Text(f"· {note}" + (f" ({times} ×)" if times > 1 else ""), style="dim"))
