"""Which feedback is eligible for training: the rules of the view that the server counts by and the trainer takes by."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from server.types import Degradation, DegradationReason
from tests.tenants import Tenant
from trainer.data import rows
from trainer.data.ingest import Used, mark_used

RATED = {"rating_overall": 3}
SPOILING = {
    *(DegradationReason.SCORING_UNAVAILABLE, DegradationReason.SCORING_FELL_BACK),
    *(DegradationReason.MEMORY_UNAVAILABLE, DegradationReason.PROFILE_UNAVAILABLE),
    DegradationReason.POLICY_FELL_BACK,
}


async def exclusions(tenant: Tenant) -> dict[UUID, str]:
    """Of each feedback why it stays out, or ""."""
    found = await tenant.pool.fetch(
        "SELECT feedback_id, exclusion FROM training_eligibility_v1 WHERE tenant_id = $1", tenant.name
    )
    assert len({row["feedback_id"] for row in found}) == len(found), "each is there once"
    return {row["feedback_id"]: row["exclusion"] for row in found}


async def unused(tenant: Tenant) -> set[UUID]:
    found = await tenant.pool.fetch("SELECT feedback_id FROM training_unused_v1 WHERE tenant_id = $1", tenant.name)
    return {row["feedback_id"] for row in found}


def degraded(*reasons: DegradationReason) -> dict[str, Any]:
    return {"degradations": tuple(Degradation(reason, "") for reason in reasons)}


@pytest.mark.parametrize(
    ("reply", "says", "exclusion"),
    [
        ({}, RATED, ""),
        ({}, {"reaction_type": "neutral"}, ""),
        ({}, {"rating_dimensions": {"clarity": 2}}, ""),
        ({}, {"kind": "safety_report"}, ""),
        ({}, {"kind": "preference", "chosen_index": 0, "rejected_index": 1}, ""),
        ({"context": ""}, RATED, ""),
        ({"arm": "canary"}, RATED, ""),
        ({}, {"text_feedback": "Tốt"}, "comment_only"),
        ({}, RATED | {"withdrawn": True}, "withdrawn"),
        ({}, RATED | {"erased": True}, "erased"),
        ({"erased": True}, RATED, "erased"),
        ({"refused": True}, RATED, "refused"),
        ({"arm": "shadow"}, RATED, "shadow"),
        ({"context": None}, RATED, "no_context"),
        ({"erased": True, "refused": True}, {"withdrawn": True}, "erased"),
        ({"refused": True, "arm": "shadow", "context": None}, {"withdrawn": True}, "withdrawn"),
        ({"refused": True, "arm": "shadow", "context": None}, {"text_feedback": "?"}, "comment_only"),
        ({"context": None} | degraded(DegradationReason.SCORING_UNAVAILABLE), RATED, "degraded"),
    ],
)
async def test_each_rule_keeps_out_its_own_and_the_first_that_holds_is_the_reason(
    tenant: Tenant, reply: dict[str, Any], says: dict[str, Any], exclusion: str
) -> None:
    given = await tenant.say(await tenant.reply(**reply), **says)
    assert await exclusions(tenant) == {given: exclusion}
    assert await unused(tenant) == ({given} if not exclusion else set())
    assert not exclusion or exclusion in rows.REASONS, "the report has a sentence for it"


@pytest.mark.parametrize("reason", DegradationReason)
async def test_of_all_ways_to_fall_short_only_those_spoil_a_reply_that_change_its_scores_or_its_input(
    tenant: Tenant, reason: DegradationReason
) -> None:
    alone = await tenant.say(await tenant.reply(**degraded(reason)), **RATED)
    second = await tenant.say(await tenant.reply(**degraded(DegradationReason.LOG_SPOOLED, reason)), **RATED)
    expected = "degraded" if reason in SPOILING else ""
    assert await exclusions(tenant) == {alone: expected, second: expected}


async def test_a_reply_is_its_tenant_s(tenant: Tenant) -> None:
    """Ids are the client's to name: whoever names another tenant's reply learns nothing from it."""
    other = Tenant(f"{tenant.name}-2", tenant.pool, tenant.erasures)
    theirs = await other.reply()
    given, nowhere = await tenant.say(theirs, **RATED), await tenant.say(uuid4(), **RATED)
    assert await exclusions(tenant) == {given: "no_reply", nowhere: "no_reply"}
    given = await other.say(theirs, **RATED)
    assert await exclusions(other) == {given: ""}
    assert (await unused(tenant), await unused(other)) == (set(), {given})


async def test_what_a_run_used_stays_eligible_and_is_unused_no_more(tenant: Tenant) -> None:
    first, second = [await tenant.say(await tenant.reply(), **RATED) for _ in range(2)]
    assert await mark_used(tenant.pool, tenant.name, [Used(str(first), 1)]) == 1
    assert await exclusions(tenant) == {first: "", second: ""}
    assert await unused(tenant) == {second}
