"""Which models a run may name that was asked for through the API, on a disk with all kinds of directories."""

from pathlib import Path
from typing import Any

import pytest

from exporters import source
from trainer.errors import TrainerError
from trainer.reward import base
from trainer.reward.admission import MODELS, admitted

HUB_NAMES = ("roberta-base", "google/t5-v1_1-small", "secret", "trainer", "trainer/data", "etc/ssl", "etc/nothing")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of bases with one in it, beside a secret, to which a link in the folder leads, too."""
    for name in ("bases/mine", "bases/team/ours", "secret", "bases-of-others"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "bases" / "way-out").symlink_to(tmp_path / "secret")
    return tmp_path / "bases"


@pytest.mark.parametrize("cwd", ["/", "."])
def test_names_of_the_hub_are_looked_for_nowhere_else_whatever_lies_under_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cwd: str
) -> None:
    """Else one directory could be opened, and the errors of others would tell that they are there."""
    monkeypatch.chdir(folder.parent / cwd)
    monkeypatch.setenv("HF_HUB_CACHE", str(folder.parent))
    monkeypatch.setattr(source, "_hub_answers", lambda: False)
    errors = set()
    for name in HUB_NAMES:
        for given in (name, f"hub:{name}"):
            found = admitted({"base": given}, folder)
            assert found == admitted({"base": given}, None) == {"base": f"hub:{name}"}
            with pytest.raises(TrainerError) as told:
                base.find(found["base"])
            errors.add(str(told.value).replace(name, "NAME"))
    assert len(errors) == 1, errors
    assert "director" not in errors.pop()


@pytest.mark.parametrize("setting", MODELS)
def test_ratchets_own_base_is_found_from_everywhere(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From another directory its name would be that of a stranger's model on the hub."""
    monkeypatch.chdir("/")
    assert Path(_value(admitted({setting: "starter/encoder"}, None), setting)) == base.STARTER
    assert base.find(str(base.STARTER)).name == "starter/encoder"


def test_an_empty_base_is_none_and_auto_is_a_word_for_bases_alone() -> None:
    """The empty path is the directory that the trainer was started in, in place of the base of its own settings."""
    assert admitted({"base": "", "train.max_epochs": 2}, None) == {"train": {"max_epochs": 2}}
    assert admitted({"base": "auto", "paraphrase_model": ""}, None) == {
        "base": "auto",
        "augment": {"paraphrase_model": ""},
    }
    assert _value(admitted({"augment.paraphrase_model": "auto"}, None), "augment.paraphrase_model") == "hub:auto"


def _value(found: Any, setting: str) -> str:
    for name in setting.split("."):
        found = found[name]
    return str(found)


@pytest.mark.parametrize("setting", MODELS)
def test_no_setting_names_a_path_outside_the_folder(
    folder: Path, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    outside = [str(folder.parent / "secret"), "/", "/etc", str(folder), f"{folder}-of-others", "/nowhere/at/all"]
    outside += [str(folder / "way-out"), "./way-out", "./secret", "../secret", "mine/../../secret"]
    (folder / "round").symlink_to(folder / "round")
    outside += [
        "./round",
        str(folder / "round"),
        "hub:/etc",
        "hub:",
        "~",
        "~root",
        "a/b/c",
        "-x",
        "a\\b",
        "x" * 1000 + "/",
        "mine\0",
        "tên/lạ",
    ]
    for name in outside:
        for given in (folder, None):
            with pytest.raises(TrainerError, match="may not be"):
                admitted({setting: name}, given)


def test_a_model_below_the_folder_is_named_by_its_path_or_from_there(folder: Path) -> None:
    for name in ("mine", "./mine", "team/../mine", str(folder / "mine")):
        assert admitted({"base": name}, folder) == {"base": str(folder / "mine")}
    asked = {"augment": {"paraphrase_model": "team/ours", "share": 0.5}, "train": {"max_epochs": 1}}
    path = str(folder / "team" / "ours")
    assert admitted(asked, folder) == asked | {"augment": {"paraphrase_model": path, "share": 0.5}}
    with pytest.raises(TrainerError):
        admitted({"base": str(folder / "mine")}, None)
