"""Batches waiting requests by sampling preset and generates for them, on threads of its own."""

import math
import threading
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import triton_python_backend_utils as pb_utils

from .job import Job
from .sampling import Refused

QUIET_S = 0.001  # a lane starts when no request came for so long: candidates of one query arrive together
GATHER_S = 0.006  # ... or when the first one waited this long
WATCH_S = 0.01  # how often cancellation is looked for, at most
WATCH_REST = 9  # asking costs a round trip to tritonserver: resting so many times as long leaves it a tenth of a core
WATCH_LONGEST_S = 0.5
QUEUE_FULL = "queue is full"  # callers know these two by their words
UNLOADING = "is unloading"


class Lanes:
    """The bounded queue, and the threads that generate from it."""

    def __init__(self, generator: Any, end: frozenset[int], lanes: int, max_batch: int, max_queue: int) -> None:
        self._generator = generator
        self._end = end
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._queue: deque[Job] = deque()
        self._running: set[Job] = set()
        self._changed = threading.Condition()
        self._last_arrival = 0.0
        self._idle = 0
        self._closing = False
        self._pool = ThreadPoolExecutor(lanes + 1, thread_name_prefix="lane")
        self._threads = [self._pool.submit(self._lane) for _ in range(lanes)]
        self._threads.append(self._pool.submit(self._watch))

    def put(self, job: Job) -> None:
        """Queues a job; raises Refused when the queue is full."""
        with self._changed:
            if self._closing:
                raise Refused(f"the policy {UNLOADING}", "UNAVAILABLE")
            if len(self._queue) >= self._max_queue:
                raise Refused(f"the policy's {QUEUE_FULL}: {self._max_queue} requests wait", "UNAVAILABLE")
            self._queue.append(job)
            self._last_arrival = job.arrived
            self._changed.notify_all()

    def close(self) -> None:
        """Ends running texts at their next token, refuses waiting ones, and joins the threads."""
        with self._changed:
            self._closing = True
            waiting = list(self._queue)
            self._queue.clear()
            self._changed.notify_all()
        for job in waiting:
            job.fail(f"the policy {UNLOADING}", "UNAVAILABLE")
        self._pool.shutdown(wait=True)

    def _lane(self) -> None:
        while jobs := self._next():
            try:
                self._generate(jobs)
            except Exception as error:  # a lane outlives whatever one batch does to it
                pb_utils.Logger.log_error(f"generation failed: {error!r}")
                for job in jobs:
                    self._fail(job, f"generation failed: {error}")
            finally:
                with self._changed:
                    self._running.difference_update(jobs)

    def _next(self) -> list[Job]:
        """The jobs of the next call, oldest first; empty when the model closes."""
        with self._changed:
            self._idle += 1
            try:
                while not self._closing:
                    if self._queue and (pause := self._pause()) <= 0:
                        jobs = self._pick()
                        self._running.update(jobs)
                        return jobs
                    self._changed.wait(pause if self._queue else None)
                return []
            finally:
                self._idle -= 1

    def _pause(self) -> float:
        """Seconds to go on waiting for more candidates of the first job's query."""
        now = time.monotonic()
        if len(self._queue) >= self._max_batch:
            return 0.0
        return min(self._last_arrival + QUIET_S, self._queue[0].arrived + GATHER_S) - now

    def _pick(self) -> list[Job]:
        """Jobs that go well with the oldest: its preset, prompts of similar length; the rest stays queued.

        Idle lanes share them, unless other presets are waiting for those lanes.
        """
        first = self._queue[0]
        # Longer prompts go on token by token for the whole batch once the shortest has been read.
        slack = max(4, first.max_tokens // 4)
        alike = [
            job
            for job in self._queue
            if job.preset == first.preset and abs(len(job.tokens) - len(first.tokens)) <= slack
        ]
        others = len({job.preset for job in self._queue}) - 1
        share = math.ceil(len(alike) / max(1, self._idle - others))
        picked = alike[: min(share, self._max_batch)]
        chosen = set(picked)
        self._queue = deque(job for job in self._queue if job not in chosen)
        return picked

    def _generate(self, jobs: list[Job]) -> None:
        prompts, copies, slots = arrange(jobs)

        def step(result: Any) -> bool:
            done = [self._take(job, result.token_id) for job in slots[result.batch_id, result.hypothesis_id]]
            return all(done)

        self._generator.generate_batch(
            prompts,
            num_hypotheses=copies,
            max_length=max(job.max_tokens for job in jobs),
            include_prompt_in_result=False,
            end_token=sorted(self._end),
            callback=step,
            **jobs[0].preset.arguments(),
        )
        for job in jobs:
            self._fail(job, "generation ended without a text")  # only reaches those not answered

    def _take(self, job: Job, token: int) -> bool:
        try:
            if self._closing:
                job.fail(f"the policy {UNLOADING}", "UNAVAILABLE")
            return job.take(token, self._end)
        except Exception as error:  # one caller's trouble must not end the others' texts
            self._fail(job, f"the answer could not be sent: {error}")
            return True

    def _fail(self, job: Job, message: str) -> None:
        try:
            job.fail(message)
        except Exception as error:
            pb_utils.Logger.log_error(f"an error could not be sent: {error!r}")

    def _watch(self) -> None:
        """Marks running jobs whose callers left, and drops waiting ones."""
        pause = WATCH_S
        while not self._closing:
            time.sleep(pause)
            began = time.monotonic()
            with self._changed:
                jobs = [*self._queue, *self._running]
            for job in jobs:
                if not job.finished and not job.cancelled:
                    self._look(job)
            pause = min(max(WATCH_S, WATCH_REST * (time.monotonic() - began)), WATCH_LONGEST_S)

    def _look(self, job: Job) -> None:
        try:
            job.look()
            if not job.cancelled:
                return
            with self._changed:
                if waiting := job in self._queue:
                    self._queue.remove(job)
            if waiting:
                job.fail("the request was cancelled", "CANCELLED")
        except Exception as error:
            pb_utils.Logger.log_error(f"cancellation could not be read: {error!r}")


def arrange(jobs: list[Job]) -> tuple[list[list[str]], int, dict[tuple[int, int], list[Job]]]:
    """Rows of prompts, texts per row, and the jobs that (row, text) answers.

    Jobs with one prompt share its reading. Greedy ones share the text too: it would be the same.
    """
    by_prompt: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        by_prompt.setdefault(job.tokens, []).append(job)
    if jobs[0].preset.greedy:
        shared = {(row, 0): same for row, same in enumerate(by_prompt.values())}
        return [list(prompt) for prompt in by_prompt], 1, shared
    copies = math.gcd(*Counter(job.tokens for job in jobs).values())
    prompts: list[list[str]] = []
    slots: dict[tuple[int, int], list[Job]] = {}
    for prompt, same in by_prompt.items():
        for start in range(0, len(same), copies):
            slots |= {(len(prompts), copy): [job] for copy, job in enumerate(same[start : start + copies])}
            prompts.append(list(prompt))
    return prompts, copies, slots
