"""A request's sampling parameters: the names and ranges of vLLM's, as far as CTranslate2 has them."""

import json
import math
from dataclasses import dataclass
from typing import Any

MAX_STOP_STRINGS = 16
MAX_NEW_TOKENS = 4096


class Refused(Exception):
    """A request that can't be served; `code` names one of TritonError's codes."""

    def __init__(self, message: str, code: str = "INVALID_ARG") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Preset:
    """What all texts of one CTranslate2 call have in common."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    min_tokens: int = 0

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature == 0 or self.top_k == 1

    def arguments(self) -> dict[str, Any]:
        """The same in the names of `Generator.generate_batch`."""
        sampling = {
            "sampling_temperature": self.temperature,
            "sampling_topp": self.top_p,
            "sampling_topk": self.top_k,
        }
        return {
            **({"sampling_topk": 1} if self.greedy else sampling),
            "repetition_penalty": self.repetition_penalty,
            "min_length": self.min_tokens,
        }


@dataclass(frozen=True)
class Sampling:
    """A request's `sampling_parameters`."""

    preset: Preset
    max_tokens: int
    stops: tuple[str, ...]


def parse_sampling(text: str) -> Sampling:
    """Reads the JSON object; numbers may come as strings, as in Triton's vLLM examples. Raises Refused."""
    try:
        raw = json.loads(text or "{}")
    except ValueError as error:
        raise Refused(f"sampling_parameters is not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise Refused("sampling_parameters must be a JSON object")
    number = _Numbers(raw)
    top_k = number.whole("top_k", 0, -1, 2**31 - 1)
    preset = Preset(
        temperature=number.real("temperature", 1.0, 0, 100),
        top_p=number.real("top_p", 1.0, 1e-6, 1),
        top_k=max(top_k, 0),  # vLLM's -1 and 0 both mean all tokens
        repetition_penalty=number.real("repetition_penalty", 1.0, 0.01, 100),
        min_tokens=number.whole("min_tokens", 0, 0, MAX_NEW_TOKENS),
    )
    max_tokens = number.whole("max_tokens", 16, 1, 2**31 - 1)
    number.whole("seed", 0, -(2**63), 2**64 - 1)
    stops = _stops(raw.pop("stop", None))
    if raw:
        raise Refused(f"sampling_parameters has unknown names: {', '.join(sorted(map(str, raw)))}")
    if preset.min_tokens > max_tokens:
        raise Refused(f"min_tokens {preset.min_tokens} is more than max_tokens {max_tokens}")
    return Sampling(Preset(0) if preset == Preset(0) else preset, max_tokens, stops)


class _Numbers:
    """Takes numbers out of a JSON object; null is the same as absent."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self._raw = raw

    def real(self, name: str, default: float, low: float, high: float) -> float:
        value = self._raw.pop(name, None)
        if value is None:
            return default
        try:
            number = math.nan if isinstance(value, bool | list | dict) else float(value)
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            raise Refused(f"{name} must be a number from {low:g} to {high:g}, not {value!r:.40}")
        return number

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        value = self._raw.pop(name, None)
        if value is None:
            return default
        try:
            number = low - 1 if isinstance(value, bool | float | list | dict) else int(value)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise Refused(f"{name} must be a whole number from {low} to {high}, not {value!r:.40}")
        return number


def _stops(value: Any) -> tuple[str, ...]:
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise Refused("stop must be a text or a list of texts, none empty")
    if len(stops) > MAX_STOP_STRINGS:
        raise Refused(f"stop has {len(stops)} texts; the limit is {MAX_STOP_STRINGS}")
    return tuple(stops)
