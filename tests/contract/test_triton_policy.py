"""A converted tiny Llama on a real tritonserver keeps the policy's contract."""

import asyncio
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from exporters.policy import export_policy
from server.backends.triton import TritonClient
from server.errors import BackendBusy
from server.types import Preset, Sampling
from tests import tiny_models
from tests.conftest import RunningStack
from tests.triton_calls import PolicyCalls, installed_as, load, parts
from triton_models import golden, manifest
from triton_models.config import Options
from triton_models.contract import QUEUE_FULL

PROMPT = "<s><|user|>How do I track my order?</s><|assistant|>"
NARROW_QUEUE = 2


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("policy")
    out = home / "policy-tiny"
    # Wide enough that a long text takes a second: cancelling must have something to stop.
    export_policy(tiny_models.llama(home / "hf", hidden=256, layers=4), out, release_id="policy-tiny")
    return out


@pytest.fixture(scope="module")
def policy(stack: RunningStack, release: Path) -> Iterator[PolicyCalls]:
    yield from _served(stack, release, "policy-tiny", Options())


@pytest.fixture(scope="module")
def narrow(stack: RunningStack, release: Path) -> Iterator[PolicyCalls]:
    """One lane, a short queue: what waits and what is refused is then certain."""
    one_lane = Options(threads=len(os.sched_getaffinity(0)), max_queue=NARROW_QUEUE, max_batch=16)
    yield from _served(stack, release, "policy-narrow", one_lane)


def _served(stack: RunningStack, release: Path, name: str, options: Options) -> Iterator[PolicyCalls]:
    repository = stack.endpoints.model_repository
    assert repository is not None
    installed_as(release, repository, name, options)
    load(stack.endpoints.triton_url, name)
    with PolicyCalls(stack.endpoints.triton_url, name) as calls:
        yield calls


def test_one_candidate_has_text_reason_and_counts(policy: PolicyCalls) -> None:
    (answer,) = policy.ask(PROMPT, max_tokens=12, min_tokens=12)
    assert answer.finish_reason == "length"
    assert answer.output_tokens == 12
    assert answer.input_tokens is not None
    assert 5 < answer.input_tokens < 60


def test_a_loaded_policy_writes_its_golden_texts_again(policy: PolicyCalls, release: Path) -> None:
    known = golden.read(release, manifest.read(release))
    assert isinstance(known, golden.Texts)
    asked = {"temperature": 0, "max_tokens": known.max_tokens}
    found = [policy.ask(prompt, **asked)[0].text for prompt in known.prompts]
    assert known.answers.keys() == {"python"}
    assert any(answer.tells for answer in known.answers["python"])
    assert all(answer.fits(text) for answer, text in zip(known.answers["python"], found, strict=True))
    assert golden.text_complaints(known, "python", found) == ()


def test_without_the_flags_only_text_comes_and_the_prompt_is_in_it(policy: PolicyCalls) -> None:
    names = ("exclude_input_in_output", "return_finish_reason", "return_num_output_tokens", "return_num_input_tokens")
    (answer,) = policy.ask(PROMPT, flags=dict.fromkeys(names, False), max_tokens=3)
    assert answer.text.startswith(PROMPT)
    assert (answer.finish_reason, answer.input_tokens, answer.output_tokens) == (None, None, None)


def test_greedy_is_deterministic_alone_and_in_a_batch_of_other_prompts(policy: PolicyCalls) -> None:
    prompts = [PROMPT, PROMPT + "The parcel", PROMPT + "Xin chào, tôi", PROMPT]
    alone = [policy.ask(prompt, temperature=0, max_tokens=16)[0].text for prompt in prompts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda prompt: policy.ask(prompt, temperature="0", max_tokens="16")[0].text, prompts))
    assert together == alone
    assert alone[0] == alone[3] != ""


def test_five_at_once_with_presets_of_their_own_all_answer_and_differ(policy: PolicyCalls) -> None:
    presets = [{"temperature": 0.7 + i / 10, "top_p": 0.95, "top_k": 40 + i, "max_tokens": 10 + i} for i in range(5)]
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda preset: policy.ask(PROMPT, min_tokens=10, **preset), presets))
    assert [answer.output_tokens for (answer,) in answers] == [10, 11, 12, 13, 14]
    assert len({answer.text for (answer,) in answers}) == 5


def test_five_alike_at_once_share_a_call_and_still_differ(policy: PolicyCalls) -> None:
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: policy.ask(PROMPT, min_tokens=10, max_tokens=10)[0].text, range(5)))
    assert len(set(answers)) == 5


