"""Simulated users: who they are, what they say of a reply, and how they put up with a server that puts them off."""

import random
import threading
from collections import Counter
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from simulation import client, opinions, run
from simulation.crowd import User, crowd
from simulation.opinions import Opinion, opinion
from simulation.run import Plan
from trainer.starter import corpus, rubric

EXACT = User(
    id="exact",
    language="en",
    way="stars",
    leaning=0.0,
    noise=0.0,
    diligence=1.0,
    compares=1.0,
    comments=0.0,
    words_per_second=10.0,
)
"""Says just what the rubric says."""


def answers(seed: int) -> tuple[Any, list[str]]:
    """A query and answers of its own writer, some with flaws."""
    one = next(corpus.asked(seed, "train", 1))
    return one.query, [one.answer(random.Random(n)).text for n in range(5)]


@given(st.integers(1, 200), st.floats(0, 1), st.integers())
def test_a_crowd_has_so_many_people_and_as_many_noisy_ones_as_asked(users: int, noisy: float, seed: int) -> None:
    found = crowd(seed, users, noisy)
    assert len({user.id for user in found}) == users
    assert sum(user.vice != "" for user in found) == round(noisy * users)
    assert found == crowd(seed, users, noisy)


def test_noisy_people_are_spread_over_both_languages_and_all_three_vices() -> None:
    found = Counter((user.language, user.vice) for user in crowd(7, 60, 0.3))
    assert {vice: sum(found[lang, vice] for lang in ("en", "vi")) for vice in ("random", "fan", "bot")} == {
        "random": 6,
        "fan": 6,
        "bot": 6,
    }
    assert all(found[lang, ""] >= 15 for lang in ("en", "vi"))


@given(st.integers(0, 500), st.integers(0, 4))
def test_an_exact_user_orders_answers_as_the_rubric_does(seed: int, shown: int) -> None:
    query, texts = answers(seed)
    truth = [rubric.judge(query, text).overall for text in texts]
    stars = [opinions.felt(EXACT, value, random.Random(0)) for value in truth]
    assert sorted(range(5), key=truth.__getitem__) == sorted(range(5), key=stars.__getitem__)
    said = opinion(EXACT, query, texts, shown, random.Random(seed))
    assert said is not None
    assert said.stars == min(5, max(1, round(stars[shown])))
    if said.preferred:
        better, worse = said.preferred
        assert shown in said.preferred
        assert truth[better] > truth[worse]


def test_the_best_verdict_is_five_stars_and_the_worst_one_that_people_meet_is_one() -> None:
    assert opinions.felt(EXACT, 1.0, random.Random(0)) == pytest.approx(5.0)
    assert opinions.felt(EXACT, opinions.WORST, random.Random(0)) == pytest.approx(1.0)


def test_leaning_moves_every_rating_and_noise_only_single_ones() -> None:
    kind = replace(EXACT, leaning=0.7)
    assert opinions.felt(kind, 0.7, random.Random(0)) == pytest.approx(
        opinions.felt(EXACT, 0.7, random.Random(0)) + 0.7
    )
    loud = replace(EXACT, noise=0.5)
    felt = [opinions.felt(loud, 0.7, random.Random(n)) for n in range(400)]
    assert sum(felt) / 400 == pytest.approx(3.0, abs=0.1)
    assert max(felt) - min(felt) > 1.5


def test_a_lazy_user_rates_some_and_says_nothing_of_the_others() -> None:
    query, texts = answers(1)
    said = [opinion(replace(EXACT, diligence=0.6), query, texts, 0, random.Random(n)) for n in range(400)]
    assert sum(each is not None for each in said) / 400 == pytest.approx(0.6, abs=0.08)


@pytest.mark.parametrize(("vice", "all_stars"), [("fan", {5}), ("bot", {5}), ("random", {1, 2, 3, 4, 5})])
def test_people_with_a_vice_say_the_same_of_good_and_bad(vice: Any, all_stars: set[int]) -> None:
    query, texts = answers(3)
    said = [opinion(replace(EXACT, vice=vice), query, texts, n % 5, random.Random(n)) for n in range(200)]
    assert {each.stars for each in said if each} == all_stars
    comments = {each.comment for each in said if each}
    assert comments == ({opinions.BOTS_COMMENT} if vice == "bot" else {""})


