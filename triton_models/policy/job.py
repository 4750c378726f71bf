"""One request on its way: what it wants, what it has got, and its answers."""

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

from .sampling import Sampling
from .transcript import Transcript

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


@dataclass(frozen=True)
class Wanted:
    """What a request wants in its answer, beside the text."""

    stream: bool
    echo: bool
    finish_reason: bool
    input_tokens: bool
    output_tokens: bool


class Job:
    """One request, from the queue to its last response. `take` is called by one lane at a time."""

    def __init__(
        self,
        sender: Any,
        prompt: str,
        tokens: tuple[str, ...],
        sampling: Sampling,
        wanted: Wanted,
        tokenizer: Tokenizer,
    ) -> None:
        self.tokens = tokens
        self.preset = sampling.preset
        self.max_tokens = sampling.max_tokens
        self.arrived = time.monotonic()
        self.finished = False
        self.cancelled = False  # set by the watcher
        self._sender = sender
        # Asking a sender anything after its final response crashes tritonserver (2.51, server issue 8192).
        self._open = threading.Lock()
        self._prompt = prompt
        self._wanted = wanted
        self._transcript = Transcript(tokenizer, sampling.stops, wanted.stream)
        self._count = 0
        self._told = 0  # output tokens that earlier responses stated

    def take(self, token: int, end: frozenset[int]) -> bool:
        """Takes a generated token and answers when the text is done; True when no more tokens are wanted."""
        if self.finished:
            return True
        if self.cancelled:
            self.fail("the request was cancelled", "CANCELLED")
            return True
        self._count += 1
        if token in end or self._transcript.add(token):
            self._finish("stop")
        elif self._count >= self.max_tokens:
            self._finish("length")
        elif self._wanted.stream and (text := self._transcript.delta(last=False)):
            self._sender.send(self._response(text))
        return self.finished

    def fail(self, message: str, code: str = "INTERNAL") -> None:
        """Answers with an error, unless the job was answered already."""
        with self._open:
            if not self.finished:
                self.finished = True
                send_error(self._sender, message, code)

    def look(self) -> None:
        """Asks Triton whether the caller is still there."""
        with self._open:
            if not self.finished and not self.cancelled:
                self.cancelled = bool(self._sender.is_cancelled())

    def _finish(self, reason: str) -> None:
        reason = "stop" if self._transcript.close() else reason
        text = self._transcript.delta(last=True)
        response = self._response(self._prompt + text if self._wanted.echo else text, reason)
        with self._open:
            self.finished = True
            self._sender.send(response, flags=FINAL)

    def _response(self, text: str, reason: str | None = None) -> Any:
        tensors = [_texts("text_output", text)]
        if self._wanted.finish_reason and reason:
            tensors.append(_texts("finish_reason", reason))
        if self._wanted.input_tokens:
            tensors.append(_count("num_input_tokens", len(self.tokens)))
        if self._wanted.output_tokens:
            tensors.append(_count("num_output_tokens", self._count - self._told))
            self._told = self._count
        return pb_utils.InferenceResponse(output_tensors=tensors)


def send_error(sender: Any, message: str, code: str) -> None:
    """Ends a request with an error of its own."""
    error = pb_utils.TritonError(message, getattr(pb_utils.TritonError, code))
    sender.send(pb_utils.InferenceResponse(output_tensors=[], error=error), flags=FINAL)


def _texts(name: str, text: str) -> Any:
    return pb_utils.Tensor(name, np.array([text.encode()], dtype=np.object_))


def _count(name: str, value: int) -> Any:
    return pb_utils.Tensor(name, np.array([value], dtype=np.uint32))
