"""Rows become questions, questions tables and tables questions again; who is forgotten leaves nothing. Without I/O."""

import hmac
import struct
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.storage.erasure import Erasures
from trainer.data import forgetting, tables
from trainer.data.assembly import Label, Reply, Said, assemble, judgement_of
from trainer.data.identity import question_id, topic_id
from trainer.data.records import ASPECTS, Judgement, Preferred, Question, Response
from trainer.data.users import Users

NOON = datetime(2026, 9, 15, 12, tzinfo=UTC)
ANN, BOB = "a" * 64, "b" * 64
FIRST, SECOND = UUID(int=1), UUID(int=2)


def a_reply(number: int, asker: str = ANN, *, query: str = "Hỏi?", texts: tuple[str, ...] = ("a", "b")) -> Reply:
    candidates = {
        index: {"text": text, "probability": 0.5, "score": 0.25, "source": "model"} for index, text in enumerate(texts)
    }
    return Reply(
        response_id=str(UUID(int=number)),
        asker=asker,
        query=query,
        context="",
        policy_release="policy-000001",
        reward_release="reward-000001",
        shown=0,
        candidates=candidates,
    )


def said(number: int, reply: int, **changes: Any) -> Said:
    given: dict[str, Any] = {"rater": ANN, "kind": "rating", "rating_overall": 4, "updated_at": NOON} | changes
    return Said(feedback_id=str(UUID(int=number)), revision=1, response_id=str(UUID(int=reply)), **given)


def test_where_all_who_asked_live_in_one_country_it_is_a_group_and_nothing_finer_is() -> None:
    replies = [a_reply(1), a_reply(2, query="Elsewhere?"), a_reply(3, query="Nowhere?")]
    spoken = [
        said(1, 1, country=" vn "),
        said(2, 2, country="VN"),
        said(3, 2, country="DE", rater=BOB),
        said(4, 3, country="Hà Nội"),
    ]
    found = {each.query: each.groups.get("country") for each in assemble("t", replies, spoken, (), 3.0)}
    assert found == {"Hỏi?": "VN", "Elsewhere?": None, "Nowhere?": None}


def test_a_score_that_was_given_to_another_query_is_not_taken_for_this_one_s() -> None:
    reply = a_reply(1)
    reply.candidates[0]["source"] = "similar_query"  # type: ignore[index]  # JSON
    (question,) = assemble("t", [reply], [said(1, 1)], (), 3.0)
    assert question.responses[0].logged_score is None


def test_equal_texts_of_two_replies_stay_two_responses() -> None:
    (question,) = assemble("t", [a_reply(1), a_reply(2, BOB)], [said(1, 1), said(2, 2, rater=BOB)], (), 3.0)
    assert [(each.text, each.asker) for each in question.responses] == [("a", ANN), ("a", BOB)]


def test_of_two_labels_of_one_text_the_last_counts_and_texts_of_no_reply_have_places_of_their_own() -> None:
    def label(number: int, stars: int, hours: int, **changes: str) -> Label:
        given = {"response_id": str(FIRST), "asker": ANN, "query": "Hỏi?", "context": "", "response": "a"} | changes
        return Label(item_id=str(UUID(int=number)), stars=stars, time=NOON + timedelta(hours=hours), **given)

    labels = [
        label(11, 5, 2),
        label(12, 1, 1),
        label(13, 2, 0, response="of a file", response_id=""),
        label(14, 3, 0, response="cut", response_id=str(FIRST)),
        label(15, 4, 0, response="cut too", response_id=str(FIRST)),
    ]
    (question,) = assemble("t", [a_reply(1)], [said(1, 1)], labels, 3.0)
    found = {each.text: [j.rating for j in each.judgements if j.rater == "reviewer"] for each in question.responses}
    assert found == {"a": [1.0], "of a file": [0.25], "cut": [0.5], "cut too": [0.75]}


