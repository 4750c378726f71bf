"""The settings of a run as a JSON Schema, for those who check them without the trainer: the server does.

`python -m trainer.reward.schema` writes it to where the server reads it. Defaults, titles and descriptions are left
out: only a change of names, types or ranges changes the file.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.reward.config import RewardConfig

PLACE = Path(__file__).parents[2] / "server" / "training" / "reward_settings.json"
_WORDS = ("default", "title", "description")


def text() -> str:
    """What the file holds."""
    return json.dumps(_bare(RewardConfig.model_json_schema()), indent=1) + "\n"


def _bare(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without the keywords that only people read; names of settings may be the same words."""
    found = {key: value for key, value in schema.items() if key not in _WORDS}
    for group in ("properties", "$defs"):
        if group in found:
            found[group] = {name: _bare(each) for name, each in found[group].items()}
    return found


if __name__ == "__main__":
    PLACE.write_text(text())
