"""The starter models: an invented shop's help desk, a small policy and a small reward model trained from scratch on it.

`python -m trainer.starter` makes the corpus, trains, exports and proves them; docs/starter.md tells the whole story.
"""

from pathlib import Path
from typing import Final

STARTER: Final = Path(__file__).resolve().parents[2] / "starter"
"""Where the shipped releases and files lie."""
ENCODER: Final = "encoder"


def base() -> Path:
    """The starter reward model before its export, a Hugging Face directory: what training goes on from by default."""
    return STARTER / ENCODER
