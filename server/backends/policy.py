"""A policy release as the request path sees it: its chat template, its window, and the backend that draws."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from server.backends.inference import PolicyBackend
from server.errors import BackendRefused, ConfigurationError
from server.types import Generation, Sampling
from triton_models.manifest import Release

Message = Mapping[str, str]
"""A chat message: `role` ("system", "user" or "assistant") and `content`."""
Function = Mapping[str, Any]
"""A function that a policy may call: `type` and `function`, with `name`, `description`, JSON Schema `parameters`."""
_PROBE = "probe_of_functions"


class ServedPolicy:
    """Renders, measures and draws with one policy release. Thread-safe apart from `generate`."""

    def __init__(self, release: Release, directory: Path, backend: PolicyBackend) -> None:
        self.release = release
        self._backend = backend
        home = directory / "tokenizer"
        try:
            self._tokenizer = Tokenizer.from_file(str(home / "tokenizer.json"))
            config = json.loads((home / "tokenizer_config.json").read_bytes())
        except Exception as error:  # tokenizers raises bare Exception
            raise ConfigurationError(f"The tokenizer of {directory} can't be read: {error}.") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._special = {name: _token_text(config.get(name)) for name in ("bos_token", "eos_token")}
        self._stop = tuple(release.serializer.get("stop", ()))
        added = self._tokenizer.get_added_tokens_decoder().values()
        marks = sorted((t.content for t in added if t.special and t.content), key=len, reverse=True)
        self._marks = re.compile("|".join(map(re.escape, marks)) or "(?!)")
        self._template = _compile(str(config.get("chat_template", "")), directory)
        self._takes_system = self._probe(directory)
        self.can_call_functions = release.serializer.get("functions") is True and self._shows_functions()

    @property
    def seeded(self) -> bool:
        """Whether the same seed draws the same text again."""
        return bool(self.release.serializer.get("seeded", False))

    def window(self, max_output_tokens: int) -> tuple[int, int]:
        """Tokens for (prompt, answer): the answer gets what was asked, at most half of the context."""
        context = int(self.release.serializer["max_context"])
        answer = min(max_output_tokens, context // 2)
        return min(int(self.release.serializer["max_input_tokens"]), context - answer), answer

    def render(self, messages: Sequence[Message], functions: Sequence[Function] = ()) -> str:
        """The prompt for `messages`, ready for the answer. Raises BackendRefused when the template refuses them.

        Special tokens that a text spells become a space: nobody can forge a turn. Where the template has no system
        role, the system's message leads the first user's. `functions` are shown where `can_call_functions`.
        """
        clean = [{"role": m["role"], "content": self._marks.sub(" ", m["content"])} for m in messages]
        if not self._takes_system:
            clean = _without_system(clean)
        tools = list(functions) or None
        try:
            return self._template.render(
                messages=clean, add_generation_prompt=True, tools=tools, documents=None, **self._special
            )
        except TemplateError as error:
            raise BackendRefused(f"The chat template of {self.release.id} refuses the conversation: {error}") from error

    def count(self, text: str) -> int:
        """Length of `text` in tokens."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def tail(self, text: str, tokens: int) -> str:
        """The end of `text` that fits in `tokens`, at a character's border; shorter than a text that does not fit."""
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        if len(offsets) <= tokens:
            return text
        first = len(offsets) - max(tokens, 0)
        # Byte-level tokens of one character share its offset: go on to the next character.
        while first < len(offsets) and offsets[first][0] <= offsets[first - 1][0]:
            first += 1
        return text[offsets[first][0] :] if first < len(offsets) else ""

    async def generate(self, prompt: str, sampling: Sampling, timeout: float) -> Generation:
        """One candidate; see `PolicyBackend.generate`."""
        return await self._backend.generate(self.release.id, prompt, replace(sampling, stop=self._stop), timeout)

    def _shows_functions(self) -> bool:
        """Whether what the template renders names the functions."""
        empty = {"type": "object", "properties": {}}
        probe = {"type": "function", "function": {"name": _PROBE, "description": "None.", "parameters": empty}}
        try:
            return _PROBE in self.render([{"role": "user", "content": "Hello"}], [probe])
        except Exception:  # a template from elsewhere may stumble over functions in any way
            return False

    def _probe(self, directory: Path) -> bool:
        """Whether the template takes a system message; raises ConfigurationError when it refuses any conversation."""
        turns = [{"role": role, "content": "Hello"} for role in ("system", "user", "assistant", "user")]
        for first, takes_system in ((0, True), (1, False)):
            try:
                self._template.render(
                    messages=turns[first:], add_generation_prompt=True, tools=None, documents=None, **self._special
                )
            except TemplateError as error:
                refusal = error
            else:
                return takes_system
        raise ConfigurationError(f"The chat template of {directory} refuses a plain conversation: {refusal}.")


def _without_system(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    if not messages or messages[0]["role"] != "system":
        return messages
    first, rest = messages[1], messages[2:]
    return [{"role": first["role"], "content": f"{messages[0]['content']}\n\n{first['content']}"}, *rest]


def _compile(source: str, directory: Path) -> Template:
    """The chat template, in a sandbox: a release from elsewhere is not trusted to run code."""
    if not source:
        raise ConfigurationError(f"{directory} has no chat template: export the model again.")
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _as_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    try:
        return environment.from_string(source)
    except TemplateError as error:
        raise ConfigurationError(f"The chat template of {directory} is not valid: {error}.") from error


def _raise(message: str) -> None:
    raise TemplateError(message)


def _as_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """What chat templates expect of `tojson`: nothing escaped for HTML, keys in the order given."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _token_text(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token or "")
