"""The parts of the Triton models' code that compute without Triton."""

import importlib
import json
import random
import sys
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from triton_models import contract
from triton_models.policy import sampling
from triton_models.policy.sampling import Preset, Refused, parse_sampling
from triton_models.policy.transcript import Transcript


def _load(name: str) -> ModuleType:
    """A module of the stubs' environment, with a stand-in for what tritonserver gives it."""
    sys.modules.setdefault("triton_python_backend_utils", MagicMock())
    return importlib.import_module(name)


def _byte_tokenizer() -> Tokenizer:
    """One token a byte: every character beyond ASCII comes in parts."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: index for index, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


BYTES = _byte_tokenizer()


def test_numbers_may_come_as_strings() -> None:
    text = json.dumps({"temperature": "0.7", "top_p": "0.9", "top_k": "40", "max_tokens": "48", "seed": "7"})
    parsed = parse_sampling(text)
    assert parsed.preset == Preset(temperature=0.7, top_p=0.9, top_k=40)
    assert parsed.max_tokens == 48


def test_defaults_are_vllms() -> None:
    parsed = parse_sampling("")
    assert (parsed.preset, parsed.max_tokens, parsed.stops) == (Preset(), 16, ())
    assert parse_sampling('{"top_k": -1, "stop": null}') == parsed


def test_every_documented_name_is_taken_and_no_other() -> None:
    given_all = dict.fromkeys(contract.SAMPLING_NAMES, 1) | {"stop": "x"}
    assert parse_sampling(json.dumps(given_all)).stops == ("x",)
    with pytest.raises(Refused, match="unknown names: best_of"):
        parse_sampling('{"best_of": 1}')
    assert sampling.MAX_STOP_STRINGS == contract.MAX_STOP_STRINGS
    assert sampling.MAX_NEW_TOKENS == contract.MAX_NEW_TOKENS


VALUES = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9) | st.lists(st.text(max_size=3))


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(sorted(contract.SAMPLING_NAMES)), VALUES) | VALUES)
def test_any_json_is_parsed_or_refused(value: Any) -> None:
    try:
        parsed = parse_sampling(json.dumps(value))
    except Refused:
        return
    assert 0 <= parsed.preset.temperature <= 100
    assert parsed.max_tokens >= 1


@given(st.text(max_size=30), st.integers(0, 2**31))
def test_streamed_pieces_are_whole_characters_and_add_up(text: str, seed: int) -> None:
    text = text.encode(errors="ignore").decode()
    transcript, pieces = Transcript(BYTES, (), True), []
    for token in BYTES.encode(text).ids:
        transcript.add(token)
        if random.Random(seed).random() < 0.7:
            pieces.append(transcript.delta(last=False))
    transcript.close()
    pieces.append(transcript.delta(last=True))
    assert "".join(pieces) == text or "\ufffd" in text


def test_half_a_character_at_the_end_is_dropped() -> None:
    for live in (True, False):
        transcript = Transcript(BYTES, (), live)
        for token in BYTES.encode("ok 😀").ids[:-1]:
            transcript.add(token)
        transcript.close()
        assert transcript.text == "ok "


def test_what_may_become_a_stop_string_is_held_back() -> None:
    transcript = Transcript(BYTES, ("STOP",), True)
    pieces = []
    for token in BYTES.encode("a SToP STOP b").ids:
        if transcript.add(token):
            break
        pieces.append(transcript.delta(last=False))
    pieces.append(transcript.delta(last=True))
    assert "".join(pieces) == "a SToP "
    assert not any("STOP".startswith(piece[-2:]) for piece in pieces if len(piece) > 1)


def _jobs(prompts: list[str], temperature: float = 1.0) -> list[Any]:
    return [SimpleNamespace(tokens=tuple(prompt), preset=Preset(temperature)) for prompt in prompts]


def test_one_prompt_is_read_once_for_its_candidates() -> None:
    lanes = _load("triton_models.policy.lanes")
    prompts, copies, slots = lanes.arrange(_jobs(["ab"] * 5))
    assert (prompts, copies) == ([["a", "b"]], 5)
    assert sorted(slots) == [(0, copy) for copy in range(5)]


def test_prompts_with_unequal_counts_still_get_a_text_each() -> None:
    lanes = _load("triton_models.policy.lanes")
    jobs = _jobs(["a", "a", "a", "a", "b", "b"])
    prompts, copies, slots = lanes.arrange(jobs)
    assert (prompts, copies) == ([["a"], ["a"], ["b"]], 2)
    answered = [job for same in slots.values() for job in same]
    assert sorted(map(id, answered)) == sorted(map(id, jobs))
    assert all(tuple(prompts[row]) == job.tokens for (row, _), same in slots.items() for job in same)


def test_greedy_candidates_share_one_text() -> None:
    lanes = _load("triton_models.policy.lanes")
    prompts, copies, slots = lanes.arrange(_jobs(["a", "b", "a"], temperature=0))
    assert (prompts, copies) == ([["a"], ["b"]], 1)
    assert [len(same) for same in slots.values()] == [2, 1]


def test_a_policy_without_room_says_why_in_the_words_that_its_callers_know() -> None:
    lanes = _load("triton_models.policy.lanes")
    full = lanes.Lanes(MagicMock(), frozenset(), 0, 32, 0)
    with pytest.raises(Refused, match=contract.QUEUE_FULL):
        full.put(SimpleNamespace(arrived=0.0))
    full.close()
    with pytest.raises(Refused, match=contract.UNLOADING):
        full.put(SimpleNamespace(arrived=0.0))


@given(st.lists(st.integers(1, 512), max_size=150))
def test_micro_batches_hold_every_row_once_and_waste_little(lengths: list[int]) -> None:
    model = _load("triton_models.encoder.model")
    groups = model.micro_batches(lengths)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        size = max(lengths[index] for index in group) * len(group)
        waste = size - sum(lengths[index] for index in group)
        assert len(group) <= model.MAX_ROWS
        assert size <= model.CHEAP_TOKENS or waste <= model.MAX_WASTE * size
