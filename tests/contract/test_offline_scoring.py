"""`ratchet score --release`: a file's responses scored by a release's own graph, without a server."""

import gzip
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from cli.main import ratchet
from tests.releases import policy_directory, reward_directory, word_tokenizer
from trainer.data.pairs import build
from trainer.data.records import Judgement, Question, Response
from trainer.reward import scoring
from trainer.reward.config import DataConfig
from trainer.reward.scoring import Scorer
from triton_models import manifest
from triton_models.manifest import ReleaseError

TEMPERATURE = 1.7
CONTEXT, QUERY = "chào bạn " * 9, "when lamp"
RESPONSES = ["a b c", "no parcel " * 200, "", "chào bạn 😀", "yes"]
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def worth(token: int, kind: int) -> float:
    """What a token adds to the logit of our graph: numbers without a pattern, from -1 to 1."""
    return math.sin(token * 12.9898 + kind * 78.233)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward whose logit is the sum of its tokens' worth, over the root of their number."""
    place = tmp_path_factory.mktemp("releases") / "reward-000009"
    spec = {"format": "bert", "max_length": 64, "token_type_ids": True}
    reward_directory(place, serializer=spec, calibration={"temperature": TEMPERATURE})
    onnx.save(graph(), place / "1" / "model.onnx")
    manifest.write(place, replace(manifest.read(place), files={}))
    return place


