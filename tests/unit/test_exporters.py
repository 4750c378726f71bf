"""What a conversion refuses, in one sentence, before it loads anything heavy; and how parity is measured."""

import json
from pathlib import Path

import numpy as np
import pytest

from exporters import parity
from exporters.__main__ import main
from exporters.errors import ExportError, explained
from exporters.policy import export_policy
from exporters.staging import staged


@pytest.mark.parametrize("name", ["/no/such/model", "./nothing", "a/b/c"])
def test_a_path_that_is_not_there_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match="does not exist"):
        export_policy(name, tmp_path / "out", release_id="policy-1")


def test_a_directory_without_a_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no config\.json"):
        export_policy(tmp_path, tmp_path / "out", release_id="policy-1")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ExportError, match="no weights"):
        export_policy(tmp_path, tmp_path / "out", release_id="policy-1")


def test_an_output_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("")
    with pytest.raises(ExportError, match="exists already"), staged(tmp_path / "out"):
        raise AssertionError


def test_a_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with staged(tmp_path / "out") as directory, explained("It broke"):
            (directory / "half").write_text("")
            raise ValueError("first line\nsecond line")

    with pytest.raises(ExportError, match=r"^It broke: first line\.$"):
        fail()
    assert not list(tmp_path.iterdir())


def test_the_command_says_one_sentence_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["policy", str(tmp_path), "--out", str(tmp_path / "o"), "--id", "policy-1", "--json"]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert "no config.json" in json.loads(printed.err)["error"]
    assert not printed.out


def test_rank_agreement_counts_the_pairs_that_the_reference_tells_apart() -> None:
    reference = np.array([0.0, 1.0, 2.0, 2.0])
    assert parity.rank_agreement(reference, reference) == 1.0
    assert parity.rank_agreement(reference, -reference) == 0.0
    assert parity.rank_agreement(reference, np.array([0.0, 2.0, 1.0, 3.0])) == pytest.approx(4 / 5)
    assert parity.rank_agreement(np.zeros(3), np.arange(3.0)) == 1.0


def test_differences_and_correlation() -> None:
    left, right = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 2.0], [3.0, 4.5]])
    assert parity.largest_difference(left, right) == 0.5
    assert parity.correlation(left, 2 * left + 1) == pytest.approx(1)
