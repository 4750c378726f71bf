"""What a loaded model is asked, and by how much its answers may be off."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from server.backends.fake import FakeTriton
from server.errors import BackendUnavailable
from server.rollout import probing
from server.rollout.probing import complaints, tolerance, warm_up
from server.types import Generation, Sampling
from tests.releases import policy_directory, reward_directory
from tests.replicas import LOGITS, ROWS, PlantedTriton
from triton_models import golden, manifest
from triton_models.config import Options, layout_of, render
from triton_models.golden import Answer
from triton_models.manifest import Release, ReleaseError
from triton_models.serializer import Encoded

VARIANTS = (
    {"target": "cpu", "backend": "onnxruntime-python", "tolerance": {"logit": 0.1}},
    {"target": "gpu", "backend": "onnxruntime", "tolerance": {"logit": 0.2}},
    {"target": "gpu", "backend": "tensorrt", "compute_capability": "8.0", "profiles": 1, "file": "1/a.plan",
     "tolerance": {"logit": 0.3}},
    {"target": "gpu", "backend": "tensorrt", "compute_capability": "9.0", "profiles": 1, "file": "1/b.plan",
     "tolerance": {"logit": 0.4}},
)  # fmt: skip


def a_release(home: Path, **changes: Any) -> Release:
    made = reward_directory(home, **{"variants": VARIANTS, **changes})
    golden.write(made, golden.Rows(ROWS, {"logit": LOGITS}))
    return manifest.write(made, manifest.read(made))


@pytest.mark.parametrize(
    ("layout", "allowed"),
    [("python", 0.1), ("onnxruntime", 0.2), ("tensorrt", 0.4)],
)
def test_the_tolerance_is_that_of_what_triton_runs(tmp_path: Path, layout: Any, allowed: float) -> None:
    """Of several plans the loosest one's: which GPU is there is not known here."""
    release = a_release(tmp_path / "reward-1")
    text = render(release, Options(layout=layout))
    (tmp_path / "reward-1" / "config.pbtxt").write_text(text)
    assert layout_of(text) == layout
    assert tolerance(release, tmp_path / "reward-1") == {"logit": allowed}


def test_a_cpus_graph_that_onnx_runtime_serves_has_its_own(tmp_path: Path) -> None:
    release = a_release(tmp_path / "reward-1", variants=VARIANTS[:1])
    (tmp_path / "reward-1" / "config.pbtxt").write_text(render(release, Options(layout="onnxruntime")))
    assert tolerance(release, tmp_path / "reward-1") == {"logit": 0.1}


def test_a_config_of_nobody_is_told() -> None:
    with pytest.raises(ReleaseError, match="names no backend of ours"):
        layout_of('backend: "pytorch"\n')


async def test_right_answers_are_right_and_wrong_ones_are_told(tmp_path: Path) -> None:
    release = a_release(tmp_path / "reward-1")
    (tmp_path / "reward-1" / "config.pbtxt").write_text(render(release))
    triton = PlantedTriton()
    triton.loaded = {release.id}
    assert await complaints(release, tmp_path / "reward-1", triton) == ()
    triton.off = 0.15
    (told,) = await complaints(release, tmp_path / "reward-1", triton)
    assert told.startswith("logit is off by up to 0.15")


async def test_many_rows_are_asked_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "ROWS", 1)
    release = a_release(tmp_path / "reward-1")
    (tmp_path / "reward-1" / "config.pbtxt").write_text(render(release))
    triton = PlantedTriton()
    triton.loaded = {release.id}
    assert await complaints(release, tmp_path / "reward-1", triton) == ()
    assert triton.asked == 1 + len(ROWS)  # the first one warms it up


class _Lengths(FakeTriton):
    """Notes the lengths of the rows that it scores."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths: list[int] = []

    async def score(self, model: str, rows: Encoded, timeout: float) -> Any:
        self.lengths.append(rows.input_ids.shape[1])
        return await super().score(model, rows, timeout)


async def test_each_bucket_is_warmed_up(tmp_path: Path) -> None:
    """Compiled backends have a kernel for each."""
    spec = {"format": "bert", "max_length": 256, "token_type_ids": True}
    release = a_release(tmp_path / "reward-1", batching="bucketed", serializer=spec)
    triton = _Lengths()
    triton.loaded = {release.id}
    await warm_up(release, tmp_path / "reward-1", triton)
    assert triton.lengths == [64, 128, 256]


class _Writes(FakeTriton):
    """Answers prompts as it is told, and notes how it was asked."""

    def __init__(self, answers: Mapping[str, str]) -> None:
        super().__init__()
        self.answers = answers
        self.temperatures: set[float] = set()

    async def generate(self, model: str, prompt: str, sampling: Sampling, timeout: float) -> Generation:
        self.temperatures.add(sampling.preset.temperature)
        found = await super().generate(model, prompt, sampling, timeout)
        return Generation(self.answers.get(prompt, found.text), found.finish_reason, found.output_tokens)


@pytest.mark.parametrize("layout", ["python", "vllm"])
async def test_a_policy_must_write_the_golden_texts_of_its_layout_again(tmp_path: Path, layout: Any) -> None:
    made = policy_directory(tmp_path / "policy-1")
    texts = {"python": (Answer(" xin"), Answer(" chào")), "vllm": (Answer(" xin"), Answer(" chào"))}
    texts[layout] = (Answer(" bạn"), Answer(" no", ends=True))
    golden.write(made, golden.Texts(("one", "two"), 8, texts))
    release = manifest.write(made, manifest.read(made))
    (made / "config.pbtxt").write_text(render(release, Options(layout=layout)))
    right, wrong = _Writes({"one": " bạn", "two": " no"}), _Writes({})
    right.loaded = wrong.loaded = {release.id}
    assert await complaints(release, made, right) == ()
    assert right.temperatures == {0.0}
    assert await complaints(release, made, wrong) == (
        "0 of 2 golden prompts were answered as on the day of the export.",
    )


async def test_a_release_without_golden_answers_must_answer_something(tmp_path: Path) -> None:
    made = policy_directory(tmp_path / "policy-1")
    triton = FakeTriton()
    with pytest.raises(BackendUnavailable):
        await complaints(manifest.read(made), made, triton)
    triton.loaded = {"policy-1"}
    assert await complaints(manifest.read(made), made, triton) == ()
