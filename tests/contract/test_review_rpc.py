"""The review queue through TrainingService: who may judge, how judgements are kept, and how it is paged."""

from uuid import uuid4

import grpc

from ratchet.v1 import training_pb2 as pb
from server.identity import Role
from tests.training_api import Edge
from tests.unit.test_rpc import refused


async def test_raters_judge_and_keys_of_one_user_see_nothing_of_others(edge: Edge) -> None:
    run = await edge.start()
    item = await edge.item(run.training_id)
    rater = edge.keys.add(Role.RATER, tenant=edge.tenant)
    assert [each.item_id for each in (await edge.call("ListReviewItems", rater)).items] == [item]
    assert (await refused(edge.call("ListTrainings", rater))).code is grpc.StatusCode.PERMISSION_DENIED
    own = edge.keys.add(Role.RATER, Role.TRAINER, tenant=edge.tenant, user="ann")
    for method, fields in (
        ("ListReviewItems", {}),
        ("LabelReviewItem", {"item_id": item, "label": 1}),
        ("GetTrainingReport", {"training_id": run.training_id}),
    ):
        assert (await refused(edge.call(method, own, **fields))).code is grpc.StatusCode.PERMISSION_DENIED


async def test_a_judgement_is_kept_replaced_and_taken_back(edge: Edge) -> None:
    run = await edge.start()
    reply = uuid4()
    item = await edge.item(run.training_id, 0.93, response_id=reply, rating=0.25, context="Bảng", reason="DISPUTED")
    (shown,) = (await edge.call("ListReviewItems")).items
    assert (shown.query, shown.response, shown.context) == ("Bảo hành bao lâu?", "24 tháng.", "Bảng")
    assert (shown.score, shown.rating, shown.reason) == (0.93, 0.25, pb.REVIEW_REASON_DISPUTED)
    assert (shown.response_id, shown.label) == (str(reply), 0)
    first = (await edge.call("LabelReviewItem", item_id=item, label=5, note="Đúng\nhết")).item
    assert (first.label, first.note, first.labelled_by) == (5, "Đúng\nhết", f"key of {edge.tenant}")
    assert (await edge.call("LabelReviewItem", item_id=item, label=5, note="Đúng\nhết")).item == first, "nothing new"
    second = (await edge.call("LabelReviewItem", item_id=item, label=2)).item
    assert (second.label, second.note) == (2, "")
    assert second.label_time.ToDatetime() > first.label_time.ToDatetime()
    assert (await edge.call("ListReviewItems")).open_count == 0
    back = (await edge.call("LabelReviewItem", item_id=item, label=0, note="x")).item
    assert back == shown
    assert (await edge.call("ListReviewItems")).open_count == 1
    for label, note, field in ((6, "", "label"), (-1, "", "label"), (1, "a\0", "note"), (1, "ế" * 3000, "note")):
        assert (await refused(edge.call("LabelReviewItem", item_id=item, label=label, note=note))).fields == [field]


async def test_open_items_come_first_page_by_page_and_judging_meanwhile_loses_none(edge: Edge) -> None:
    run, other = await edge.start(), await edge.start()
    items = [await edge.item(run.training_id) for _ in range(6)]
    elsewhere = await edge.item(other.training_id)
    await edge.call("LabelReviewItem", item_id=items[5], label=3)
    page = await edge.call("ListReviewItems", training_id=run.training_id, page_size=2)
    assert [each.item_id for each in page.items] == [items[4], items[3]]
    await edge.call("LabelReviewItem", item_id=items[4], label=3)
    seen: list[str] = []
    while page.next_page_token:
        token = page.next_page_token
        page = await edge.call("ListReviewItems", training_id=run.training_id, page_size=2, page_token=token)
        seen += [each.item_id for each in page.items]
    assert seen == [items[2], items[1], items[0], items[5], items[4]]
    found = await edge.call("ListReviewItems", open_only=True)
    assert [each.item_id for each in found.items] == [elsewhere, items[3], items[2], items[1], items[0]]
    assert found.open_count == 5
    assert (await refused(edge.call("ListReviewItems", page_token=token))).fields == ["page_token"]
    assert (await refused(edge.call("ListReviewItems", training_id="Z" * 36))).fields == ["training_id"]


async def test_a_page_of_long_texts_is_shorter_than_a_message_may_be_and_nothing_is_left_out(edge: Edge) -> None:
    run = await edge.start()
    items = [await edge.item(run.training_id, context="ế" * 350_000) for _ in range(9)]
    seen, token = [], ""
    while True:
        page = await edge.call("ListReviewItems", page_size=1000, page_token=token)
        seen += [each.item_id for each in page.items]
        if not (token := page.next_page_token):
            break
    assert seen == items[::-1]
