"""Which models the settings may name, and what becomes of the names. Nothing is converted here."""

from pathlib import Path

import pytest

from cli import models
from server.errors import ConfigurationError
from server.settings import load
from tests.releases import reward_directory


def test_every_setting_that_names_a_model_is_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Releases stay as they are, models of Hugging Face become releases of the kind that the setting needs."""
    converted: list[tuple[str, str]] = []
    monkeypatch.setattr(models, "_convert", lambda kind, origin, target, release_id: converted.append((kind, origin)))
    release = reward_directory(tmp_path / "reward-000009")
    named = {"embedding": "org/vectors", "toxicity": "org/toxic", "entailment": "org/nli"}
    said: list[str] = []
    settings = load({"home": tmp_path, "reward_fallback": str(release), **named}, {})
    found = models.resolve(settings, said.append)
    assert (found.policy, found.reward, found.reward_fallback) == (settings.policy, settings.reward, str(release))
    assert converted == [("embedding", "org/vectors"), ("classifier", "org/toxic"), ("classifier", "org/nli")]
    assert found.toxicity is not None
    assert Path(found.toxicity).name.startswith("classifier-")
    assert len(said) == 3


def test_what_is_not_named_stays_off(tmp_path: Path) -> None:
    found = models.resolve(load({"home": tmp_path}, {}), print)
    assert (found.embedding, found.toxicity, found.entailment, found.reward_fallback) == (None, None, None, None)


@pytest.mark.parametrize("name", ["embedding", "toxicity", "entailment", "reward_fallback"])
def test_a_path_that_is_not_there_is_named_by_its_flag(tmp_path: Path, name: str) -> None:
    settings = load({"home": tmp_path, name: "/no/such/model"}, {})
    with pytest.raises(ConfigurationError, match=f"^--{name.replace('_', '-')} /no/such/model does not exist"):
        models.resolve(settings, print)