def graph() -> onnx.ModelProto:
    """Inputs INT64 [k, L], `logit` FP32 [k, 1]: padding must not count, and the segments must be told apart."""
    table = np.array([[worth(token, kind) for kind in (0, 1)] for token in range(64)], dtype=np.float32)
    names = ("input_ids", "attention_mask", "token_type_ids")
    nodes = [
        helper.make_node("Unsqueeze", ["input_ids", "last"], ["tokens"]),
        helper.make_node("Unsqueeze", ["token_type_ids", "last"], ["kinds"]),
        helper.make_node("Concat", ["tokens", "kinds"], ["places"], axis=-1),
        helper.make_node("GatherND", ["table", "places"], ["worth"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["worth", "mask"], ["seen"]),
        helper.make_node("ReduceSum", ["seen", "one"], ["sum"], keepdims=1),
        helper.make_node("ReduceSum", ["mask", "one"], ["count"], keepdims=1),
        helper.make_node("Sqrt", ["count"], ["root"]),
        helper.make_node("Div", ["sum", "root"], ["logit"]),
    ]
    constants = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(np.array([-1]), "last"),
        numpy_helper.from_array(np.array([1]), "one"),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["k", "L"]) for name in names]
    outputs = [helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["k", 1])]
    made = helper.make_graph(nodes, "worth", inputs, outputs, constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def score(*arguments: str | Path) -> Result:
    return CliRunner().invoke(ratchet, ["score", *map(str, arguments)])


def written(path: Path, *lines: Any) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    raw = path.read_bytes()
    return [json.loads(line) for line in (gzip.decompress(raw) if path.suffix == ".gz" else raw).splitlines()]


def test_scores_are_the_graphs_logits_calibrated(release: Path) -> None:
    tokenizer = word_tokenizer("bert")
    start, end = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    (context, query, *responses) = (tokenizer.encode(text).ids for text in (CONTEXT, QUERY, *RESPONSES))
    expected = []
    for ids in responses:
        cut = ids[: 64 - 3]
        query_kept = query[: 61 - len(cut)]
        room = 61 - len(cut) - len(query_kept) - 1
        head = [*context[-room:], end] if room > 0 else []
        first, last = [start, *head, *query_kept, end], [*cut, end]
        found = sum(worth(each, 0) for each in first) + sum(worth(each, 1) for each in last)
        expected.append(1 / (1 + math.exp(-found / math.sqrt(len(first) + len(last)) / TEMPERATURE)))
    np.testing.assert_allclose(Scorer.open(release).scores(CONTEXT, QUERY, RESPONSES), expected, atol=1e-5)
    assert len({round(each, 6) for each in expected}) == len(RESPONSES)


def test_many_questions_at_once_get_the_scores_that_each_gets_alone(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "WINDOW", 7)
    monkeypatch.setattr(scoring, "BATCH", 3)
    scorer = Scorer.open(release)
    asked = [("", f"query {n}", RESPONSES[: n % 5] + RESPONSES[n % 5 :][:1]) for n in range(12)] + [("", "none", [])]
    found = list(scorer.stream(asked))
    assert [len(each) for each in found] == [len(each) for _, _, each in asked]
    for one, scores in zip(asked, found, strict=True):
        np.testing.assert_allclose(scores, scorer.scores(*one), atol=1e-5)


def test_a_datasets_places_are_scored_by_their_own_texts(release: Path) -> None:
    said = (Judgement(rater="r", rating=1.0),)
    asked = [
        Question(
            id=name,
            topic=name,
            query=name,
            context=CONTEXT,
            responses=tuple(Response(text=each, judgements=said) for each in RESPONSES),
        )
        for name in ("one", "two")
    ]
    dataset, _ = build(asked, DataConfig())
    scorer = Scorer.open(release)
    found = scorer.places(dataset, [("two", 3), ("one", 0), ("two", 1)])
    assert list(found) == [("two", 3), ("two", 1), ("one", 0)]
    assert found["two", 1] == pytest.approx(scorer.scores(CONTEXT, "two", RESPONSES)[1], abs=1e-5)


def test_each_line_comes_back_with_scores_and_all_that_it_held(release: Path, tmp_path: Path) -> None:
    rated = {
        "id": 12345678901234567890,
        "query": QUERY,
        "responses": [{"model": "m", "text": text, "win_rate": 0.25, "score": "old"} for text in RESPONSES],
        "source": {"deep": [None, 1.5]},
    }
    pair = {"chosen": "\n\nHuman: Hi\n\nAssistant: Chào bạn!", "rejected": "\n\nHuman: Hi\n\nAssistant: No.", "x": 1}
    data, out = written(tmp_path / "data.jsonl", rated, pair), tmp_path / "scored.jsonl"
    done = score("--release", release, "--data", data, "--out", out, "--json")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert (summary["reward_release"], summary["lines"], summary["responses"]) == ("reward-000009", 2, 7)
    one, two = read(out)
    scores = [each["score"] for each in one["responses"]]
    np.testing.assert_allclose(scores, Scorer.open(release).scores("", QUERY, RESPONSES), atol=1e-5)
    stripped = [{**each, "score": "old"} for each in one["responses"]]
    assert {**one, "responses": stripped} == rated
    hello = Scorer.open(release).scores("", "Hi", ["Chào bạn!", "No."])
    assert [two.pop("chosen_score"), two.pop("rejected_score")] == pytest.approx(hello, abs=1e-5)
    assert two == pair
    assert out.stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_lines_go_to_standard_output_without_out_and_gzip_is_read_and_written(release: Path, tmp_path: Path) -> None:
    line = '{"query": "half \\ud83d", "responses": [{"text": "\\ud83d"}, {"text": "Đơn"}]}\n'
    data, out = tmp_path / "data.jsonl.gz", tmp_path / "scored.jsonl.gz"
    data.write_bytes(gzip.compress(line.encode()))
    said = score("--release", release, "--data", data)
    assert said.exit_code == 0, said.output
    assert score("--release", release, "--data", data, "--out", out).exit_code == 0
    assert read(out) == [json.loads(said.stdout)]
    assert read(out)[0]["query"] == json.loads(line)["query"]
    first = out.read_bytes()
    assert score("--release", release, "--data", data, "--out", out).exit_code == 0
    assert out.read_bytes() == first


@pytest.mark.parametrize(
    ("line", "complaint"),
    [('{"query": "q", "responses": []}', "line 2: responses must be"), ("{", "line 2: it is not JSON")],
)
def test_a_bad_line_leaves_the_old_file_and_no_part_of_a_new_one(
    release: Path, tmp_path: Path, line: str, complaint: str
) -> None:
    data, out = written(tmp_path / "data.jsonl", {"query": "q", "responses": [{"text": "t"}]}), tmp_path / "out.jsonl"
    data.write_text(data.read_text() + line)
    out.write_text("old")
    done = score("--release", release, "--data", data, "--out", out)
    assert (done.exit_code, out.read_text()) == (1, "old")
    assert complaint in done.stderr
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data.jsonl", "out.jsonl"]


def test_killed_amid_a_file_it_leaves_the_old_one_whole(release: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out.jsonl"
    os.mkfifo(data)
    out.write_text("old")
    command = [sys.executable, "-m", "cli.main", "score", "--release", release, "--data", data, "--out", out]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        with data.open("wb") as pipe:
            line = {"query": "q", "responses": [{"text": "yes"}] * (scoring.WINDOW // 4)}
            pipe.write((json.dumps(line) + "\n").encode() * 9)
            pipe.flush()
            deadline = time.monotonic() + 60
            while not any(each.stat().st_size for each in tmp_path.glob(".out.jsonl.*")):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
        process.wait()
    assert out.read_text() == "old"


@pytest.mark.parametrize("out", ["missing/out.jsonl", "."])
def test_a_place_that_cant_be_written_is_named(release: Path, tmp_path: Path, out: str) -> None:
    data = written(tmp_path / "data.jsonl", {"query": "q", "responses": [{"text": "t"}]})
    done = score("--release", release, "--data", data, "--out", tmp_path / out)
    assert done.exit_code == 1
    assert "written" in done.stderr or "replaced" in done.stderr
    assert "Traceback" not in done.stderr


def test_only_a_whole_reward_release_is_opened(release: Path, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="is a policy, not a reward"):
        Scorer.open(policy_directory(tmp_path / "policy-000001"))
    with pytest.raises(ReleaseError, match=r"has no release\.json"):
        Scorer.open(tmp_path)
    model = release / "1" / "model.onnx"
    weights = model.read_bytes()
    try:
        model.write_bytes(weights[:-1])
        data = written(tmp_path / "data.jsonl", {"query": "q", "responses": [{"text": "t"}]})
        done = score("--release", release, "--data", data)
    finally:
        model.write_bytes(weights)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "was altered" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Give QUERY and RESPONSES, or --release DIR and --data FILE."),
        (["query"], "Give QUERY and RESPONSES, or"),
        (["--release", "x"], "--release and --data go together."),
        (["--data", "x"], "--release and --data go together."),
        (["query", "response", "--release", "x", "--data", "y"], "not both."),
    ],
)
def test_half_an_order_is_refused(arguments: list[str], complaint: str) -> None:
    done = score(*arguments)
    assert done.exit_code == 2
    assert complaint in done.output


@pytest.mark.parametrize("name", ["judged_responses.jsonl.gz", "hh_harmless_pairs.jsonl.gz"])
def test_public_files_are_scored_as_they_are(release: Path, tmp_path: Path, name: str) -> None:
    if not (SHARED / name).is_file():
        pytest.skip(f"../shared/data/{name} is not there.")
    with gzip.open(SHARED / name) as lines:
        head = [json.loads(next(lines)) for _ in range(3)]
    out = tmp_path / "scored.jsonl"
    done = score("--release", release, "--data", written(tmp_path / "data.jsonl", *head), "--out", out)
    assert done.exit_code == 0, done.output
    for before, after in zip(head, read(out), strict=True):
        assert after.keys() - before.keys() <= {"chosen_score", "rejected_score"}
        assert all(0 < each["score"] < 1 for each in after.get("responses", ()))