def test_a_reviewer_s_label_makes_no_question_newer_than_the_people_who_judged_it_did() -> None:
    labels = [
        Label(
            item_id=str(UUID(int=number)),
            response_id="",
            asker="",
            query=query,
            context="",
            response="a",
            stars=1,
            time=NOON + timedelta(days=9),
        )
        for number, query in ((11, "Hỏi?"), (12, "Only reviewed?"))
    ]
    spoken = [said(1, 1), said(2, 1, rater=BOB, updated_at=NOON + timedelta(hours=1))]
    found = assemble("t", [a_reply(1)], spoken, labels, 3.0)
    assert {each.query: each.time for each in found} == {"Hỏi?": NOON + timedelta(hours=1), "Only reviewed?": None}
    left = forgetting.without(found, Users("t", b"", {BOB: SECOND}))
    assert {each.query: each.time for each in left} == {"Hỏi?": NOON, "Only reviewed?": None}


def test_dimensions_that_are_not_known_are_passed_over() -> None:
    judged = judgement_of(said(1, 1, rating_overall=None, rating_dimensions={"safety": 2, "charm": 5}))
    assert (judged.rating, dict(judged.aspects)) == (None, {"safety": 0.25})


texts = st.text(max_size=6)
numbers = st.none() | st.floats(0, 1)
times = st.none() | st.datetimes(
    datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(timezone(timedelta(hours=7)))
)
judgements = st.builds(
    Judgement,
    rater=st.sampled_from([ANN, BOB, "reviewer"]),
    rating=numbers,
    aspects=st.dictionaries(st.sampled_from(ASPECTS), st.floats(0, 1)),
    time=times,
    feedback_id=texts,
    comment=texts,
    reported=st.booleans(),
    weight=st.floats(0, 3),
)
responses = st.builds(
    Response,
    text=texts,
    judgements=st.lists(judgements, max_size=2).map(tuple),
    propensity=st.floats(0, 1),
    response_id=st.sampled_from([str(FIRST), str(SECOND), ""]),
    index=st.integers(-3, 9),
    logged_score=numbers,
    asker=st.sampled_from([ANN, BOB, ""]),
)
preferences = st.builds(
    Preferred, chosen=st.just(0), rejected=st.just(1), rater=st.sampled_from([ANN, BOB]), time=times, feedback_id=texts
)
questions = st.builds(
    Question,
    id=texts,
    topic=texts,
    query=texts,
    context=texts,
    responses=st.lists(responses, min_size=2, max_size=3).map(tuple),
    preferences=st.lists(preferences, max_size=2).map(tuple),
    askers=st.lists(st.sampled_from([ANN, BOB]), unique=True).map(lambda each: tuple(sorted(each))),
    time=times,
    groups=st.dictionaries(texts, texts, max_size=2),
)


@settings(max_examples=20)
@given(st.lists(questions, max_size=3, unique_by=lambda each: each.id), st.randoms())
def test_tables_give_the_questions_back_and_their_hash_does_not_hang_on_the_order(
    made: list[Question], dice: Any
) -> None:
    used = [tables.Used(str(number), number) for number in range(3)]
    flat = tables.flat(made, used)
    assert tables.deep(flat) == tuple(sorted(made, key=lambda each: each.id))
    dice.shuffle(made)
    dice.shuffle(used)
    assert tables.fingerprint(tables.flat(made, used)) == tables.fingerprint(flat)


def test_every_value_counts_for_the_hash_and_the_zone_of_a_time_does_not() -> None:
    response = Response(text="a", judgements=(Judgement(rater=ANN, rating=0.5, time=NOON),), response_id=str(FIRST))
    question = Question(id="q", topic="t", query="?", responses=(response,), time=NOON)

    def hashed(**changes: Any) -> str:
        return tables.fingerprint(tables.flat([replace(question, **changes)], []))

    assert hashed(time=NOON.astimezone(timezone(timedelta(hours=7)))) == hashed()
    others = [
        hashed(context="x"),
        hashed(groups={"country": "VN"}),
        hashed(responses=(replace(response, propensity=0.5),)),
        hashed(responses=(replace(response, judgements=()),)),
        hashed(preferences=(Preferred(chosen=0, rejected=0, rater=BOB),)),
        tables.fingerprint(tables.flat([question], [tables.Used("f", 1)])),
        tables.fingerprint(tables.flat([question], [tables.Used("f", 2)])),
    ]
    assert len({hashed(), *others}) == len(others) + 1


