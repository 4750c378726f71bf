"""Converted tiny BERT and RoBERTa rewards on a real tritonserver score as torch does, however requests are batched."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray

from exporters import graph
from exporters.reward import export_reward, torch_model
from exporters.source import open_checkpoint
from tests import tiny_models
from tests.conftest import RunningStack
from tests.triton_calls import load
from triton_models import golden
from triton_models.manifest import Release
from triton_models.release import install
from triton_models.serializer import Encoded, RewardSerializer

CONTEXT, QUERY = "Xin chào. " * 9, "How do I track my order?"
RESPONSES = ["It arrives on Tuesday.", "I can't say. " * 30, "", "Đơn hàng sẽ đến vào thứ Ba 😀", "yes"]


@dataclass(frozen=True)
class Served:
    """A reward release on Triton beside the torch model that it came from."""

    release: Release
    serializer: RewardSerializer
    expected: Callable[[Encoded], list[NDArray[np.float32]]]
    address: str

    def rows(self, responses: list[str], context: str = CONTEXT) -> Encoded:
        return self.serializer.pad(self.serializer.serialize(context, QUERY, responses))

    def ask(self, rows: Encoded) -> triton.InferResult:
        tensors = {"input_ids": rows.input_ids, "attention_mask": rows.attention_mask}
        if rows.token_type_ids is not None:
            tensors["token_type_ids"] = rows.token_type_ids
        inputs = []
        for name, values in tensors.items():
            inputs.append(triton.InferInput(name, list(values.shape), "INT64"))
            inputs[-1].set_data_from_numpy(values)
        with triton.InferenceServerClient(self.address) as client:
            return client.infer(self.release.id, inputs, client_timeout=60)


CASES = {
    "bert-fp32": (tiny_models.bert, {"labels": 1}, "fp32"),
    "bert-int8": (tiny_models.bert, {"labels": 1}, "int8"),
    "bert-aspects": (tiny_models.bert, {"labels": 5}, "fp32"),
    "roberta-fp32": (tiny_models.roberta, {"labels": 2}, "fp32"),
}


@pytest.fixture(scope="module", params=list(CASES))
def served(request: pytest.FixtureRequest, stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Served:
    return _serve(request.param, stack, tmp_path_factory.mktemp("reward"))


def _serve(case: str, stack: RunningStack, home: Path) -> Served:
    make, arguments, precision = CASES[case]
    source: Any = make(home / "hf", **arguments)
    out = home / f"reward-{case}"
    release = export_reward(source, out, release_id=out.name, precision=precision, max_length=256, temperature=1.5)
    assert stack.endpoints.model_repository is not None
    install(out, stack.endpoints.model_repository)
    load(stack.endpoints.triton_url, release.id)
    serializer = RewardSerializer.load(out, release.serializer)
    if precision == "fp32":
        module = torch_model(open_checkpoint(source, lambda _: None), 1.5)
        return Served(release, serializer, lambda rows: graph.run_torch(module, rows), stack.endpoints.triton_url)
    model = out / "1" / "model.onnx"
    return Served(release, serializer, lambda rows: graph.run_onnx(model, rows), stack.endpoints.triton_url)


def _tolerance(served: Served) -> float:
    """Dynamic quantisation takes its scale from the whole batch, so int8 moves a little with its neighbours."""
    return 0.02 if served.release.variants[0]["precision"] == "int8" else 2e-4


def test_scores_equal_the_checkpoint_in_shape_and_value(served: Served) -> None:
    rows = served.rows(RESPONSES)
    result, expected = served.ask(rows), served.expected(rows)
    for name, reference in zip(("score", "logit"), expected, strict=False):
        found = result.as_numpy(name)
        assert (found.shape, found.dtype) == ((5, 1), np.float32)
        assert np.allclose(found, reference, atol=10 * _tolerance(served) if name == "logit" else _tolerance(served))
    assert ((result.as_numpy("score") > 0) & (result.as_numpy("score") < 1)).all()


def test_aspects_come_from_a_head_that_has_them(served: Served) -> None:
    rows = served.rows(RESPONSES)
    found = served.ask(rows).as_numpy("aspects")
    if "aspects" not in served.release.outputs:
        assert found is None
        return
    assert found.shape == (5, 4)
    assert np.allclose(found, 1 / (1 + np.exp(-served.expected(rows)[2])), atol=2e-4)


def test_concurrent_requests_of_all_shapes_score_as_they_do_alone(served: Served) -> None:
    shapes = [RESPONSES[: 1 + i % 5] for i in range(24)]
    batches = [served.rows(texts, CONTEXT[: 7 * i]) for i, texts in enumerate(shapes)]
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda rows: served.ask(rows).as_numpy("score"), batches))
    for rows, scores in zip(batches, found, strict=True):
        assert np.allclose(scores, served.expected(rows)[0], atol=_tolerance(served))


def test_padding_that_the_caller_adds_changes_nothing(served: Served) -> None:
    rows = served.serializer.serialize(CONTEXT, QUERY, RESPONSES[3:4])
    tight, wide = served.serializer.pad(rows), served.serializer.pad(rows, multiple=128)
    assert wide.input_ids.shape[1] > tight.input_ids.shape[1]
    assert np.array_equal(served.ask(tight).as_numpy("logit"), served.ask(wide).as_numpy("logit"))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda rows: rows.input_ids.__setitem__((0, 1), 10**6), "input_ids must be from 0"),
        (lambda rows: rows.input_ids.__setitem__((0, 1), -1), "input_ids must be from 0"),
        (lambda rows: rows.attention_mask.__setitem__(0, 0), "a row of zeros only"),
        (lambda rows: rows.attention_mask.__setitem__((0, 0), 0), "ones followed by zeros"),
    ],
)
def test_a_bad_request_fails_alone(served: Served, damage: Callable[[Encoded], None], complaint: str) -> None:
    good = served.rows(RESPONSES[:2])
    bad = served.rows(RESPONSES[:2])
    damage(bad)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(served.ask, rows) for rows in (good, bad, good, bad, good)]
    for index in (0, 2, 4):
        assert np.allclose(answers[index].result().as_numpy("score"), served.expected(good)[0], atol=_tolerance(served))
    for index in (1, 3):
        with pytest.raises(triton.InferenceServerException, match=complaint):
            answers[index].result()


def test_shapes_that_differ_and_rows_that_are_too_long_are_errors(served: Served) -> None:
    ones = np.ones((1, 300), dtype=np.int64)
    types = ones * 0 if served.serializer.token_type_ids else None
    with pytest.raises(triton.InferenceServerException, match="300 tokens; the limit is 256"):
        served.ask(Encoded(ones, ones, types))
    with pytest.raises(triton.InferenceServerException, match="differ in shape"):
        served.ask(Encoded(ones[:, :9], ones[:, :8], None if types is None else types[:, :9]))


def test_the_manifest_states_how_near_the_graph_is(served: Served) -> None:
    assert served.release.parity["fp32_largest_difference"] <= 1e-4
    if served.release.variants[0]["precision"] == "int8":
        assert served.release.parity["best_of_5_regret"] <= 0.01


def test_a_loaded_release_answers_its_golden_rows(served: Served, stack: RunningStack) -> None:
    """Asked as whoever loads it does, with the files that were installed; of another temperature it would not pass."""
    assert stack.endpoints.model_repository is not None
    known = golden.read(stack.endpoints.model_repository / served.release.id, served.release)
    assert isinstance(known, golden.Rows)
    result = served.ask(served.serializer.batch(known.rows, served.release.batching))
    found = {name: result.as_numpy(name) for name in served.release.outputs}
    tolerance = served.release.variants[0]["tolerance"]
    assert golden.complaints(served.release, known, found, tolerance) == ()
    other = replace(served.release, calibration={"temperature": 1.0})
    assert any("score is off" in each for each in golden.complaints(other, known, found, tolerance))
