"""The benchmarks of training: who is held out, what is counted, and that they say so when something is not here."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import harmless, judged, preferences, training
from benchmarks.judged import Asked


def _line(number: int, rates: tuple[float, ...] = (0.0, 1.0)) -> preferences.Figures:
    responses = [
        {"model": f"m{place}", "text": "x" * (place + 1), "win_rate": rate} for place, rate in enumerate(rates)
    ]
    return {"query": f"query {number}", "responses": responses}


def test_no_query_is_trained_on_and_judged_by() -> None:
    lines = [_line(number) for number in range(50)]
    train, held = judged.parted(lines, seed=7)
    assert (len(train), len(held)) == (40, 10)
    assert sorted(one["query"] for one in (*train, *held)) == sorted(one["query"] for one in lines)
    assert judged.parted(lines, seed=7) == (train, held)
    assert judged.parted(lines, seed=8) != (train, held)


def test_the_share_of_the_gain_is_one_for_the_truth_and_minus_one_for_its_opposite() -> None:
    """Of the rates 0, 0.5, 1 with two draws a query: random is worth 0.5, the best possible pick 5/6, the worst 1/6."""
    rates = np.array([0.0, 0.5, 1.0])
    scores = {"truth": rates, "opposite": -rates, judged.LONGEST: rates}
    asked = [Asked(rates, np.array([10, 20, 30]), scores) for _ in range(4)]
    found = judged.figures(asked)
    assert found["truth"]["accuracy"]["value"] == 1
    assert found["opposite"]["accuracy"]["value"] == 0
    assert found["truth"]["gain"]["value"] == pytest.approx(1)
    assert found["opposite"]["gain"]["value"] == pytest.approx(-1)
    assert found["opposite"]["gain_to_longest"]["value"] == pytest.approx(-2)
    assert found["truth"]["similar"]["count"] == 0, "30 to 20 characters is not similar"


def test_similar_length_is_a_ratio_of_four_fifths_and_near_ties_are_no_pairs() -> None:
    rates = np.array([0.0, 0.12, 1.0])
    lengths = np.array([100, 124, 90])
    found = judged.figures([Asked(rates, lengths, {judged.LONGEST: lengths.astype(float)})])[judged.LONGEST]
    assert found["accuracy"]["count"] == 2  # 1 to 0.12 and 1 to 0; 0.12 to 0 is less than half a star
    assert (found["similar"]["count"], found["similar"]["value"]) == (1, 0)  # 90 to 100; 90 to 124 is 0.73


def test_a_name_is_worth_what_its_answers_were_on_the_train_part() -> None:
    train = [_line(0, (0.0, 1.0)), _line(1, (0.5, 0.5))]
    assert judged.names(train, [_line(2)]) == [[0.25, 0.75]]
    assert judged.lengths([_line(2)]) == [[1.0, 2.0]]


def test_every_dialogue_is_held_out_by_one_of_five_seeds_and_its_beginnings_stay_together() -> None:
    pairs = [
        {"chosen": f"\n\nHuman: {n // 2}\n\nAssistant: yes {n}", "rejected": f"\n\nHuman: {n // 2}\n\nAssistant: no"}
        for n in range(20)
    ]
    held = [harmless.fold(pairs, seed)[1] for seed in range(1, 6)]
    assert sorted(one["chosen"] for each in held for one in each) == sorted(one["chosen"] for one in pairs)
    for seed in range(1, 6):
        train, out = harmless.fold(pairs, seed)
        assert {harmless.beginning(one) for one in train}.isdisjoint({harmless.beginning(one) for one in out})
        assert len(train) + len(out) == 20
        assert len(out) == 4


def test_accuracies_are_over_all_seeds_and_paired_with_tfidf() -> None:
    right = {
        harmless.OURS: [np.array([1.0, 1.0, 0.0]), np.array([1.0])],
        harmless.TFIDF: [np.array([1.0, 0.0, 0.0]), np.array([0.0])],
    }
    found = harmless.figures(right)
    assert found[harmless.OURS]["accuracy"]["value"] == pytest.approx(3 / 4)
    assert found[harmless.OURS]["to_tfidf"]["value"] == pytest.approx(2 / 4)
    assert found[harmless.OURS]["by_seed"] == pytest.approx([2 / 3, 1])
    assert found[harmless.OURS]["spread"] == pytest.approx(1 / 3 / 2**0.5)
    assert harmless.ordered([(0.9, 0.1), (0.1, 0.9), (0.5, 0.5)]).tolist() == [1, 0, 0.5]


def test_a_loop_counts_by_the_median_of_its_turns() -> None:
    turns = [{"samples_per_second": each, "peak_memory_bytes": 7} for each in (1.0, 9.0, 2.0)]
    assert training.middle(turns) == {"samples_per_second": 2.0, "peak_memory_bytes": 7}
    line = _line(1, tuple(np.linspace(0, 1, 9)))
    assert training.drawn(line) == training.drawn(line)
    assert len(training.drawn(line)["responses"]) == training.ANSWERS


@pytest.mark.parametrize("suite", [judged, harmless, training])
def test_without_data_or_an_encoder_a_benchmark_says_what_is_missing(
    suite: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measure, table = suite.measure, suite.table  # type: ignore[attr-defined]
    monkeypatch.setattr(preferences, "JUDGED", tmp_path / "judged.jsonl.gz")
    monkeypatch.setattr(preferences, "HARMLESS", tmp_path / "harmless.jsonl.gz")
    assert "there is no" in measure()["skipped"]
    for name in ("judged.jsonl.gz", "harmless.jsonl.gz"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.delenv(preferences.BASE, raising=False)
    monkeypatch.setattr(preferences, "PACKAGE", "no_such_package")
    found = measure()
    assert "there is no encoder" in found["skipped"]
    assert "there is no encoder" in table(found).columns[0].header