@settings(max_examples=20)
@given(st.lists(questions, max_size=3))
def test_of_a_forgotten_user_nothing_stays_and_of_others_all_that_does_not_hang_on_them(made: list[Question]) -> None:
    users = Users("t", b"", {ANN: FIRST})

    def theirs(response: Response, rater: str) -> bool:
        return response.response_id != str(SECOND) and ANN in (response.asker, rater)

    found = forgetting.without(made, users)
    for question in found:
        for response in question.responses:
            assert not any(theirs(response, each.rater) for each in response.judgements)
        for each in question.preferences:
            assert not theirs(question.responses[each.chosen], each.rater)
    kept = [j for one in made for r in one.responses for j in r.judgements if not theirs(r, j.rater)]
    assert [j for one in found for r in one.responses for j in r.judgements] == kept
    assert forgetting.without(found, users) == found, "once is enough"


def test_a_preference_keeps_its_places_when_responses_before_it_go() -> None:
    gone = Response(text="của ann", judgements=(Judgement(rater=ANN),), response_id=str(FIRST), asker=ANN)
    left, right = (Response(text=text, response_id=str(SECOND), asker=BOB) for text in ("l", "r"))
    question = Question(
        id="q",
        topic="t",
        query="?",
        responses=(gone, left, right),
        preferences=(Preferred(chosen=2, rejected=1, rater=BOB, time=NOON),),
        askers=(ANN, BOB),
        time=NOON + timedelta(days=1),
    )
    (found,) = forgetting.without([question], Users("t", b"", {ANN: SECOND}))
    (preferred,) = found.preferences
    assert (found.responses[preferred.chosen].text, found.responses[preferred.rejected].text) == ("r", "l")
    assert (found.askers, found.time, len(found.responses)) == ((BOB,), NOON, 2)


def test_digests_are_the_server_s_and_who_gave_no_name_is_nobody_s_namesake() -> None:
    users, server = Users("khách", b"secret", {}), Erasures(None, b"secret")  # type: ignore[arg-type]  # no pool needed
    assert users.digest("ann") == server.digest("khách", "ann").hex()
    assert users.digest("") == ""
    expected = hmac.digest(b"secret", struct.pack("<Q", 6) + "khách".encode() + b"ann", "sha256").hex()
    assert users.digest("ann") == expected
    raters = {users.rater("", session, reply) for session in ("s", "ann", "") for reply in (FIRST, SECOND)}
    assert len(raters) == 4, "a session is one, and without one each reply"
    assert all(each.startswith("anonymous-") for each in raters)


def test_an_erasure_reaches_replies_up_to_its_last() -> None:
    users = Users("t", b"", {ANN: FIRST})
    assert [users.forgotten(ANN, each) for each in (FIRST, SECOND, None)] == [True, False, True]
    assert not users.forgotten(BOB, FIRST)


@pytest.mark.parametrize(
    "query",
    [
        "Đơn hàng  ở ĐÂU?",
        "\tđơn hàng ở đâu?\n",
        unicodedata.normalize("NFD", "Đơn hàng ở đâu?"),
        "Đơn hàng ở đâu",
        "«Đơn-hàng» ở đâu…!",
    ],
)
def test_a_topic_is_known_again_and_a_question_only_to_the_letter(query: str) -> None:
    assert topic_id("t", query) == topic_id("t", "đơn hàng ở đâu?")
    assert topic_id("t", query) != topic_id("u", query)
    assert question_id("t", query, "c") != question_id("t", "đơn hàng ở đâu?", "c")
    assert question_id("t", "a", "b") != question_id("t", "b", "a")
    assert question_id("t", "\ud800", "") != question_id("t", "\ud801", "")


def test_queries_without_a_letter_are_told_apart_by_their_signs_and_letters_by_their_marks() -> None:
    apart = ["?", "👍", "👎", "", "hang", "hàng", "hãng", "Đơn 17", "Đơn 71"]
    assert len({topic_id("t", query) for query in apart}) == len(apart)
    assert topic_id("t", " 👍\n👍") == topic_id("t", "👍👍")
