"""Paraphrase and back-translation with real (tiny, random) sequence-to-sequence models of Hugging Face's kinds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny_models
from trainer.data.rewriting import MOST_TOKENS, Rewriter, rewriters
from trainer.errors import TrainerError
from trainer.reward.config import AugmentConfig

QUERIES = ["Where is it?", "Đơn hàng đâu?", "Return it"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small spend their time on threads that wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module")
def bart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.bart(tmp_path_factory.mktemp("bart"))


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.marian(tmp_path_factory.mktemp("marian"))


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_paraphrases_come_one_for_each_text_and_again_for_the_same_seed(
    kind: str, request: pytest.FixtureRequest
) -> None:
    config = AugmentConfig(paraphrase_model=str(request.getfixturevalue(kind)))
    (rewrite,) = rewriters(config, seed=1)
    found = rewrite(QUERIES)
    assert len(found) == len(QUERIES)
    assert any(text.strip() and text not in QUERIES for text in found), "the model's words did not come through"
    assert rewrite(QUERIES) == found
    (other,) = rewriters(config, seed=2)
    assert other(QUERIES) != found


def test_rewriting_leaves_the_seed_of_training_alone(t5: Path) -> None:
    import torch

    (rewrite,) = rewriters(AugmentConfig(paraphrase_model=str(t5)), seed=1)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    rewrite(QUERIES)
    assert torch.equal(torch.rand(3), expected)


def test_t5_is_told_its_task_and_bart_is_not(t5: Path, bart: Path) -> None:
    assert Rewriter.open(str(t5), 1, sample=True, paraphrase=True).task == "paraphrase: "
    assert Rewriter.open(str(bart), 1, sample=True, paraphrase=True).task == ""


def test_back_translation_gives_what_the_second_model_says_of_what_the_first_one_said(marian: Path, t5: Path) -> None:
    config = AugmentConfig(forward_model=str(marian), backward_model=str(t5))
    (rewrite,) = rewriters(config, seed=1)
    there = Rewriter.open(str(marian), 1, sample=False)(QUERIES)
    back = Rewriter.open(str(t5), 1, sample=True)(there)
    expected = [again if abroad != text else text for text, abroad, again in zip(QUERIES, there, back, strict=True)]
    assert rewrite(QUERIES) == expected
    assert expected != QUERIES


def test_a_text_too_long_for_the_model_comes_back_whole_and_unchanged(t5: Path) -> None:
    (rewrite,) = rewriters(AugmentConfig(paraphrase_model=str(t5)), seed=1)
    long = "return the lamp " * MOST_TOKENS
    assert rewrite([long])[0] == long
    assert rewrite([]) == []


def test_models_that_can_not_rewrite_are_refused_in_a_sentence(t5: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="does not turn one text into another"):
        rewriters(AugmentConfig(paraphrase_model=str(tiny_models.bert(tmp_path / "bert"))), seed=1)
    with pytest.raises(TrainerError, match="does not exist"):
        rewriters(AugmentConfig(paraphrase_model=str(tmp_path / "nothing")), seed=1)
    with pytest.raises(TrainerError, match="needs both"):
        rewriters(AugmentConfig(forward_model=str(t5)), seed=1)
