"""Installing a release into a Triton model repository."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.releases import policy_directory, reward_directory
from triton_models import contract, manifest, release
from triton_models.config import Options
from triton_models.manifest import ReleaseError
from triton_models.release import install
from triton_models.removal import take_out


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


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read to hash them, in order."""
    found: list[Path] = []
    sha256 = manifest.sha256

    def noted(path: Path) -> str:
        found.append(path)
        return sha256(path)

    monkeypatch.setattr(manifest, "sha256", noted)
    return found


def test_files_are_read_once_when_they_are_installed_and_once_when_they_are_there(
    tmp_path: Path, hashed: list[Path]
) -> None:
    """Weights have gigabytes: a first install hashes what it copies, the next ones what is in the repository."""
    source, repository = policy_directory(tmp_path / "policy-000001"), tmp_path / "models"
    hashed.clear()
    target = install(source, repository)
    assert not hashed
    for _ in range(2):
        hashed.clear()
        install(source, repository)
        assert sorted(hashed) == sorted(target / name for name in manifest.read(source).files)


def test_what_is_installed_whole_needs_its_source_no_more(tmp_path: Path) -> None:
    source, repository = reward_directory(tmp_path / "reward-000001"), tmp_path / "models"
    target = install(source, repository)
    (source / "1" / "model.onnx").write_bytes(b"damaged")
    assert install(source, repository) == target
    assert manifest.verify(target)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda source: (source / "1" / "more.onnx").write_bytes(b""), "is not named in the release's manifest"),
        (lambda source: (source / "1" / "model.onnx").unlink(), "is missing"),
        (lambda source: _link(source / "1" / "model.onnx"), "leaves the release or is a link"),
        (lambda source: _link(source / "tokenizer"), "leaves the release or is a link"),
    ],
)
def test_nothing_of_a_source_is_copied_that_is_not_as_its_manifest_says(
    tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    source, repository = reward_directory(tmp_path / "reward-000001"), tmp_path / "models"
    damage(source)
    with pytest.raises(ReleaseError, match=said):
        install(source, repository)
    assert not repository.exists()
    assert not list(tmp_path.glob("models.staging/*"))


def _link(path: Path) -> None:
    elsewhere = path.rename(path.parents[2] / "elsewhere" if path.is_file() else path.parents[1] / "elsewhere")
    path.symlink_to(elsewhere)


def test_a_manifest_can_not_have_files_written_beside_the_release(tmp_path: Path) -> None:
    source, repository = reward_directory(tmp_path / "reward-000001"), tmp_path / "models"
    (tmp_path / "stray").write_bytes(b"stray")
    before = manifest.read(source)
    text = (source / "release.json").read_text()
    other = f'"../stray": "{manifest.sha256(tmp_path / "stray")}", "1/model.onnx"'
    (source / "release.json").write_text(text.replace('"1/model.onnx"', other))
    assert manifest.read(source) != before
    with pytest.raises(ReleaseError, match="leaves the release or is a link"):
        install(source, repository)
    assert {each.name for each in tmp_path.iterdir()} <= {"reward-000001", "stray", "models.staging"}


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


def test_what_is_taken_out_while_it_is_looked_at_is_installed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any step: a leader removes it whole by a rename, since it was retired."""
    source, repository = reward_directory(tmp_path / "reward-000001"), tmp_path / "models"
    target = install(source, repository)
    for name in ("_require_same", "add_code"):
        for before in (True, False):
            with monkeypatch.context() as patched:
                patched.setattr(release, name, _taking_out(getattr(release, name), target, before=before))
                assert install(source, repository) == target
            assert manifest.verify(target) == manifest.read(source)
            assert (target / "config.pbtxt").is_file()


def _taking_out(true: Callable[..., None], target: Path, *, before: bool) -> Callable[..., None]:
    """What is called takes the release out first, or once it is done, and fails then: once."""
    times: list[bool] = []

    def call(*given: Any, **named: Any) -> None:
        if not times and before:
            times.append(True)
            take_out(target)
        true(*given, **named)
        if not times:
            times.append(True)
            take_out(target)
            raise FileNotFoundError(target)

    return call


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
