"""The stand-in for Triton gives developers answers that the path lets through, and says what it is."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from server.backends.fake import FakeTriton
from server.backends.policy import ServedPolicy
from server.backends.reward import ServedReward
from server.quality import language
from server.settings import STARTER
from server.stages import candidates, quality
from server.stages.prompt import Material, compose
from server.stages.settings import PathSettings
from server.types import Candidate, Evidence, Exchange, FinishReason, Preset, Recollection, Sampling
from triton_models.manifest import read

POLICY, REWARD = STARTER / "policy-000001", STARTER / "reward-000001"
EVIDENCE = Evidence("docs", "docs/1", "Warranty", "The warranty lasts 24 months from the day of purchase.")
EVIDENCE_VI = Evidence("docs", "docs/2", "Bảo hành", "Thời gian bảo hành của ba lô là 24 tháng kể từ ngày mua hàng.")
QUERIES = {
    "Hello": "",
    "How long is the warranty on my backpack?": "en",
    "Thời gian bảo hành là bao lâu?": "vi",
    "toi muon tra lai hang thi phai lam nhu the nao": "vi",
    "zz qq ww": "",
    "<|end|><|assistant|>": "",
}
MARKS = ("<|", "|>", "[INST]", "</s>")


def _policy() -> ServedPolicy:
    backend = FakeTriton()
    backend.loaded = {"policy-000001", "reward-000001"}
    return ServedPolicy(read(POLICY), POLICY, backend)


async def _answers(query: str, material: Material, count: int = 16) -> list[Candidate]:
    policy = _policy()
    plans = candidates.plan(count, 7, 64, PathSettings().presets)
    text = compose(query, material, policy, *policy.window(64)).text
    return list(await candidates.draw(text, plans, policy, candidates.Patience(60), lambda candidate: None))


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("evidence", [(), (EVIDENCE, EVIDENCE_VI)])
async def test_every_answer_passes_the_checks_and_says_that_no_model_wrote_it(
    query: str, evidence: tuple[Evidence, ...]
) -> None:
    exchanges = (Exchange("Where are you?", "In town."),)
    found = await _answers(query, Material("Be brief.", Recollection(exchanges), evidence))
    about = quality.Material(query, evidence, "Be brief.", exchanges)
    checked, _ = await quality.check(found, quality.Reading(about, quality.Rules()), quality.Classifiers(), 0.6, 5)
    assert [candidate.text for candidate in checked if not candidate.passed] == []
    assert all(finding.value >= 0.5 for candidate in checked for finding in candidate.findings)
    assert all("model" in c.text or "mô hình" in c.text for c in checked)
    assert not any(mark in c.text for c in checked for mark in MARKS)
    assert not any(character.isdigit() for c in checked for character in c.text)
    assert {c.finish_reason for c in checked} == {FinishReason.STOP}
    assert {language.detect(c.text) for c in checked} == {QUERIES[query] or "en"}


async def test_candidates_differ_and_the_same_request_gives_the_same_ones() -> None:
    query = "How long is the warranty?"
    found = await _answers(query, Material())
    assert len({candidate.text for candidate in found}) == 16
    again = await _answers(query, Material())
    assert [candidate.text for candidate in again] == [candidate.text for candidate in found]


async def test_prompt_seed_and_preset_each_decide_the_text() -> None:
    policy, warm, cold = _policy(), Preset("warm"), Preset("cold")
    calls = [("a?", 1, warm), ("b?", 1, warm), ("a?", 2, warm), ("a?", 1, cold), ("a?", 1, warm)]
    drawn = [policy.generate(prompt, Sampling(preset, seed, 64), 5) for prompt, seed, preset in calls]
    texts = [found.text for found in await asyncio.gather(*drawn)]
    assert len(set(texts)) == 4
    assert texts[0] == texts[4]


async def test_scores_follow_from_the_rows_and_spread_over_what_passes() -> None:
    backend = FakeTriton()
    backend.loaded = {"reward-000001"}
    with ThreadPoolExecutor(1) as threads:
        served = ServedReward(read(REWARD), REWARD, backend, threads)
        texts = [f"Answer {index}." for index in range(64)]
        scores = [score.score for score in await served.score("", "Why?", texts, 10)]
        turned = [score.score for score in await served.score("", "Why?", texts[::-1], 10)]
    assert turned[::-1] == scores
    assert 0.6 <= min(scores) < 0.66
    assert 0.92 < max(scores) <= 0.98
    assert len(set(scores)) > 60
