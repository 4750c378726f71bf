"""Training from files: the command's promises, with a model that is made in a moment."""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from exporters import calibrating, engine, graph, plan, staging
from exporters.errors import ExportError
from tests import rated, tiny_models
from trainer.data.inputs import Rows
from trainer.errors import Cancelled, DataError, TrainerError
from trainer.reward import candidates, directory, offline, report, run
from trainer.reward.config import ExportConfig, RewardConfig, TrainConfig
from trainer.reward.findings import Outcome
from trainer.reward.job import Progress, Result, Stage, unheeding
from trainer.reward.scoring import Scorer
from triton_models import contract, manifest
from triton_models.config import Options, render

SETTINGS = TrainConfig(max_epochs=1, threads=1, max_length=32, batch_size=32)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.bert(tmp_path_factory.mktemp("base"), hidden=32, layers=1)


def lines(count: int) -> Iterator[str]:
    for number in range(count):
        told = [("Thank you, within thirty days.", 5), ("No.", 1), (f"On Tuesday, Nr. {number}.", 3)]
        yield json.dumps(
            {
                "query": f"Làm sao trả đèn {number}?",
                "responses": [{"text": text, "rating": stars} for text, stars in told],
            }
        )


def a_request(folder: Path, base: Path) -> offline.Request:
    data = folder / "data.jsonl"
    data.write_text("\n".join(lines(30)) + "\n")
    config = RewardConfig(base=str(base), train=SETTINGS)
    return offline.Request(data=(data,), out=folder / "mine", config=config)


@pytest.fixture
def request_(tmp_path: Path, base: Path) -> offline.Request:
    return a_request(tmp_path, base)


@dataclass(frozen=True)
class Ended:
    """A run that was done for real, and what it told on its way."""

    request: offline.Request
    result: Result
    told: list[Progress]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Ended:
    """Once for all tests: making an ONNX graph takes most of the time."""
    told: list[Progress] = []
    request = a_request(tmp_path_factory.mktemp("ended"), base)
    return Ended(request, offline.train(request, told.append), told)


@pytest.fixture
def quick_export(monkeypatch: pytest.MonkeyPatch, ended: Ended) -> None:
    """A release is a copy of the one that was made for real, under its own name and figures; no curve is drawn."""

    def export(_: Path, out: Path, *, release_id: str, data_snapshot: str, **__: Any) -> manifest.Release:
        shutil.copytree(ended.request.out, out)
        return manifest.write(out, replace(manifest.read(out), id=release_id, data_snapshot=data_snapshot))

    monkeypatch.setattr(candidates, "export_reward", export)
    monkeypatch.setattr(report, "html", lambda _: "<!doctype html>")


def test_a_run_makes_a_release_that_says_what_it_is_and_a_report(ended: Ended) -> None:
    release, place = manifest.verify(ended.request.out), ended.request.place
    assert release.id == ended.result.release == "mine"
    assert release.threshold == 0.6, "nothing serves that it could be matched to"
    assert release.metrics["verdict"] == str(ended.result.verdict)
    assert release.metrics["reasons"] == list(ended.result.reasons)
    about = json.loads((place / directory.REPORT).read_bytes())["about"]
    assert about["snapshot"] == release.data_snapshot
    assert (place / directory.PAGE).read_text().lower().startswith("<!doctype html>")


def test_a_release_is_given_its_temperature_after_its_scores_were_looked_at(ended: Ended, tmp_path: Path) -> None:
    source, metrics = ended.request.out, {"ece": 0.1}
    assert not (ended.request.place / candidates.NAME).exists()
    warm = calibrating.calibrated(source, tmp_path / "warm", temperature=2.5, threshold=0.7, metrics=metrics)
    assert (warm.calibration, warm.threshold, warm.metrics) == ({"temperature": 2.5}, 0.7, metrics)
    calibrating.calibrated(tmp_path / "warm", tmp_path / "cold", temperature=0.4)  # again, on what it made itself
    assert manifest.verify(tmp_path / "cold").calibration == {"temperature": 0.4}
    expected = None
    for path, temperature in ((source, 1.0), (tmp_path / "warm", 2.5), (tmp_path / "cold", 0.4)):
        session = onnxruntime.InferenceSession(str(path / "1" / "model.onnx"))
        rows = {each.name: np.ones((2, 5), dtype=np.int64) for each in session.get_inputs()}
        rows["input_ids"][1] = np.arange(5)
        score, logit = session.run(["score", "logit"], rows)
        np.testing.assert_allclose(score, 1 / (1 + np.exp(-logit / temperature)), rtol=1e-5)
        expected = logit if expected is None else expected
        assert (logit == expected).all()


