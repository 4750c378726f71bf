"""Golden answers: inputs that a release carries with what it answers, `golden.json`, to probe it once it is loaded.

The manifest holds the file's hash like that of any other. Who loads a release asks it these inputs and hands what came
back to `complaints`. Numbers only: whoever probes does the calling.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from triton_models.contract import LOGIT, SCORE
from triton_models.manifest import Release, ReleaseError

FILE: Final = "golden.json"
MOST_ROWS: Final = 32
"""In the file: they fit one request, and an embedding's vectors stay small on disk."""
SCORE_TOLERANCE: Final = 1e-3
"""Of a score from the sigmoid of the logit that came with it."""
LEAST_SAME: Final = 0.5
"""Share of the golden texts of which anything is certain that a policy must begin so again."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rows:
    """Of an encoder: rows of token ids, and the checkpoint's fp32 answer by output, [N, width] each.

    A reward's logits are not calibrated, as those that are served; its scores follow from them.
    """

    rows: tuple[tuple[int, ...], ...]
    answers: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a text at temperature 0 certainly `begins` with, whoever computes it in whatever order of additions.

    `ends`: it certainly ends there. What follows otherwise is left out: a token that hardly leads the next one may be
    another one elsewhere, and moves all after it.
    """

    begins: str
    ends: bool = False

    @property
    def tells(self) -> bool:
        """Whether anything is certain."""
        return self.ends or bool(self.begins.strip())

    def fits(self, found: str) -> bool:
        """Whether a text is this one. Spaces around it are the decoders': some drop the first one."""
        expected, text = self.begins.strip(), found.strip()
        return text == expected if self.ends else text.startswith(expected)


@dataclass(frozen=True, slots=True)
class Texts:
    """Of a policy: prompts as its tensor `text_input` takes them, and what each layout that it holds weights for goes
    on with, in the order of the prompts."""

    prompts: tuple[str, ...]
    max_tokens: int
    answers: Mapping[str, tuple[Answer, ...]]


def write(directory: Path, golden: Rows | Texts) -> None:
    """Puts `golden.json` into a release that is being made; its manifest is written after it."""
    document: dict[str, Any]
    if isinstance(golden, Rows):
        answers = {name: [[float(f"{x:.7g}") for x in row] for row in of] for name, of in golden.answers.items()}
        document = {"rows": golden.rows, "answers": answers}
    else:
        texts = {layout: [asdict(each) for each in of] for layout, of in golden.answers.items()}
        document = {"prompts": golden.prompts, "max_tokens": golden.max_tokens, "answers": texts}
    (directory / FILE).write_text(json.dumps(document, ensure_ascii=False) + "\n", encoding="utf-8")


def read(directory: Path, release: Release) -> Rows | Texts | None:
    """What the release carries; None for one made before releases had any. Raises ReleaseError."""
    if FILE not in release.files:
        return None
    try:
        raw = json.loads((directory / FILE).read_bytes())
        return _texts(raw) if release.kind == "policy" else _rows(raw, release)
    except OSError as error:
        raise ReleaseError(f"{directory / FILE} can't be read: {error.strerror}.") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ReleaseError(f"{directory / FILE} holds no golden answers: {error!r}.") from None


def complaints(
    release: Release, golden: Rows, found: Mapping[str, Floats], tolerance: Mapping[str, float]
) -> tuple[str, ...]:
    """What is wrong with an encoder's answers to the golden rows, a sentence each; none when they are right.

    `tolerance` is the served variant's own, by output. Answers that are missing, of another shape, or no numbers are
    wrong whatever it is; so is a reward's score that is not the sigmoid of its calibrated logit.
    """
    said = [_difference(name, of, found.get(name), tolerance.get(name, 0.0)) for name, of in golden.answers.items()]
    if not any(said) and SCORE in release.outputs:
        expected = _sigmoid(found[LOGIT] / np.float32(release.calibration["temperature"]))
        said.append(_difference(SCORE, expected, found.get(SCORE), SCORE_TOLERANCE))
    return tuple(filter(None, said))


def text_complaints(golden: Texts, layout: str, found: Sequence[str]) -> tuple[str, ...]:
    """The same for a policy's texts at temperature 0, in the order of the prompts.

    Of a layout that the release holds no weights for nothing is known.
    """
    if len(found) != len(golden.prompts):
        return (f"{len(found)} of {len(golden.prompts)} golden prompts were answered.",)
    known = [(each, text) for each, text in zip(golden.answers.get(layout, ()), found, strict=False) if each.tells]
    same = sum(each.fits(text) for each, text in known)
    if same < LEAST_SAME * len(known):
        return (f"{same} of {len(known)} golden prompts were answered as on the day of the export.",)
    return ()


def _difference(name: str, expected: Floats, found: Floats | None, tolerance: float) -> str:
    if found is None:
        return f"{name} is missing."
    if found.shape != expected.shape:
        return f"{name} has the shape {list(found.shape)}, not {list(expected.shape)}."
    if not np.isfinite(found).all():
        return f"{name} holds values that are no numbers."
    worst = float(np.max(np.abs(found - expected)))
    return "" if worst <= tolerance else f"{name} is off by up to {worst:.3g}; {tolerance:.3g} is allowed."


def _sigmoid(logit: Floats) -> Floats:
    """1 / (1 + exp(-logit)), in a form that doesn't overflow."""
    return cast("Floats", (np.tanh(logit * np.float32(0.5)) + np.float32(1)) * np.float32(0.5))


def _rows(raw: Any, release: Release) -> Rows:
    rows = tuple(tuple(int(token) for token in row) for row in raw["rows"])
    answers = {str(name): np.array(values, dtype=np.float32) for name, values in raw["answers"].items()}
    if not rows or not all(rows) or not answers or not set(answers) <= set(release.outputs):
        raise ValueError("rows, or answers to them, are missing")
    if any(values.ndim != 2 or len(values) != len(rows) for values in answers.values()):
        raise ValueError("a row has no answer")
    return Rows(rows, answers)


def _texts(raw: Any) -> Texts:
    prompts = tuple(map(str, raw["prompts"]))
    answers = {str(layout): tuple(_answer(each) for each in of) for layout, of in raw["answers"].items()}
    if not prompts or not answers or any(len(of) != len(prompts) for of in answers.values()):
        raise ValueError("a prompt has no answer")
    return Texts(prompts, int(raw["max_tokens"]), answers)


def _answer(raw: Any) -> Answer:
    return Answer(str(raw["begins"]), ends=bool(raw["ends"]))