def test_a_stop_string_ends_the_text_before_itself(policy: PolicyCalls) -> None:
    whole = policy.ask(PROMPT, temperature=0, max_tokens=30)[0].text
    stop = whole[len(whole) // 2 :][:3]
    (answer,) = policy.ask(PROMPT, temperature=0, max_tokens=30, stop=stop)
    assert answer.finish_reason == "stop"
    assert answer.text == whole[: whole.index(stop)]


def test_streaming_gives_the_same_text_in_whole_characters(policy: PolicyCalls) -> None:
    whole = policy.ask(PROMPT, temperature=0.0, max_tokens=60)[0].text
    pieces = policy.ask(PROMPT, flags={"stream": True}, temperature=0.0, max_tokens=60)
    assert "".join(piece.text for piece in pieces) == whole
    assert len(pieces) > 1
    assert [piece.finish_reason for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert sum(piece.output_tokens or 0 for piece in pieces) == 60


@pytest.mark.parametrize(
    "text", ["Xin chào, đơn hàng của tôi đâu?", "😀🎉👩‍👩‍👧", "שלום עולם مرحبا", 'quote " \\ \n tab\t']
)
def test_any_text_survives_the_round_trip(policy: PolicyCalls, text: str) -> None:
    (answer,) = policy.ask(PROMPT + text, flags={"exclude_input_in_output": False}, max_tokens=4)
    assert answer.text.startswith(PROMPT + text)


def test_max_tokens_is_cut_to_the_window(policy: PolicyCalls, release: Path) -> None:
    (answer,) = policy.ask(PROMPT, temperature=0.9, max_tokens=100_000)
    window = manifest.read(release).serializer["max_context"]
    assert (answer.input_tokens or 0) + (answer.output_tokens or 0) <= window


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"raw": "{"}, "not JSON"),
        ({"raw": "[1]"}, "must be a JSON object"),
        ({"temperature": -1}, "temperature must be"),
        ({"temperature": "hot"}, "temperature must be"),
        ({"top_p": 0}, "top_p must be"),
        ({"top_k": 1.5}, "top_k must be"),
        ({"max_tokens": 0}, "max_tokens must be"),
        ({"raw": '{"temperature": NaN}'}, "temperature must be"),
        ({"min_tokens": 9, "max_tokens": 3}, "min_tokens 9 is more"),
        ({"stop": [""]}, "stop must be"),
        ({"stop": ["a"] * 17}, "the limit is 16"),
        ({"best_of": 3}, "unknown names: best_of"),
    ],
)
def test_a_bad_parameter_is_an_error_of_that_request_that_names_it(
    policy: PolicyCalls, arguments: dict[str, object], complaint: str
) -> None:
    with pytest.raises(AssertionError, match=complaint):
        policy.ask(PROMPT, **arguments)
    assert policy.ask(PROMPT, max_tokens=2)


@pytest.mark.parametrize("text", ["", "word " * 2000, "x" * 1_000_000])
def test_no_text_or_too_much_of_it_is_an_error(policy: PolicyCalls, text: str) -> None:
    with pytest.raises(AssertionError, match="empty" if not text else "the limit is 384"):
        policy.ask(text)


def test_text_that_is_not_utf8_is_an_error(policy: PolicyCalls) -> None:
    with pytest.raises(AssertionError, match="not UTF-8"):
        policy.ask(b"\xff\xfe")


def test_streaming_with_the_prompt_in_it_is_refused_as_vllm_does(policy: PolicyCalls) -> None:
    with pytest.raises(AssertionError, match="streaming"):
        policy.ask(PROMPT, flags={"stream": True, "exclude_input_in_output": False})


def test_cancelled_work_really_stops(narrow: PolicyCalls) -> None:
    began = time.monotonic()
    narrow.ask(PROMPT, min_tokens=400, max_tokens=400)
    whole = time.monotonic() - began
    # Running and waiting ones: presets of their own keep them apart.
    calls = [narrow.start(PROMPT, min_tokens=400, max_tokens=400, temperature=0.8)]
    time.sleep(whole / 8)
    calls += [narrow.start(PROMPT, min_tokens=400, max_tokens=400, temperature=0.9 + i / 10) for i in range(2)]
    time.sleep(whole / 8)
    for call in calls:
        call.cancel()
    time.sleep(0.05)  # the watcher looks every 10 ms
    began = time.monotonic()
    narrow.ask(PROMPT, max_tokens=2)
    assert time.monotonic() - began < whole / 2


def test_a_full_queue_is_an_error_and_passes(narrow: PolicyCalls) -> None:
    calls = [narrow.start(PROMPT, min_tokens=300, max_tokens=300, temperature=0.5 + i / 10) for i in range(8)]
    outcomes = [_outcome(call) for call in calls]
    assert any(QUEUE_FULL in outcome for outcome in outcomes)
    assert outcomes.count("answered") >= NARROW_QUEUE
    assert narrow.ask(PROMPT, max_tokens=2)


async def test_a_full_queue_is_told_as_too_much_to_do(stack: RunningStack, narrow: PolicyCalls) -> None:
    """The path answers it with the advice to come again."""
    client = TritonClient(stack.endpoints.triton_url)
    presets = [Preset(str(i), 0.5 + i / 10) for i in range(8)]
    calls = [client.generate("policy-narrow", PROMPT, Sampling(preset, 1, 400), 30) for preset in presets]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    await client.close()
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert failed
    assert {type(outcome) for outcome in failed} == {BackendBusy}


def _outcome(call: grpc.Call) -> str:
    try:
        return "answered" if list(parts(call)) else "nothing"
    except AssertionError as error:
        return str(error)


def test_a_storm_of_cancelled_and_answered_requests_leaves_the_server_alive(policy: PolicyCalls) -> None:
    def one(index: int) -> str:
        call = policy.start(PROMPT, max_tokens=30, temperature=0.5 + (index % 3) / 4)
        if index % 2:
            time.sleep(0.002 * (index % 17))
            call.cancel()
            return "cancelled"
        return _outcome(call)

    with ThreadPoolExecutor(24) as pool:
        outcomes = list(pool.map(one, range(160)))
    assert outcomes.count("answered") == 80
