"""Installing a release into a Triton model repository."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.releases import policy_directory, reward_directory
from triton_models import contract, manifest
from triton_models.config import Options
from triton_models.manifest import ReleaseError
from triton_models.release import install


def test_the_installed_release_is_whole_and_has_its_code(tmp_path: Path) -> None:
    source, repository = policy_directory(tmp_path / "policy-000001"), tmp_path / "models"
    target = install(source, repository)
    assert target == repository / "policy-000001"
    assert manifest.verify(target) == manifest.read(source)
    assert 'name: "policy-000001"' in (target / "config.pbtxt").read_text()
    for name in contract.CODE["policy"]:
        assert (target / "1" / name).is_file()
    assert list(repository.iterdir()) == [target]
    assert not any((tmp_path / "models.staging").iterdir())


def test_installing_again_touches_nothing(tmp_path: Path) -> None:
    source, repository = reward_directory(tmp_path / "reward-000001"), tmp_path / "models"
    target = install(source, repository)
    before = {file: file.stat().st_mtime_ns for file in [target / "1", *target.rglob("*")]}
    install(source, repository)
    assert {file: file.stat().st_mtime_ns for file in [target / "1", *target.rglob("*")]} == before


def test_installing_again_brings_options_and_code_up_to_date(tmp_path: Path) -> None:
    source, repository = reward_directory(tmp_path / "reward-000001"), tmp_path / "models"
    target = install(source, repository)
    (target / "1" / "model.py").write_text("of an older version")
    install(source, repository, Options(threads=3))
    assert 'string_value: "3"' in (target / "config.pbtxt").read_text()
    assert "class TritonPythonModel" in (target / "1" / "model.py").read_text()


def test_code_in_the_source_is_never_installed(tmp_path: Path) -> None:
    source = reward_directory(tmp_path / "reward-000001")
    (source / "1" / "model.py").write_text("raise SystemExit")
    assert "SystemExit" not in (install(source, tmp_path / "models") / "1" / "model.py").read_text()


def test_another_release_of_the_same_id_is_an_error(tmp_path: Path) -> None:
    source, repository = reward_directory(tmp_path / "reward-000001"), tmp_path / "models"
    target = install(source, repository)
    manifest.write(source, replace(manifest.read(source), threshold=0.1))
    with pytest.raises(ReleaseError, match="already holds another release"):
        install(source, repository)
    assert manifest.verify(target).threshold == 0.6


def test_a_damaged_source_leaves_the_repository_as_it_was(tmp_path: Path) -> None:
    source, repository = reward_directory(tmp_path / "reward-000001"), tmp_path / "models"
    (source / "1" / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(ReleaseError, match="was altered"):
        install(source, repository)
    assert not repository.exists()


def test_a_damaged_target_is_said_and_not_served(tmp_path: Path) -> None:
    source, repository = reward_directory(tmp_path / "reward-000001"), tmp_path / "models"
    (install(source, repository) / "1" / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(ReleaseError, match="was altered"):
        install(source, repository)
