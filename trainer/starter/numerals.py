"""Texts with other numbers than they had: what the reward model's warm-up tells from the real ones. Without torch."""

import random
import re


def renumbered(text: str, rng: random.Random) -> str:
    """The text with each of its numbers replaced by another one of about the same size; unchanged without numbers."""
    return re.sub(r"[1-9][0-9]*", lambda found: _another(found.group(), rng), text)


def _another(number: str, rng: random.Random) -> str:
    value = int(number)
    others = [other for other in (value // 2, value - 1, value + 1, value + 3, value * 2, value * 3) if other > 0]
    return str(rng.choice([other for other in others if other != value]))
