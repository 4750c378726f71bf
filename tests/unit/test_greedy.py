"""How much of a greedy answer is certain, and how rarely an honest engine is refused by it."""

from collections.abc import Sequence
from math import comb, sqrt
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from exporters import greedy
from exporters.greedy import TOKENS, answered, certain
from exporters.parity import Floats
from triton_models.golden import LEAST_SAME, Answer

WORDS = ["<end>", "Your", " order", " came", ".", "\n", "Us", "er:", "\ufffd"]
END = 0
HONEST = 0.999
"""Correlation of the logits of two engines with the same weights, at least: docs/export.md."""


def _decode(ids: Sequence[int], *, skip_special_tokens: bool) -> str:
    assert skip_special_tokens
    return "".join(WORDS[each] for each in ids)


TOKENIZER: Any = SimpleNamespace(backend_tokenizer=SimpleNamespace(decode=_decode))


def _step(texts: Sequence[int], unsure_at: int = 99) -> greedy.Step:
    """A model that goes on with these tokens after a prompt of three; from `unsure_at` on two are as likely."""

    def step(ids: list[int]) -> Floats:
        place = len(ids) - 3
        assert ids[3:] == list(texts[:place])
        logits = np.zeros(len(WORDS))
        logits[texts[place]] = 5.0
        if place >= unsure_at:
            logits[4] = logits[3] = 5.0
        return logits

    return step


def _answered(texts: Sequence[int], unsure_at: int = 99, stops: Sequence[str] = ()) -> Answer:
    return answered(_step(texts, unsure_at), [7, 7, 7], TOKENIZER, [END], stops)


def test_an_answer_is_certain_up_to_the_first_token_that_hardly_leads() -> None:
    assert _answered([1, 2, 3, END]) == Answer("Your order came", ends=True)
    assert _answered([1, 2, 3, END], unsure_at=3) == Answer("Your order came")
    assert _answered([1, 2, 3, END], unsure_at=1) == Answer("Your")
    assert _answered([1, 2, 3, END], unsure_at=0) == Answer("")
    assert _answered([END]) == Answer("", ends=True)
    assert _answered([2] * TOKENS) == Answer(" order" * TOKENS)


def test_half_a_character_and_half_a_stop_are_not_certain() -> None:
    assert _answered([1, 8, 8, END], unsure_at=3) == Answer("Your")
    assert _answered([1, 5, 6, END], unsure_at=3, stops=["\nUser:", "!"]) == Answer("Your")
    assert _answered([1, 5, 6, 7, 2, END], unsure_at=5, stops=["\nUser:"]) == Answer("Your", ends=True)
    assert _answered([1, 5, 6, END], stops=["\nUser:"]) == Answer("Your\nUs", ends=True)


def test_the_lead_is_measured_by_how_far_logits_lie_apart_and_padding_does_not_count() -> None:
    logits = np.array([4.0, 1, 0, 1, 2, 0, 3, -np.inf, np.nan])
    spread = float(np.std(logits[:7]))
    assert certain(logits) == 0
    logits[6] = 4 - greedy.SURE * spread * 0.9
    assert certain(logits) is None
    assert certain(1000 * logits) is None, "whatever the unit"
    assert certain(np.full(4, np.nan)) is None


def test_an_honest_engine_is_refused_as_rarely_as_the_documentation_says() -> None:
    """Logits that correlate by HONEST: certain tokens become others in fewer than 1 of 10,000 cases, and a golden text
    of TOKENS such tokens in fewer than 1 of 1,000. Six such texts refuse it less than once in a billion loads."""
    random = np.random.default_rng(7)
    logits = random.normal(size=(30_000, 100))
    tokens = [certain(each) for each in logits[:2_000]]
    ordered = np.sort(logits, axis=1)
    sure = ordered[:, -1] - ordered[:, -2] >= greedy.SURE * logits.std(axis=1)
    assert [token is not None for token in tokens] == sure[:2_000].tolist()
    noise = sqrt(1 / HONEST**2 - 1)
    other = logits + random.normal(size=logits.shape) * noise
    changed = float(np.mean((logits.argmax(axis=1) != other.argmax(axis=1))[sure]))
    assert sure.sum() > 10_000
    assert changed <= 1e-4
    text = 1 - (1 - 1e-4) ** TOKENS
    assert text < 1e-3
    most = int(6 * LEAST_SAME)  # so many may differ
    assert sum(comb(6, count) * text**count for count in range(most + 1, 7)) < 1e-9


def test_an_engine_that_reads_another_prompt_is_mostly_found_out() -> None:
    """What independent logits begin with is the same as rarely as their likeliest token is."""
    random = np.random.default_rng(7)
    logits, others = random.normal(size=(2, 1_000, 400))
    known = [(certain(each), int(other.argmax())) for each, other in zip(logits, others, strict=True)]
    assert np.mean([token == other for token, other in known if token is not None]) < 0.05


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_few_certain_texts_judge_as_well(count: int) -> None:
    """With one alone its own rate is the rate; more are stricter on none."""
    text, needed = 1e-3, LEAST_SAME * count
    refused = sum(comb(count, same) * text ** (count - same) for same in range(count + 1) if same < needed)
    assert refused <= text