@pytest.mark.usefixtures("quick_export")
def test_what_is_judged_is_what_the_release_says_and_not_the_model_that_it_was_made_of(
    request_: offline.Request, ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = Scorer.logits
    monkeypatch.setattr(Scorer, "logits", lambda *asked: {place: -found for place, found in logits(*asked).items()})
    result = offline.train(request_)
    before, after = ended.result.metrics, result.metrics
    assert before["pairwise_accuracy"] != 0.5
    assert after["pairwise_accuracy"] == pytest.approx(1 - before["pairwise_accuracy"])
    assert after["trained_pairwise_accuracy"] == before["trained_pairwise_accuracy"]


def test_an_int8_graph_that_orders_fewer_pairs_well_is_refused_once_there_are_enough_to_tell(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(rows: Rows, wrong: int) -> tuple[dict[str, float], bool]:
        """About a graph that has the order of the first pairs wrong."""
        trained = rows.ratings
        found = trained[:, None].copy()
        found[rows.chosen[:wrong]] = -1.0
        monkeypatch.setattr(candidates.Graph, "open", lambda *_: SimpleNamespace(logits=lambda *_: found))
        return candidates.accepting(rows, trained, 1, unheeding)(Path())

    many, few, none = (rated.rows(base, rated.dataset(count, responses=n)) for count, n in ((40, 4), (4, 4), (1, 1)))
    assert len(few.chosen) < candidates.LEAST_PAIRS <= len(many.chosen)
    assert asked(many, 0) == ({"pairwise_accuracy": 1.0}, True)
    figures, accepted = asked(many, 20)
    assert not accepted
    assert figures["pairwise_accuracy"] < 1 - candidates.MOST_LOST
    assert asked(few, 2)[1], "so few pairs tell nothing of a point"
    assert asked(none, 0) == ({}, True)


def test_a_refused_int8_graph_is_told_of_only_where_none_is_served(ended: Ended) -> None:
    """Refused with its embeddings, accepted without them: that is served in int8, and no "int8 had only 61 %"."""
    release = manifest.read(ended.request.out)
    parity = {"refused_int8_pairwise_accuracy": 0.61}
    for precision, refused in (("int8", None), ("fp32", 0.61)):
        found = candidates._served(replace(release, parity=parity, variants=({"precision": precision},)), 0.8)
        assert (found.precision, found.refused_int8_accuracy) == (precision, refused)


@pytest.fixture
def for_gpus(monkeypatch: pytest.MonkeyPatch, ended: Ended) -> list[dict[str, Any]]:
    """What exports were asked for; each copies the release that was made for real, whose graph is both its graphs.

    So few ratings leave a temperature of 1: here it is 2.5.
    """
    asked: list[dict[str, Any]] = []
    judge = run.judge

    def judged(*given: Any) -> Any:
        found = judge(*given)
        return replace(found, calibration=replace(found.calibration, temperature=2.5))

    monkeypatch.setattr(run, "judge", judged)

    def export(_: Path, out: Path, *, release_id: str, **given: Any) -> manifest.Release:
        asked.append({name: given.get(name) for name in ("targets", "precision")})
        shutil.copytree(ended.request.out, out)
        shutil.copyfile(out / "1" / "model.onnx", out / contract.HALF_GRAPH)
        cpu = {"target": "cpu", "backend": "onnxruntime-python", "precision": "fp32"}
        half = {"backend": "onnxruntime", "precision": "fp16", "file": contract.HALF_GRAPH, "tolerance": {"logit": 9.0}}
        made = replace(manifest.read(out), id=release_id, variants=(cpu, half), batching="bucketed")
        return manifest.write(out, made)

    monkeypatch.setattr(candidates, "export_reward", export)
    monkeypatch.setattr(report, "html", lambda _: "<!doctype html>")
    return asked


def _target(request: offline.Request, target: Any) -> offline.Request:
    config = request.config.model_copy(update={"export": ExportConfig(target=target)})
    return replace(request, config=config)


def test_a_release_for_gpus_has_its_temperature_in_each_graph(
    request_: offline.Request, for_gpus: list[dict[str, Any]]
) -> None:
    result = offline.train(_target(request_, "onnx-fp16"))
    assert for_gpus == [{"targets": ("onnx", "onnx-fp16"), "precision": "fp32"}]
    made = manifest.verify(request_.out)
    assert "model.fp16.onnx" in render(made, Options(layout="onnxruntime"))
    assert made.calibration == {"temperature": 2.5}
    for name in ("1/model.onnx", contract.HALF_GRAPH):
        session = onnxruntime.InferenceSession(str(request_.out / name))
        rows = {each.name: np.ones((2, 5), dtype=np.int64) for each in session.get_inputs()}
        score, logit = session.run(["score", "logit"], rows)
        np.testing.assert_allclose(score, 1 / (1 + np.exp(-logit / 2.5)), rtol=1e-5)
    assert result.report is not None
    assert result.report["served"]["precision"] == "fp16"


def test_a_plan_is_built_of_what_was_calibrated(
    request_: offline.Request, for_gpus: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for TensorRT runs the graph that the plan is made of: its scores tell the temperature."""
    monkeypatch.setattr(plan, "require", lambda: (None, plan.Built("NVIDIA H200", "9.0", "10.9.0")))
    monkeypatch.setattr(plan, "build", lambda api, source, to, shapes: shutil.copyfile(source, to))
    monkeypatch.setattr(engine, "opened", lambda api, source, shapes, outputs: graph.opened(source))
    result = offline.train(_target(request_, "tensorrt"))
    assert for_gpus == [{"targets": ("onnx", "onnx-fp16"), "precision": "fp32"}], "the plan comes after its temperature"
    made = manifest.verify(request_.out)
    assert [each["backend"] for each in made.variants] == ["onnxruntime-python", "onnxruntime", "tensorrt"]
    assert (made.threshold, made.metrics["verdict"]) == (result.threshold, str(result.verdict))
    assert made.calibration == {"temperature": 2.5}
    assert 'value: "model.cc90.plan"' in render(made, Options(layout="tensorrt"))
    assert not (request_.place / "calibrated").exists()


def test_a_plan_that_can_not_be_built_here_is_told_before_anything_is_trained(
    request_: offline.Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(TrainerError, match="the Python package tensorrt is not installed here"):
        offline.train(_target(request_, "tensorrt"))
    assert not list(request_.place.glob("seed-*"))


def test_progress_never_goes_back_and_names_every_stage_in_order(ended: Ended) -> None:
    assert list(dict.fromkeys(each.stage for each in ended.told)) == list(Stage)
    shares = [each.share for each in ended.told]
    assert shares == sorted(shares)


def test_repeated_it_gives_what_came_out_and_trains_nothing(ended: Ended) -> None:
    told: list[Progress] = []
    assert offline.train(ended.request, told.append) == ended.result
    assert [each.stage for each in told] == [Stage.SNAPSHOT]


@pytest.mark.usefixtures("quick_export")
def test_killed_between_the_release_and_the_word_of_it_it_is_made_again(
    request_: offline.Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(directory, "keep", _killed)
        with pytest.raises(KeyboardInterrupt):
            offline.train(request_)
    assert manifest.read(request_.out).id == "mine"
    halves = []
    for out in (request_.place / candidates.NAME, request_.out.with_name("mine")):
        with pytest.raises(ExportError), staging.staged(out.with_name("other")) as half:
            raise ExportError("The name alone is wanted.")
        halves.append(half.with_name(half.name.replace("other", out.name)))
    others = request_.out.with_name(".mine.training")
    for path in (*halves, others):
        path.mkdir()
    result = offline.train(request_)
    assert [path.exists() for path in (*halves, others)] == [False, False, True], "what exports left that were killed"
    assert directory.finished(request_.place) == result
    assert manifest.verify(request_.out).metrics["run"]


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_other_settings_or_data_are_another_run_which_takes_no_directory_away(ended: Ended) -> None:
    other = ended.request.config.model_copy(update={"seed": 2})
    with pytest.raises(TrainerError, match="is of another run"):
        offline.train(replace(ended.request, config=other))
    with pytest.raises(TrainerError, match="is not of this run"):
        offline.train(replace(ended.request, config=other, directory=ended.request.place.with_name("elsewhere")))


@pytest.mark.usefixtures("quick_export")
def test_the_threshold_lets_as_many_pass_as_the_release_in_service_does(
    request_: offline.Request, ended: Ended, tmp_path: Path
) -> None:
    service = tmp_path / "service"
    shutil.copytree(ended.request.out, service)
    manifest.write(service, replace(manifest.read(service), id="reward-000001", threshold=0.0))
    result = offline.train(replace(request_, compare_with=service))
    assert result.compared_with == manifest.read(request_.out).parent == "reward-000001"
    scores = Scorer.open(service).scores("", "Làm sao trả đèn 1?", ["Thank you, within thirty days.", "No."])
    assert result.threshold is not None
    assert result.threshold < min(scores), "all passed before, so all pass now"

    trained = (request_.place / "seed-1" / "trained.json").stat().st_mtime_ns
    alone = offline.train(request_)  # the same training, judged beside nothing
    assert (alone.compared_with, alone.threshold) == ("", 0.6)
    assert manifest.read(request_.out).parent is None
    assert (request_.place / "seed-1" / "trained.json").stat().st_mtime_ns == trained, "and not trained again"
    manifest.write(service, replace(manifest.read(service), threshold=1.0))
    other = offline.train(replace(request_, compare_with=service))
    assert other.threshold is not None
    assert other.threshold > max(scores), "the same name, but another release"


def test_a_release_in_service_that_is_torn_is_told_before_anything_is_trained(
    request_: offline.Request, ended: Ended, tmp_path: Path
) -> None:
    service = tmp_path / "service"
    shutil.copytree(ended.request.out, service)
    (service / "1" / "model.onnx").write_bytes(b"torn")
    with pytest.raises(TrainerError, match="The release in service can't be compared with"):
        offline.train(replace(request_, compare_with=service))
    assert not list(request_.place.glob("seed-*"))


@pytest.mark.usefixtures("quick_export")
def test_a_run_that_is_told_to_stop_leaves_no_release_and_goes_on_later(
    request_: offline.Request, ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Cancelled):
        offline.train(request_, stop=lambda: True)
    stopped: list[str] = []

    def stopping(where: str, real: Any) -> Any:
        """Asked to stop as soon as this work has begun, and no sooner."""

        def call(*given: Any, **named: Any) -> Any:
            stopped.append(where)
            return real(*given, **named)

        return call

    def stop() -> bool:
        return bool(stopped)

    for place, name in ((run, "augment"), (run, "predict"), (candidates, "export_reward"), (Scorer, "logits")):
        with monkeypatch.context() as patched:
            patched.setattr(place, name, stopping(name, getattr(place, name)))
            with pytest.raises(Cancelled):
                offline.train(request_, stop=stop)
        assert stopped == [name]
        stopped.clear()
        assert not request_.out.exists()
    assert offline.train(request_).metrics == ended.result.metrics


def test_a_directory_with_anything_else_in_it_is_left_alone(request_: offline.Request) -> None:
    request_.out.mkdir()
    (request_.out / "letters.txt").write_text("mine")
    with pytest.raises(TrainerError, match="exists already, and is not of this run"):
        offline.train(request_)
    assert (request_.out / "letters.txt").read_text() == "mine"


def test_too_little_data_are_a_result_in_words_without_a_release(request_: offline.Request) -> None:
    request_.data[0].write_text(next(lines(1)) + "\n")
    result = offline.train(request_)
    assert result.verdict is Outcome.TOO_LITTLE_DATA
    assert result.reasons
    assert not request_.out.exists()


def test_a_line_that_can_t_be_used_is_named(request_: offline.Request) -> None:
    with request_.data[0].open("a") as file:
        file.write('{"query": "Where?"}\n')
    with pytest.raises(DataError, match=r"data\.jsonl.*31"):
        offline.train(request_)


def test_only_one_process_works_at_a_run(request_: offline.Request) -> None:
    request_.place.mkdir()
    key = "0" * 64
    with (
        directory.held(request_.place, key),
        pytest.raises(TrainerError, match="Another process works"),
        directory.held(request_.place, key),
    ):
        pass
    shutil.rmtree(request_.place)
