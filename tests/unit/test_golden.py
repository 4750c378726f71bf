"""Golden answers: what a release carries to be probed with, and what is wrong with answers that are not these."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.releases import policy_directory, reward_directory
from triton_models import golden, manifest
from triton_models.golden import Answer, Rows, Texts, complaints, text_complaints
from triton_models.manifest import Release, ReleaseError
from triton_models.release import install

ROWS = Rows(((2, 7, 3), (2, 8, 9, 3)), {"logit": np.array([[1.5], [-3.25]], dtype=np.float32)})
TEXTS = Texts(
    ("<s>Xin chào", "Hi"),
    8,
    {
        "python": (Answer(" bạn 😀"), Answer("", ends=True)),
        "vllm": (Answer("bạn 😀 nhé"), Answer(" ")),
    },
)
TOLERANCE = {"logit": 0.1}


def _reward(home: Path, **changes: Any) -> tuple[Path, Release]:
    directory = reward_directory(home / "reward-000001", **changes)
    golden.write(directory, ROWS)
    return directory, manifest.write(directory, manifest.read(directory))


def _served(logit: Any, temperature: float = 2.0) -> dict[str, Any]:
    values = np.array(logit, dtype=np.float32)
    return {"logit": values, "score": (1 / (1 + np.exp(-values / temperature))).astype(np.float32)}


def test_rows_come_back_as_they_were_written_and_go_where_the_release_is_installed(tmp_path: Path) -> None:
    directory, release = _reward(tmp_path)
    for place in (directory, install(directory, tmp_path / "models")):
        found = golden.read(place, release)
        assert isinstance(found, Rows)
        assert found.rows == ROWS.rows
        assert found.answers["logit"].dtype == np.float32
        assert np.array_equal(found.answers["logit"], ROWS.answers["logit"])


def test_texts_come_back_as_they_were_written(tmp_path: Path) -> None:
    directory = policy_directory(tmp_path / "policy-000001")
    golden.write(directory, TEXTS)
    assert golden.read(directory, manifest.write(directory, manifest.read(directory))) == TEXTS


def test_a_release_from_before_has_none(tmp_path: Path) -> None:
    directory = reward_directory(tmp_path / "reward-000001")
    assert golden.read(directory, manifest.read(directory)) is None


def test_answers_that_were_tampered_with_fail_like_any_other_file(tmp_path: Path) -> None:
    directory, _ = _reward(tmp_path)
    (directory / golden.FILE).write_text((directory / golden.FILE).read_text().replace("1.5", "1.6"))
    with pytest.raises(ReleaseError, match=r"golden\.json was altered"):
        manifest.verify(directory)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"rows": [], "answers": {"logit": []}}',
        '{"rows": [[2, 3]], "answers": {}}',
        '{"rows": [[2, 3]], "answers": {"logit": []}}',
        '{"rows": [[2, 3]], "answers": {"logit": [0.5]}}',
        '{"rows": [[2, 3]], "answers": {"other": [[0.5]]}}',
        '{"rows": [[2, 3], []], "answers": {"logit": [[0.5], [1]]}}',
        '{"rows": [["two"]], "answers": {"logit": [[0.5]]}}',
    ],
)
def test_a_file_that_holds_no_golden_answers_is_said(tmp_path: Path, content: str) -> None:
    directory, release = _reward(tmp_path)
    (directory / golden.FILE).write_text(content)
    with pytest.raises(ReleaseError, match=r"golden\.json holds no golden answers"):
        golden.read(directory, release)
    (directory / golden.FILE).unlink()
    with pytest.raises(ReleaseError, match=r"golden\.json can't be read"):
        golden.read(directory, release)


def test_right_answers_are_right_within_the_variants_own_tolerance(tmp_path: Path) -> None:
    _, release = _reward(tmp_path, calibration={"temperature": 2.0})
    assert complaints(release, ROWS, _served([[1.5], [-3.25]]), TOLERANCE) == ()
    assert complaints(release, ROWS, _served([[1.59], [-3.34]]), TOLERANCE) == ()
    (said,) = complaints(release, ROWS, _served([[1.61], [-3.25]]), TOLERANCE)
    assert said == "logit is off by up to 0.11; 0.1 is allowed."


def test_a_score_must_follow_from_its_logit_by_the_releases_own_temperature(tmp_path: Path) -> None:
    """A server that kept the temperature of another release is found out, though every logit is right."""
    _, release = _reward(tmp_path, calibration={"temperature": 2.0})
    (said,) = complaints(release, ROWS, _served([[1.5], [-3.25]], temperature=1.0), TOLERANCE)
    assert said.startswith("score is off by up to 0.1")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({}, "logit is missing."),
        ({"logit": np.zeros((3, 1), dtype=np.float32)}, "logit has the shape [3, 1], not [2, 1]."),
        ({"logit": np.zeros((0, 0), dtype=np.float32)}, "logit has the shape [0, 0], not [2, 1]."),
        ({"logit": np.array([[np.nan], [0]], dtype=np.float32)}, "logit holds values that are no numbers."),
        ({"logit": ROWS.answers["logit"]}, "score is missing."),
    ],
)
def test_answers_that_are_none_are_wrong(tmp_path: Path, found: dict[str, Any], said: str) -> None:
    _, release = _reward(tmp_path)
    assert complaints(release, ROWS, found, TOLERANCE) == (said,)


def test_a_variant_without_a_tolerance_must_answer_to_the_bit(tmp_path: Path) -> None:
    _, release = _reward(tmp_path)
    assert complaints(release, ROWS, _served([[1.5], [-3.25]], 1.0), {}) == ()
    assert complaints(release, ROWS, _served([[1.5], [-3.2]], 1.0), {})


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        '{"prompts": ["Hi"], "max_tokens": 8, "answers": []}',
        '{"prompts": ["Hi"], "max_tokens": 8, "answers": {}}',
        '{"prompts": [], "max_tokens": 8, "answers": {"python": []}}',
        '{"prompts": ["Hi"], "max_tokens": 8, "answers": {"python": []}}',
        '{"prompts": ["Hi"], "max_tokens": 8, "answers": {"python": ["text"]}}',
        '{"prompts": ["Hi"], "max_tokens": 8, "answers": {"python": [{"begins": "text"}]}}',
    ],
)
def test_a_policys_file_that_holds_no_golden_texts_is_said(tmp_path: Path, content: str) -> None:
    directory = policy_directory(tmp_path / "policy-000001")
    golden.write(directory, TEXTS)
    release = manifest.write(directory, manifest.read(directory))
    (directory / golden.FILE).write_text(content)
    with pytest.raises(ReleaseError, match=r"golden\.json holds no golden answers"):
        golden.read(directory, release)


@pytest.mark.parametrize(
    ("answer", "fitting", "other"),
    [
        (Answer("bạn 😀"), ["bạn 😀", " bạn 😀 nhé", "bạn 😀."], ["bạn", "", "xin bạn 😀"]),
        (Answer(" bạn", ends=True), [" bạn", "bạn", "bạn\n"], ["bạn 😀", "", "xin bạn"]),
        (Answer("", ends=True), ["", " "], ["bạn"]),
        (Answer(" "), ["", "anything"], []),
    ],
)
def test_a_text_fits_an_answer_by_what_is_certain_of_it(answer: Answer, fitting: list[str], other: list[str]) -> None:
    assert [each for each in [*fitting, *other] if answer.fits(each)] == fitting


def test_half_of_a_policys_certain_texts_may_differ() -> None:
    assert text_complaints(TEXTS, "python", [" bạn 😀 nhé", ""]) == ()
    assert text_complaints(TEXTS, "python", [" bạn 😀", "else"]) == ()
    assert text_complaints(TEXTS, "python", ["garbage", "else"]) == (
        "0 of 2 golden prompts were answered as on the day of the export.",
    )
    assert text_complaints(TEXTS, "python", [" bạn 😀"]) == ("1 of 2 golden prompts were answered.",)


def test_each_layout_is_held_against_what_its_own_weights_answer() -> None:
    """A prompt of whose answer nothing is certain counts neither way."""
    assert text_complaints(TEXTS, "vllm", ["bạn 😀 nhé", "whatever"]) == ()
    assert text_complaints(TEXTS, "vllm", [" bạn 😀", ""]) == (
        "0 of 1 golden prompts were answered as on the day of the export.",
    )
    assert text_complaints(TEXTS, "another", ["it holds", "no weights for it"]) == ()
