"""How `ratchet releases show` orders what a release's manifest holds, and what `publish` says is left out."""

import json
from pathlib import Path

from cli.publish import _left_out
from cli.releases import _figures
from tests.releases import reward_directory


def test_figures_come_in_order_and_words_after_them_each_sentence_once() -> None:
    metrics = {
        "run": "b22e",
        "zeta": {"vi": 0.71234, "en": [1.0, 2.5]},
        "reasons": ["No release serves.", "No release serves.", "It is new."],
        "tags": ["b", "a"],
        "count": None,
    }
    assert _figures(metrics) == [
        ("count", "–"),
        ("zeta en", "1, 2.5"),
        ("zeta vi", "0.7123"),
        ("reasons", "No release serves. It is new."),
        ("run", "b22e"),
        ("tags", "b, a"),
    ]


def test_files_that_no_manifest_names_are_left_out_and_said(tmp_path: Path) -> None:
    made = reward_directory(tmp_path / "reward-000002")
    assert _left_out(made) == []
    (made / "more").mkdir()
    for name in ("notes.txt", "more/ghi chú.md"):
        (made / name).write_text("x")
    assert _left_out(made) == ["more/ghi chú.md", "notes.txt"]


def test_where_this_machine_has_no_such_release_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "release.json").write_text(json.dumps([]))
    assert _left_out(tmp_path) == _left_out(tmp_path / "none") == _left_out(tmp_path / "release.json") == []
