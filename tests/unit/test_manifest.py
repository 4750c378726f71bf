"""release.json: what is read, what is refused, and what a verified release guarantees."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.releases import reward_directory
from triton_models import manifest
from triton_models.manifest import ReleaseError


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return reward_directory(tmp_path / "reward-000001")


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    raw = json.loads((path / "release.json").read_text())
    change(raw)
    (path / "release.json").write_text(json.dumps(raw))


def test_what_was_written_is_read_and_verified(release: Path) -> None:
    read = manifest.read(release)
    assert manifest.verify(release) == read
    assert set(read.files) == {"1/model.onnx", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"}
    assert replace(read, parent="reward-000000") != read


def test_code_and_caches_belong_to_no_release(release: Path) -> None:
    (release / "config.pbtxt").write_text("name: 'x'")
    (release / "1" / "model.py").write_text("")
    (release / "1" / "__pycache__").mkdir()
    (release / "1" / "__pycache__" / "model.pyc").write_bytes(b"")
    assert "1/model.py" not in manifest.verify(release).files


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda raw: raw.update(surprise=1), "doesn't know: surprise"),
        (lambda raw: raw.pop("base_model"), "not a complete manifest"),
        (lambda raw: raw.update(kind="judge"), "kind must be"),
        (lambda raw: raw.update(schema_version=2), "schema_version must be 1"),
        (lambda raw: raw.update(id="../evil"), "id must be"),
        (lambda raw: raw.update(threshold=1.5), "threshold must be"),
        (lambda raw: raw.update(batching="lazy"), "batching must be"),
        (lambda raw: raw.update(outputs=None), "not a complete manifest"),
        (lambda raw: raw.update(outputs=[]), "outputs must be"),
        (lambda raw: raw.update(calibration={"temperature": 0}), "temperature above 0"),
        (lambda raw: raw["serializer"].pop("format"), "serializer lacks format"),
        (lambda raw: raw["serializer"].update(color=1), "doesn't know: color"),
        (lambda raw: raw["files"].update({"1/model.onnx": "abc"}), "files must be"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused_in_one_sentence(
    release: Path, change: Callable[[dict[str, Any]], object], complaint: str
) -> None:
    _edit(release, change)
    with pytest.raises(ReleaseError, match=complaint) as caught:
        manifest.read(release)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "spec", "outputs", "complaint"),
    [
        ("embedding", {"dimension": 8}, ("sentence_embedding",), None),
        ("embedding", {"dimension": 8, "prefix": "query: "}, ("sentence_embedding",), None),
        ("embedding", {}, ("sentence_embedding",), "lacks dimension"),
        ("embedding", {"dimension": 0}, ("sentence_embedding",), "dimension must be a whole number"),
        ("embedding", {"dimension": True}, ("sentence_embedding",), "dimension must be a whole number"),
        ("embedding", {"dimension": 8, "prefix": 1}, ("sentence_embedding",), "prefix must be a text"),
        ("embedding", {"dimension": 8}, ("score",), "outputs of a release of this kind must be sentence_embedding"),
        ("classifier", {"labels": ["toxic", "neutral"]}, ("probabilities",), None),
        ("classifier", {"labels": ["toxic"]}, ("probabilities",), None),
        ("classifier", {}, ("probabilities",), "lacks labels"),
        ("classifier", {"labels": []}, ("probabilities",), "labels must be"),
        ("classifier", {"labels": "toxic"}, ("probabilities",), "labels must be"),
        ("classifier", {"labels": ["Toxic", "neutral"]}, ("probabilities",), "in lower case"),
        ("classifier", {"labels": ["toxic", "toxic"]}, ("probabilities",), "different names"),
        ("classifier", {"labels": ["a", "b"]}, ("probabilities", "logit"), "outputs of a release of this kind"),
        ("reward", {"labels": ["a", "b"]}, ("score", "logit"), "doesn't know: labels"),
    ],
)
def test_each_kind_of_encoder_states_what_it_gives(
    tmp_path: Path, kind: str, spec: dict[str, Any], outputs: tuple[str, ...], complaint: str | None
) -> None:
    rows = {"format": "bert", "max_length": 16, "token_type_ids": True}
    changes = {"kind": kind, "serializer": rows | spec, "outputs": outputs}
    if complaint is None:
        assert manifest.verify(reward_directory(tmp_path / "r", **changes)).kind == kind
    else:
        with pytest.raises(ReleaseError, match=complaint):
            reward_directory(tmp_path / "r", **changes)


@pytest.mark.parametrize("text", ["", "[]", "{", "\udcff"])
def test_what_is_no_json_object_is_refused(release: Path, text: str) -> None:
    (release / "release.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ReleaseError, match="JSON"):
        manifest.read(release)


def test_a_directory_without_a_manifest_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="is not a release"):
        manifest.read(tmp_path)


def test_an_altered_file_is_found(release: Path) -> None:
    (release / "1" / "model.onnx").write_bytes(b"other weights")
    with pytest.raises(ReleaseError, match="was altered"):
        manifest.verify(release)


def test_of_a_folder_alone_that_folder_is_looked_at(release: Path) -> None:
    (release / "1" / "model.onnx").write_bytes(b"other weights")
    assert manifest.verify(release, folder="tokenizer") == manifest.read(release)
    (release / "tokenizer" / "tokenizer.json").write_bytes(b"{}")
    with pytest.raises(ReleaseError, match=r"tokenizer\.json was altered"):
        manifest.verify(release, folder="tokenizer")


def test_a_missing_file_is_found(release: Path) -> None:
    (release / "1" / "model.onnx").unlink()
    with pytest.raises(ReleaseError, match="is missing"):
        manifest.verify(release)


def test_a_file_that_the_manifest_does_not_name_is_found(release: Path) -> None:
    (release / "1" / "extra.so").write_bytes(b"")
    with pytest.raises(ReleaseError, match="not named"):
        manifest.verify(release)


def test_a_link_is_not_a_file_of_the_release(release: Path, tmp_path: Path) -> None:
    shutil.move(release / "1" / "model.onnx", tmp_path / "outside")
    (release / "1" / "model.onnx").symlink_to(tmp_path / "outside")
    with pytest.raises(ReleaseError, match="is a link"):
        manifest.verify(release)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "1/../../outside"])
def test_a_path_that_leaves_the_release_is_refused(release: Path, name: str) -> None:
    (release.parent / "outside").write_bytes(b"")
    _edit(release, lambda raw: raw["files"].update({name: "0" * 64}))
    with pytest.raises(ReleaseError, match="leaves the release"):
        manifest.verify(release)


def test_a_release_that_names_no_files_proves_nothing(release: Path) -> None:
    _edit(release, lambda raw: raw.update(files={}))
    with pytest.raises(ReleaseError, match="names no files"):
        manifest.verify(release)
