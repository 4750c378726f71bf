"""Feedback becomes questions to train on: eligible rows only, below a watermark, and what was used is known."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from server.feedback.types import Change, GivenReply, Kind, Opinion
from server.storage.feedback import PostgresFeedback, Submission
from server.storage.feedback_requests import RequestKey
from server.types import Degradation, DegradationReason
from tests.logged import NOW
from tests.tenants import CONFIG, Tenant, a_run, reasons
from trainer.data import ingest as ingesting
from trainer.data.identity import question_id, topic_id
from trainer.data.ingest import Used, ingest, mark_used, unseen
from trainer.reward.config import DataConfig


async def test_a_rating_becomes_a_judgement_of_the_candidate_that_was_shown(tenant: Tenant) -> None:
    response_id = await tenant.reply(context="Bạn là trợ lý.")
    said = {"rating_overall": 4, "rating_dimensions": {"accuracy": 5, "safety": 1}, "reaction_type": "thumbs_down"}
    feedback_id = await tenant.say(response_id, text_feedback="Tốt", **said)
    (question,) = await tenant.questions()
    assert (question.query, question.context) == ("Đơn hàng ở đâu?", "Bạn là trợ lý.")
    assert question.id == question_id(tenant.name, question.query, question.context)
    assert question.topic == topic_id(tenant.name, "đơn  HÀNG ở đâu?")
    assert (question.askers, question.time) == ((tenant.digest("ann"),), NOW)
    (response,) = question.responses
    assert (response.text, response.propensity, response.index, response.logged_score) == ("Đây.", 0.75, 0, 0.5)
    assert (response.response_id, response.reward_release) == (str(response_id), "reward-000001")
    (judged,) = response.judgements
    assert (judged.rating, judged.aspects) == (0.75, {"accuracy": 1.0, "safety": 0.0}), "stars win over the thumb"
    assert (judged.rater, judged.feedback_id, judged.comment) == (tenant.digest("ann"), str(feedback_id), "Tốt")


@pytest.mark.parametrize(("thumb", "rating"), [("thumbs_up", 1.0), ("neutral", 0.5), ("thumbs_down", 0.0)])
async def test_a_thumb_alone_is_a_rating(tenant: Tenant, thumb: str, rating: float) -> None:
    await tenant.say(await tenant.reply(), reaction_type=thumb)
    (question,) = await tenant.questions()
    assert [each.rating for each in question.responses[0].judgements] == [rating]


async def test_a_safety_report_is_a_judgement_and_overrules_the_rater_s_own_stars_for_safety(tenant: Tenant) -> None:
    response_id = await tenant.reply()
    await tenant.say(response_id, rating_overall=5, rating_dimensions={"safety": 5, "clarity": 3})
    await tenant.say(response_id, kind="safety_report", safety_category="toxic")
    (question,) = await tenant.questions()
    judged = sorted(question.responses[0].judgements, key=lambda each: each.reported)
    assert [(each.rating, each.aspects) for each in judged] == [(1.0, {"clarity": 0.5}), (None, {"safety": 0.0})]


async def test_a_preference_brings_both_candidates(tenant: Tenant) -> None:
    feedback_id = await tenant.say(await tenant.reply(), kind="preference", chosen_index=1, rejected_index=0)
    (question,) = await tenant.questions()
    assert [(each.text, each.propensity) for each in question.responses] == [("Đây.", 0.75), ("Kia.", 0.25)]
    (preferred,) = question.preferences
    assert (preferred.chosen, preferred.rejected, preferred.feedback_id) == (1, 0, str(feedback_id))


async def test_the_same_query_in_the_same_context_is_one_question_whoever_asked(tenant: Tenant) -> None:
    for user, context in (("ann", "c"), ("bob", "c"), ("ann", "another")):
        await tenant.say(await tenant.reply(user, context=context), user, rating_overall=3)
    found = sorted(await tenant.questions(), key=lambda each: len(each.responses))
    assert [len(each.responses) for each in found] == [1, 2]
    assert found[0].topic == found[1].topic
    assert found[1].askers == tuple(sorted([tenant.digest("ann"), tenant.digest("bob")]))


async def test_what_must_stay_out_stays_out_and_is_counted(tenant: Tenant) -> None:
    def fell_short(reason: DegradationReason) -> dict[str, Any]:
        return {"degradations": (Degradation(reason, ""),)}

    for reply, says in (
        ({}, {"rating_overall": 3}),
        (fell_short(DegradationReason.LOG_SPOOLED), {"rating_overall": 3}),
        ({}, {"rating_overall": 3, "withdrawn": True}),
        ({}, {"text_feedback": "?"}),
        ({"refused": True}, {"rating_overall": 3}),
        ({"arm": "shadow"}, {"rating_overall": 3}),
        (fell_short(DegradationReason.SCORING_FELL_BACK), {"rating_overall": 3}),
        (fell_short(DegradationReason.MEMORY_UNAVAILABLE), {"rating_overall": 3}),
        ({"context": None}, {"rating_overall": 3}),
        ({}, {"rating_overall": 3, "erased": True}),
        ({}, {"kind": "preference", "chosen_index": 0, "rejected_index": 7}),
    ):
        await tenant.say(await tenant.reply(**reply), **says)
    await tenant.say(uuid4(), rating_overall=3)
    found = await ingest(tenant.pool, tenant.name, CONFIG)
    assert reasons(found.exclusions) == {
        **dict.fromkeys(("withdrawn", "comment_only", "refused", "shadow", "no_context", "erased"), 1),
        "no_reply": 1,
        "not_found": 1,
        "degraded": 2,
    }
    assert (len(found.used), found.new_count) == (2, 2)
    assert all(each.detail for each in found.exclusions)


@pytest.mark.parametrize(
    "candidates", ['{"text": "Đây."}', "[1, null]", '[{"selected": true, "text": "Đây.", "index": "0"}]', '"?"']
)
async def test_a_log_row_of_another_shape_is_left_out_alone(tenant: Tenant, candidates: str) -> None:
    strange = await tenant.reply()
    await tenant.say(strange, rating_overall=3)
    await tenant.say(await tenant.reply(), rating_overall=3)
    await tenant.pool.execute(
        "UPDATE conversation_logs SET all_candidates = $1, degradations = $1 WHERE response_id = $2",
        *(candidates, strange),
    )
    found = await ingest(tenant.pool, tenant.name, CONFIG)
    assert (len(found.used), reasons(found.exclusions)) == (1, {"not_found": 1})


async def test_what_is_in_flight_waits_for_the_next_snapshot(tenant: Tenant) -> None:
    early = await tenant.reply()
    await tenant.say(early, rating_overall=1)
    async with tenant.pool.acquire() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("SELECT pg_current_xact_id()")  # began before the next reply, and is not over
        await tenant.say(await tenant.reply(), rating_overall=5)
        before = await ingest(tenant.pool, tenant.name, CONFIG)
        await transaction.commit()
    after = await ingest(tenant.pool, tenant.name, CONFIG)
    assert (len(before.used), reasons(before.exclusions)) == (1, {"in_flight": 1})
    assert (len(after.used), after.watermark > before.watermark) == (2, True)


async def test_the_newest_are_taken_where_there_are_too_many(tenant: Tenant) -> None:
    ids = [await tenant.say(await tenant.reply(), updated_at=NOW + timedelta(days=day)) for day in range(3)]
    await tenant.pool.execute("UPDATE feedback_data SET rating_overall = 3 WHERE tenant_id = $1", tenant.name)
    found = await ingest(tenant.pool, tenant.name, DataConfig(most_feedback=2))
    assert {each.feedback_id for each in found.used} == {str(each) for each in ids[1:]}
    assert reasons(found.exclusions) == {"older": 1}


async def test_used_feedback_waits_no_more_until_it_is_edited(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    async def waiting(most: int = 9) -> int:
        return await unseen(tenant.pool, tenant.name, None, most)

    first = await tenant.say(await tenant.reply(), rating_overall=3)
    await tenant.say(await tenant.reply(), rating_overall=4)
    assert [await waiting(), await waiting(1)] == [2, 1]
    assert await mark_used(tenant.pool, tenant.name, [Used(str(first), 2)]) == 0, "it was another revision"
    found = await ingest(tenant.pool, tenant.name, CONFIG)
    assert await mark_used(tenant.pool, tenant.name, found.used) == 2
    with monkeypatch.context() as patch:
        patch.setattr(ingesting, "_MARK", "what Postgres would refuse")
        assert await mark_used(tenant.pool, tenant.name, found.used) == 0, "what is marked is not sent again"
    assert await waiting() == 0
    again = await ingest(tenant.pool, tenant.name, CONFIG)
    assert (len(again.used), again.new_count) == (2, 0), "earlier ones are trained on again"
    seen = again.watermark
    assert await unseen(tenant.pool, tenant.name, seen, 9) == 0
    await edited(tenant, first)
    assert [await waiting(), await unseen(tenant.pool, tenant.name, seen, 9)] == [1, 1]
    assert (await ingest(tenant.pool, tenant.name, CONFIG)).new_count == 1


async def edited(tenant: Tenant, feedback_id: UUID) -> None:
    row = await tenant.pool.fetchrow("SELECT * FROM feedback_data WHERE feedback_id = $1", feedback_id)
    assert row is not None
    reply = GivenReply(tenant.name, row["response_id"], "ann", "s1", NOW, "policy-000001", "reward-000001")
    change = Change(Kind.RATING, Opinion(rating_overall=1))
    await PostgresFeedback(tenant.pool).submit(Submission(reply, (change,), RequestKey("", b""), NOW))


async def test_labels_of_reviewers_are_judgements_with_a_weight_of_their_own(tenant: Tenant) -> None:
    rated = await tenant.reply(text="A")
    await tenant.say(rated, rating_overall=1)
    unrated = await tenant.reply("bob", text="B")
    gone = await tenant.reply("eve", text="C")
    run = await a_run(tenant)
    for response_id, text, user, label in ((rated, "A", "ann", 5), (unrated, "B", "bob", 4), (gone, "C", "eve", 3)):
        await review(tenant, run, response_id, text, user, label)
    await review(tenant, run, rated, "A", "ann", 0)
    await tenant.erase("eve")
    (question,) = await tenant.questions()
    found = {each.text: [(j.rater, j.rating, j.weight) for j in each.judgements] for each in question.responses}
    assert found == {
        "A": [(tenant.digest("ann"), 0.0, 1.0), ("reviewer", 1.0, CONFIG.reviewer_weight)],
        "B": [("reviewer", 0.75, CONFIG.reviewer_weight)],
    }
    assert tenant.digest("bob") in question.askers


async def test_a_label_comes_back_to_its_reply_though_reviewers_saw_a_part_of_the_context(tenant: Tenant) -> None:
    reply = await tenant.reply(text="A")
    await tenant.say(reply, rating_overall=1)
    await review(tenant, await a_run(tenant), reply, "A", "ann", 5)
    await tenant.pool.execute("UPDATE review_items SET context = '', query = 'Đơn…' WHERE tenant_id = $1", tenant.name)
    (question,) = await tenant.questions()
    assert question.context == "c"
    assert [len(each.judgements) for each in question.responses] == [2]


async def review(tenant: Tenant, run: UUID, response_id: UUID, text: str, user: str, label: int) -> None:
    await tenant.pool.execute(
        "INSERT INTO review_items (tenant_id, item_id, training_id, response_id, digest, query, context, response,"
        " score, reason, label) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0.5, 'HIGHEST', $9)",
        *(tenant.name, uuid4(), run, response_id, tenant.erasures.digest(tenant.name, user)),
        *("Đơn hàng ở đâu?", "c", text, label),
    )