@pytest.mark.parametrize(
    ("way", "given"),
    [("stars", ("stars",)), ("dimensions", ("dimensions", "stars")), ("thumb", ("thumb",))],
)
def test_each_way_of_rating_says_what_belongs_to_it(way: Any, given: tuple[str, ...]) -> None:
    query, texts = answers(5)
    said = opinion(replace(EXACT, way=way, compares=0.0), query, texts, 0, random.Random(0))
    assert said is not None
    assert (
        tuple(name for name in ("dimensions", "stars", "thumb", "comment", "preferred") if getattr(said, name)) == given
    )
    assert not said.dimensions or set(said.dimensions) == set(rubric.WEIGHTS)


def test_equal_texts_are_never_compared() -> None:
    query, texts = answers(9)
    same = [texts[0]] * 5
    assert all((said := opinion(EXACT, query, same, 0, random.Random(n))) and not said.preferred for n in range(50))


def test_quotas_are_even_and_make_up_the_whole() -> None:
    found = run.quotas(Plan(users=60, replies=2000))
    assert sum(found) == 2000
    assert set(found) == {33, 34}


def test_a_query_is_asked_by_about_three_users_and_no_user_runs_out() -> None:
    asked = run.questions(Plan(users=60, replies=600))
    assert len(asked) == 400
    few = Plan(users=1, replies=50)
    own = [query for query in run.questions(few) if query.lang == "en"]
    assert len(own) >= 100


def test_bots_rate_sooner_than_anybody_could_read() -> None:
    answer = "You can return it within 30 days of delivery. Open My orders to begin."
    assert run.reading_seconds(replace(EXACT, vice="bot"), answer) < 0.5 < run.reading_seconds(EXACT, answer)


class Refusal(grpc.RpcError):
    """A server's no, with or without a time to wait."""

    def __init__(self, code: grpc.StatusCode, seconds: float | None) -> None:
        self._code, self._status = code, status_pb2.Status(code=code_pb2.Code.Value(code.name), message="no")
        if seconds is not None:
            delay = error_details_pb2.RetryInfo()
            delay.retry_delay.FromNanoseconds(round(seconds * 1e9))
            packed = any_pb2.Any()
            packed.Pack(delay)
            self._status.details.append(packed)

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "no"

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        return (("grpc-status-details-bin", self._status.SerializeToString()),)


@pytest.mark.parametrize(
    ("code", "seconds", "expected"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 12.5, 12.5),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, None, client.PAUSE),
        (grpc.StatusCode.UNAVAILABLE, 0.25, 0.25),
        (grpc.StatusCode.INVALID_ARGUMENT, 1.0, None),
        (grpc.StatusCode.DEADLINE_EXCEEDED, None, None),
    ],
)
def test_a_call_is_tried_again_after_the_time_that_the_server_says(
    code: grpc.StatusCode, seconds: float | None, expected: float | None
) -> None:
    assert client.delay(Refusal(code, seconds)) == expected


class Waits(threading.Event):
    """Notes how long it was waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0.0)
        return self.is_set()


class Server:
    """Refuses so many calls, then answers."""

    def __init__(self, refusals: int, seconds: float = 20.0) -> None:
        self.refusals, self.seconds, self.calls = refusals, seconds, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.refusals:
            raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, self.seconds)
        return "yes"


def patient(ended: threading.Event) -> client.Client:
    return client.Client(grpc.insecure_channel("127.0.0.1:1"), 1.0, ended)


def test_a_user_waits_as_long_as_they_are_told_and_goes_on() -> None:
    ended, server = Waits(), Server(3)
    user = patient(ended)
    assert user.called(server) == "yes"
    assert ended.seconds == [20.0, 20.0, 20.0]
    assert user.waits == 3


def test_nobody_waits_for_ever() -> None:
    ended, server = Waits(), Server(10**6)
    with pytest.raises(grpc.RpcError):
        patient(ended).called(server)
    assert sum(ended.seconds) <= client.MOST_WAITING
    assert server.calls == 10


def test_who_is_told_to_stop_waits_for_nothing_any_more() -> None:
    ended, server = Waits(), Server(10**6)
    ended.set()
    with pytest.raises(grpc.RpcError):
        patient(ended).called(server)
    assert ended.seconds == []
    assert server.calls == 1


def test_the_tally_counts_each_kind_once() -> None:
    tally = run.Tally()
    tally.heard(EXACT, Opinion(stars=4, dimensions={"accuracy": 4}, comment="fine", preferred=(0, 1)))
    tally.heard(replace(EXACT, vice="fan"), Opinion(thumb="THUMBS_UP"))
    assert (tally.rated, tally.stars, tally.dimensions, tally.thumbs) == (2, 1, 1, 1)
    assert (tally.comments, tally.preferences, tally.by_noisy) == (1, 1, 1)
    assert tally.mean_rubric is None  # nothing was answered
