"""What a conversion refuses, in one sentence, before it loads anything heavy; and which int8 graph it takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporters import graph, variants
from exporters.encoder import Conversion
from exporters.errors import ExportError, explained
from exporters.latency import Latency
from exporters.policy import export_policy
from exporters.reward import export_reward
from exporters.staging import staged
from exporters.variants import Reference
from triton_models.manifest import ReleaseError
from triton_models.serializer import Encoded


@pytest.mark.parametrize("name", ["/no/such/model", "./nothing", "a/b/c"])
def test_a_path_that_is_not_there_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match="does not exist"):
        export_policy(name, tmp_path / "out", release_id="policy-1")


def test_a_directory_without_a_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no config\.json"):
        export_policy(tmp_path, tmp_path / "out", release_id="policy-1")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ExportError, match="no weights"):
        export_policy(tmp_path, tmp_path / "out", release_id="policy-1")


def test_what_can_not_be_made_is_said_before_the_model_is_looked_for(tmp_path: Path) -> None:
    nowhere, out = tmp_path / "nowhere", tmp_path / "out"
    with pytest.raises(ExportError, match="targets onnx are not of a policy"):
        export_policy(nowhere, out, release_id="policy-1", targets=("onnx",))
    with pytest.raises(ExportError, match="targets  are not of a policy"):
        export_policy(nowhere, out, release_id="policy-1", targets=())
    with pytest.raises(ExportError, match="target vllm is unknown for a reward: use onnx, onnx-fp16, tensorrt"):
        export_reward(nowhere, out, release_id="reward-1", targets=("onnx", "vllm"))
    with pytest.raises(ExportError, match="precision int4 is unknown"):
        export_reward(nowhere, out, release_id="reward-1", precision="int4")
    for export in (export_policy, export_reward):
        with pytest.raises(ReleaseError, match="id must be a name like"):
            export(nowhere, out, release_id="Reward 1")


def test_an_output_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("")
    with pytest.raises(ExportError, match="exists already"), staged(tmp_path / "out"):
        raise AssertionError


def test_a_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with staged(tmp_path / "out") as directory, explained("It broke"):
            (directory / "half").write_text("")
            raise ValueError("first line\nsecond line")

    with pytest.raises(ExportError, match=r"^It broke: first line\.$"):
        fail()
    assert not list(tmp_path.iterdir())


@dataclass(frozen=True)
class NearEnough:
    """A head that any graph is near enough for, but those whose first answer is below 0."""

    def compare(self, expected: Any, found: Any, sizes: Any) -> tuple[dict[str, Any], bool]:
        return {"order_kept": 1.0}, float(found[0][0, 0]) >= 0

    def served(self, outputs: Any, *, finished: bool) -> dict[str, Any]:
        return {"logit": outputs[0]}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What becomes of a graph: `answer` is int8's, `accuracy` and `ratio` are by what was quantised."""

    def make(accuracy: dict[str, float], ratio: dict[str, float], answer: float = 0.25) -> tuple[str, Any, Any]:
        monkeypatch.setattr(graph, "quantize", lambda _, to, *, embeddings: to.write_text(f"embeddings {embeddings}"))
        monkeypatch.setattr(graph, "run_onnx", lambda *_: [np.full((2, 1), answer, dtype=np.float32)])

        def accept(path: Path) -> tuple[dict[str, float], bool]:
            found = accuracy[path.read_text()]
            return {"pairwise_accuracy": found}, found > 0.7

        def measure(path: Path, fp32: Path, rows: Encoded) -> Latency:
            assert (fp32.read_text(), len(rows.input_ids)) == ("fp32", 2)
            return Latency(100 * ratio[path.read_text()], 100, 2, "here")

        target = tmp_path / "model.onnx"
        target.write_text("fp32")
        ones = np.ones((2, 3), dtype=np.int64)
        reference = Reference(target, Encoded(ones, ones, None), (2,), [np.zeros((2, 1), np.float32)], NearEnough())
        figures, variant = variants.int8(reference, accept, measure)
        return target.read_text(), figures, variant

    return make


WHOLE, SPARED = "embeddings True", "embeddings False"


def test_an_int8_graph_that_is_near_enough_must_be_accepted_too(made: Any) -> None:
    kept, figures, variant = made({WHOLE: 0.75}, {WHOLE: 0.5})
    assert (kept, figures) == (WHOLE, {"pairwise_accuracy": 0.75, "order_kept": 1.0})
    assert (variant["precision"], variant["int8_embeddings"], variant["latency"]["ratio"]) == ("int8", True, 0.5)
    kept, figures, variant = made({WHOLE: 0.6, SPARED: 0.75}, {SPARED: 0.6})
    assert (kept, variant["int8_embeddings"]) == (SPARED, False)
    assert figures["refused_int8_pairwise_accuracy"] == 0.6
    assert made({WHOLE: 0.6, SPARED: 0.65}, {}) == ("fp32", {"refused_int8_pairwise_accuracy": 0.65}, None)


def test_an_int8_graph_that_is_slower_than_fp32_is_refused(made: Any) -> None:
    kept, figures, variant = made({WHOLE: 0.8, SPARED: 0.8}, {WHOLE: 1.5, SPARED: 1.05})
    assert (kept, figures["refused_int8_latency_ratio"], variant["latency"]["ratio"]) == (SPARED, 1.5, 1.05)
    assert made({WHOLE: 0.8, SPARED: 0.8}, {WHOLE: 1.5, SPARED: 1.2})[::2] == ("fp32", None)


def test_an_int8_graph_that_ranks_otherwise_is_asked_nothing_more(made: Any) -> None:
    assert made({}, {}, answer=-1) == ("fp32", {"refused_int8_order_kept": 1.0}, None)


def test_a_probe_allows_twice_the_difference_that_was_measured(made: Any) -> None:
    assert made({WHOLE: 1}, {WHOLE: 1})[2]["tolerance"] == {"logit": 0.501}


def test_the_gates_of_a_conversion_are_on_unless_they_are_replaced() -> None:
    assert Conversion(release_id="reward-1").measure is graph.measure
