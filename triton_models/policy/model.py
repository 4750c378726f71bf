"""The policy as a Triton Python-backend model: CTranslate2 behind the tensors of Triton's vLLM backend.

`execute` only checks and enqueues. Lanes (threads of this model) take requests of one sampling preset at a time,
generate for them together, and answer each one as soon as its own text is done. Differences from vLLM:

- `seed` is accepted and has no effect: CTranslate2's random state belongs to its threads, not to a request. Only
  `temperature` 0 repeats itself (the release's manifest says `seeded: false`).
- When streaming, `finish_reason` comes with the last response only.
- A parameter that this model doesn't know is an error, and `max_tokens` is cut to what the window has left.
- It exports no metrics: in Triton 2.51 custom metrics changed from a model's threads crash the server.

Self-contained: Triton loads it and the modules beside it from the release's directory, in an environment without
the rest of Ratchet.
"""

import json
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import ctranslate2
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

from .job import Job, Wanted, send_error
from .lanes import Lanes
from .sampling import MAX_NEW_TOKENS, Refused, Sampling, parse_sampling

CHARACTERS_PER_TOKEN = 32  # a text with more characters per token of the window is refused without tokenising
SMALL_MODEL = 64 * 2**20  # bytes; below it, several calls on a thread each beat one call on all threads


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the release and starts its lanes; an error here is what loading the model answers."""
        home = Path(args["model_repository"])
        manifest = json.loads((home / "release.json").read_bytes())
        settings = {k: int(v["string_value"]) for k, v in json.loads(args["model_config"])["parameters"].items()}
        spec = manifest["serializer"]
        self._max_input = int(spec["max_input_tokens"])
        self._window = int(spec["max_context"])
        self._template = bool(spec["chat_template"])
        self._tokenizer = Tokenizer.from_file(str(home / "tokenizer" / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokens = lru_cache(maxsize=64)(self._tokenise)  # candidates of one query repeat its prompt
        ct2 = home / args["model_version"] / "ct2"
        lanes, threads = placement(settings.get("threads", 0), (ct2 / "model.bin").stat().st_size)
        generator = ctranslate2.Generator(str(ct2), inter_threads=lanes, intra_threads=threads)
        end = frozenset(spec.get("end_tokens") or self._usual_end(ct2))
        limits = settings.get("max_batch", 32), settings.get("max_queue", 256)
        generator.generate_batch([[self._tokenizer.id_to_token(0)]], max_length=1)  # warm-up
        self._lanes = Lanes(generator, end, lanes, *limits)

    def execute(self, requests: list[Any]) -> None:
        """Checks and enqueues; answers at once only with errors."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._lanes.put(self._job(request, sender))
            except Refused as refused:
                send_error(sender, str(refused), refused.code)
            except Exception as error:
                send_error(sender, f"the request can't be read: {error}", "INTERNAL")

    def finalize(self) -> None:
        """Ends all texts and joins the threads."""
        self._lanes.close()

    def _job(self, request: Any, sender: Any) -> Job:
        stream = _flag(request, "stream", False)
        # Without the tensor vLLM puts the prompt before the text, except when streaming.
        echo = not _flag(request, "exclude_input_in_output", stream)
        if stream and echo:
            raise Refused("exclude_input_in_output can't be false when streaming")
        names = ("return_finish_reason", "return_num_input_tokens", "return_num_output_tokens")
        wanted = Wanted(stream, echo, *(_flag(request, name, False) for name in names))
        prompt = _text(request, "text_input")
        sampling = parse_sampling(_text(request, "sampling_parameters"))
        tokens = self._checked(prompt)
        room = min(sampling.max_tokens, self._window - len(tokens), MAX_NEW_TOKENS)
        if sampling.preset.min_tokens > room:
            raise Refused(f"min_tokens {sampling.preset.min_tokens} does not fit: {room} tokens are left")
        fitting = Sampling(sampling.preset, room, sampling.stops)
        return Job(sender, prompt, tokens, fitting, wanted, self._tokenizer)

    def _checked(self, prompt: str) -> tuple[str, ...]:
        if not prompt:
            raise Refused("text_input is empty")
        if len(prompt) > self._window * CHARACTERS_PER_TOKEN:
            raise Refused(f"text_input has {len(prompt)} characters; the limit is {self._max_input} tokens")
        tokens = self._tokens(prompt)
        if not 0 < len(tokens) <= self._max_input:
            raise Refused(f"text_input has {len(tokens)} tokens; the limit is {self._max_input}")
        return tokens

    def _tokenise(self, prompt: str) -> tuple[str, ...]:
        return tuple(self._tokenizer.encode(prompt, add_special_tokens=not self._template).tokens)

    def _usual_end(self, ct2: Path) -> Iterator[int]:
        token = json.loads((ct2 / "config.json").read_bytes()).get("eos_token")
        if token and (found := self._tokenizer.token_to_id(token)) is not None:
            yield found


def placement(threads: int, model_bytes: int) -> tuple[int, int]:
    """(lanes, threads of each lane) for this machine; `threads` 0 means: choose."""
    cores = len(os.sched_getaffinity(0))
    if threads <= 0:
        threads = 1 if model_bytes < SMALL_MODEL else cores
    return max(1, cores // threads), threads


def _input(request: Any, name: str) -> Any:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    values = None if tensor is None else tensor.as_numpy().reshape(-1)
    return None if values is None or values.size == 0 else values[0]


def _flag(request: Any, name: str, default: bool) -> bool:
    value = _input(request, name)
    return default if value is None else bool(value)


def _text(request: Any, name: str) -> str:
    value = _input(request, name)
    try:
        return value.decode() if isinstance(value, bytes) else str(value or "")
    except UnicodeDecodeError:
        raise Refused(f"{name} is not UTF-8") from None
