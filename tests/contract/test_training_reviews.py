"""The review queue as a run that ends fills it: what reviewers see, and what becomes of older items."""

from dataclasses import replace
from uuid import UUID

import asyncpg
import pytest

from tests.tenants import Tenant
from tests.training_runs import claimed
from trainer.leases import Lease
from trainer.reviews import without_profile
from trainer.reward.findings import Outcome, Reason, ReviewItem
from trainer.reward.job import Result


async def test_only_replies_that_are_still_there_are_to_be_reviewed(pool: asyncpg.Pool, tenant: Tenant) -> None:
    kept, erased = await tenant.reply("ann"), await tenant.reply("bob")
    await pool.execute("UPDATE conversation_logs SET erased = true WHERE response_id = $1", erased)
    items = [an_item(str(kept)), an_item(str(erased)), an_item("")]
    run = await claimed(pool, tenant)
    await Lease(pool, run, 60).end(Result(verdict=Outcome.NOT_BETTER, summary="", review=tuple(items)), ())
    found = await pool.fetch("SELECT * FROM review_items WHERE training_id = $1", run.training_id)
    assert [(each["response_id"], each["digest"].hex()) for each in found] == [(kept, tenant.digest("ann"))]


def an_item(response_id: str) -> ReviewItem:
    return ReviewItem(
        question="q",
        place=0,
        response_id=response_id,
        users=(),
        query="Đơn hàng ở đâu?",
        context="",
        response="Đây.",
        score=0.9,
        rating=None,
        reason=Reason.HIGHEST,
    )


async def test_a_run_s_items_take_the_place_of_older_open_ones_and_show_no_profile(
    pool: asyncpg.Pool, tenant: Tenant
) -> None:
    ids = [str(await tenant.reply("ann")) for _ in range(3)]
    told = "User: city = Huế; style = short\nEvidence:\n[a] b"
    ends: tuple[list[ReviewItem], ...] = (
        [an_item(ids[0]), an_item(ids[1])],
        [],
        [replace(an_item(ids[2]), context=told)],
    )
    for items in ends:
        run = await claimed(pool, tenant)
        await Lease(pool, run, 60).end(Result(verdict=Outcome.NOT_BETTER, summary="", review=tuple(items)), ())
        await pool.execute(
            "UPDATE review_items SET label = 4 WHERE tenant_id = $1 AND response_id = $2", tenant.name, UUID(ids[0])
        )
        found = await pool.fetch("SELECT * FROM review_items WHERE tenant_id = $1 ORDER BY item_id", tenant.name)
        wanted = [ids[0], ids[2]] if items is ends[2] else ids[:2]
        assert [str(each["response_id"]) for each in found] == wanted
    assert found[1]["context"] == "Evidence:\n[a] b"


@pytest.mark.parametrize("context", ["", "User: Where?\nAssistant: Here.", "Evidence:\nUser: a = b"])
def test_a_context_without_a_profile_is_shown_whole(context: str) -> None:
    assert without_profile(context) == context
