"""Rollouts: they come, move and end without a reload; people start, pause, promote, roll back and decide."""

import time
from collections.abc import AsyncIterator

import grpc
import pytest
from playwright.async_api import Locator, Page, expect

from ratchet.v1 import inference_pb2
from ratchet.v1 import rollout_pb2 as pb
from tests.browser import rollout_samples as samples
from tests.browser.conftest import PHONE
from tests.browser.consoles import Console
from tests.browser.planted import Planted, stamp
from tests.browser.planted_rollouts import PlantedRollouts

CANARY = f"/rollouts?rollout={samples.CANARY}"


@pytest.fixture
async def rollouts(planted: Planted) -> AsyncIterator[PlantedRollouts]:
    """Each test plants its own."""
    planted.rollouts.clear()
    planted.releases.releases.clear()
    yield planted.rollouts
    planted.rollouts.clear()
    planted.releases.releases.clear()


def plant_canary(rollouts: PlantedRollouts) -> pb.Rollout:
    now = time.time()
    found = samples.canary(now)
    rollouts.plant(found, *samples.canary_events(now), look=samples.canary_look(now))
    return found


async def decide(page: Page, name: str, reason: str = "") -> Locator:
    """Presses a command's button, gives a reason and agrees; gives the dialog."""
    await page.get_by_role("button", name=name, exact=True).first.click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Reason").fill(reason)
    await dialog.get_by_role("button", name=name, exact=True).click()
    return dialog


async def test_the_list_follows_each_rollout(page: Page, rollouts: PlantedRollouts, planted_console: Console) -> None:
    await page.goto(f"{planted_console.url}/rollouts")
    await expect(page.get_by_role("heading", name="No rollout yet")).to_be_visible()
    canary = plant_canary(rollouts)
    row = page.get_by_role("listitem").filter(has_text="reward-000003")
    for words in ("Canary 50 %", "instead of reward-000002", "50 % of users", "Reward", "Gradually", "by Lan"):
        await expect(row).to_contain_text(words)
    await row.evaluate("each => { window.row = each }")
    canary.stage, canary.share, canary.version = 2, 0.95, 7
    rollouts.plant(canary)
    await expect(row).to_contain_text("Canary 100 %")
    await expect(row.get_by_role("meter")).to_have_attribute("aria-valuenow", "95")
    rollouts.plant(samples.paused(time.time()))
    paused = page.get_by_role("listitem").filter(has_text="policy-000002")
    await expect(paused).to_contain_text("A safety report waits for you · By a person")
    assert await page.evaluate("window.row.isConnected"), "a line that somebody may be on stays the same element"


async def test_a_rollouts_page_tells_where_it_stands_why_it_waits_and_what_it_found(
    page: Page, rollouts: PlantedRollouts, planted_console: Console
) -> None:
    plant_canary(rollouts)
    await page.goto(f"{planted_console.url}{CANARY}")
    path = page.get_by_role("list", name="The way to service")
    await expect(path.locator("[aria-current=step]")).to_contain_text("50 %")
    standings = await path.locator(".sr-only").all_inner_texts()
    assert standings == ["done", "not waited for", "done", "now", "ahead", "ahead"]
    await expect(path.locator(".step-promoted")).to_contain_text("promoted by Lan with 143 of 200 samples")
    await expect(page.get_by_text("It has 143 of 200 samples, and was in this stage for 41 of 60")).to_be_visible()
    await expect(page.get_by_text("143 of 200", exact=True)).to_be_visible()
    await expect(page.get_by_text("41 min of 1 h")).to_be_visible()
    await expect(page.get_by_text("3.4 days")).to_be_visible()
    traffic = "Who answers the users: reward-000003 50 %, reward-000002 50 %"
    await expect(page.get_by_role("img", name=traffic)).to_be_visible()
    evidence = page.get_by_role("region", name="The evidence")
    told = "Satisfaction: +6.1 %, between +1.8 % and +10.4 %. Asked for: +5 % or more, and surely more than nothing."
    await expect(evidence.get_by_role("img", name=told)).to_be_visible()
    slower = "Mean (end to end): +2.1 %, between -1.2 % and +5.5 %. Asked for: less than +10 %."
    await expect(evidence.get_by_role("img", name=slower)).to_be_visible()
    failed = "Failed calls: 0.21 %, between 0.04 % and 0.72 %. Asked for: less than 1 %."
    await expect(evidence.get_by_role("img", name=failed)).to_be_visible()
    safety = evidence.get_by_role("listitem").filter(has_text="0 of 1204 users").first
    await expect(safety).to_contain_text("Met")
    await expect(safety.get_by_role("img")).to_have_count(0)
    audit = page.get_by_role("region", name="What happened")
    entries = await audit.locator(".audit-head strong").all_inner_texts()
    assert entries == ["Went on", "Promoted", "Went on", "Went on", "Started", "Drafted"], "newest first"
    await audit.get_by_text("What was known then").click()
    await expect(audit.get_by_text("6.1 % (1.8 % to 10.4 %)")).to_be_visible()
    plan = page.get_by_role("region", name="The plan")
    await expect(plan).to_contain_text("100 % for 1 d to 14 d, 200 samples")


async def test_a_rollouts_page_says_that_it_loads_until_it_knows_more(
    page: Page, rollouts: PlantedRollouts, planted_console: Console
) -> None:
    plant_canary(rollouts)
    rollouts.answering.clear()
    await page.goto(f"{planted_console.url}{CANARY}")
    loading = page.get_by_role("status").filter(has_text="Loading")
    await expect(loading).to_be_visible()
    await page.wait_for_timeout(1500)  # it has asked by now, and knows nothing yet
    await expect(loading).to_be_visible()
    rollouts.answering.set()
    await expect(page.get_by_role("list", name="The way to service")).to_be_visible()
    await expect(loading).to_have_count(0)


@pytest.mark.parametrize("rollout_id", ["garbage", "%3Cb%3E", "0199f000-0000-7000-8000-00000000ffff"])
async def test_an_address_of_no_rollout_says_so_and_where_the_others_are(
    page: Page, rollouts: PlantedRollouts, planted_console: Console, rollout_id: str
) -> None:
    await page.goto(f"{planted_console.url}/rollouts?rollout={rollout_id}")
    missing = page.get_by_role("alert")
    await expect(missing.get_by_role("heading", name="There is no such rollout")).to_be_visible()
    await expect(page.get_by_text("UUID")).to_have_count(0)
    await expect(page.get_by_role("status").filter(has_text="Loading")).to_have_count(0)
    await missing.get_by_role("link", name="All rollouts").click()
    await expect(page.get_by_role("heading", name="No rollout yet")).to_be_visible()


async def test_looks_and_steps_show_without_taking_anything_from_under_the_hand(
    page: Page, rollouts: PlantedRollouts, planted_console: Console
) -> None:
    canary = plant_canary(rollouts)
    now = time.time()
    await page.goto(f"{planted_console.url}{CANARY}")
    promote = page.get_by_role("button", name="Promote")
    await promote.focus()
    look = samples.canary_look(now)
    look.evidence.samples, look.reason = 201, "It was in this stage for 42 of 60 minutes."
    rollouts.plant(canary, look=look)
    await expect(page.get_by_text("201 of 200")).to_be_visible()
    await expect(promote).to_be_focused()
    look.evidence.refusal, look.evidence.ready_replicas = "It has no room.", 1
    rollouts.plant(canary, look=look)
    await expect(page.get_by_text("ready on 1 of 2 replicas")).to_be_visible()
    await expect(page.get_by_text("It has no room.")).to_be_visible()
    canary.stage, canary.share, canary.version = 2, 0.95, 7
    advanced = samples.canary_events(now)[-1]
    advanced.version, advanced.to_stage, advanced.reason = 7, 2, "Half of the users were served as well."
    rollouts.plant(canary, advanced)
    current = page.get_by_role("list", name="The way to service").locator("[aria-current=step]")
    await expect(current).to_contain_text("100 %")
    first = page.get_by_role("region", name="What happened").get_by_role("listitem").first
    await expect(first).to_contain_text("Half of the users were served as well.")
    await expect(page.get_by_text("0 of 200")).to_be_visible()  # what was counted before is of another stage
    canary.state, canary.version, canary.share = pb.ROLLOUT_STATE_ROLLING_BACK, 8, 0.0
    back = pb.RolloutEvent(version=8, trigger="roll_back", actor="controller", reason="Satisfaction is 6 % down.")
    back.to_state = canary.state
    rollouts.plant(canary, back)
    await expect(page.get_by_text("The one in service has all users again; calls under way end.")).to_be_visible()
    await expect(page.locator(".step-back")).to_contain_text("100 %")
    await expect(page.get_by_role("button", name="Roll back")).to_have_count(0)
    canary.state, canary.version = pb.ROLLOUT_STATE_ROLLED_BACK, 9
    drained = pb.RolloutEvent(version=9, trigger="drain", actor="controller", reason="All its calls have ended.")
    drained.from_state, drained.to_state = back.to_state, canary.state
    rollouts.plant(canary, drained)
    await expect(page.get_by_text("Rolled back (controller): Satisfaction is 6 % down.")).to_be_visible()


async def test_who_promotes_names_the_version_that_was_seen(
    page: Page, rollouts: PlantedRollouts, planted_console: Console
) -> None:
    canary = plant_canary(rollouts)
    await page.goto(f"{planted_console.url}{CANARY}")
    await page.get_by_role("button", name="Promote").click()
    dialog = page.get_by_role("dialog", name="Go on to the next stage now?")
    await dialog.get_by_label("Reason").fill("Half a day is enough.")
    canary.version = 7
    rollouts.plant(canary)
    rollouts.refusals.append((grpc.StatusCode.FAILED_PRECONDITION, "A safety report waits."))
    await dialog.get_by_role("button", name="Promote").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("A safety report waits.")
    await dialog.get_by_role("button", name="Promote").click()
    await expect(dialog).to_be_hidden()
    (request,) = rollouts.asked
    assert (request.version, request.reason) == (6, "Half a day is enough.")
    await expect(page.get_by_role("list", name="The way to service").locator("[aria-current]")).to_contain_text("100 %")
    first = page.get_by_role("region", name="What happened").get_by_role("listitem").first
    await expect(first).to_contain_text("Half a day is enough.")
    await expect(page.get_by_role("region", name="The way to service")).to_be_focused()


async def test_it_is_paused_and_resumed_and_rolled_back(
    page: Page, rollouts: PlantedRollouts, planted_console: Console
) -> None:
    plant_canary(rollouts)
    await page.goto(f"{planted_console.url}{CANARY}")
    await decide(page, "Pause", "Lunch.")
    await expect(page.get_by_text("By a person")).to_be_visible()
    await expect(page.get_by_text("It waits. Its users keep it")).to_be_visible()
    await expect(page.get_by_role("button", name="Promote")).to_have_count(0)
    await decide(page, "Resume")
    await expect(page.get_by_role("button", name="Promote")).to_be_visible()
    await decide(page, "Roll back", "Users complain.")
    await expect(page.get_by_text("Rolling back", exact=True)).to_be_visible()
    pause, resume, back = rollouts.asked
    assert isinstance(pause, pb.PauseRolloutRequest)
    assert (pause.version, pause.reason) == (0, "Lunch."), "what takes nothing is never too late"
    assert isinstance(resume, pb.ResumeRolloutRequest)
    assert (resume.version, resume.reason) == (7, "")
    assert isinstance(back, pb.RollBackRolloutRequest)
    assert (back.version, back.reason) == (0, "Users complain.")


async def test_escape_changes_nothing(page: Page, rollouts: PlantedRollouts, planted_console: Console) -> None:
    plant_canary(rollouts)
    await page.goto(f"{planted_console.url}{CANARY}")
    await page.get_by_role("button", name="Roll back").click()
    await expect(page.get_by_role("dialog", name="Roll this back?")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_be_hidden()
    await page.get_by_role("button", name="Pause").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("dialog")).to_be_hidden()
    assert rollouts.asked == []


async def test_what_is_verified_is_undone_by_another_rollout(
    page: Page, rollouts: PlantedRollouts, planted_console: Console
) -> None:
    for rollout, event in samples.ended(time.time()):
        rollouts.plant(rollout, event)
    await page.goto(f"{planted_console.url}/rollouts?rollout={samples.VERIFIED}")
    await expect(page.get_by_text("Verified (controller): All four success criteria are met")).to_be_visible()
    await expect(page.locator(".step-done")).to_have_count(6)
    await decide(page, "Undo", "Returns go wrong.")
    await page.wait_for_url(lambda url: samples.VERIFIED not in url)
    await expect(page.get_by_text("Undoes an earlier rollout")).to_be_visible()
    await page.get_by_role("link", name="See it").click()
    await page.wait_for_url(f"**/rollouts?rollout={samples.VERIFIED}")


async def test_a_draft_is_started_or_discarded(page: Page, rollouts: PlantedRollouts, planted_console: Console) -> None:
    rollouts.plant(samples.draft(time.time()))
    await page.goto(f"{planted_console.url}/rollouts?rollout={samples.DRAFT}")
    await expect(page.get_by_text("Nothing happens before it is started.")).to_be_visible()
    await decide(page, "Start", "Now.")
    await expect(page.get_by_text("The replicas load it")).to_be_visible()
    (request,) = rollouts.asked
    assert (request.rollout_id, request.reason, request.release) == (samples.DRAFT, "Now.", "")


async def test_safety_reports_are_read_and_decided(
    page: Page, rollouts: PlantedRollouts, planted_console: Console
) -> None:
    now = time.time()
    rollouts.reports[samples.PAUSED] = samples.reports(now)
    rollouts.plant(samples.paused(now), *samples.paused_events(now), look=samples.paused_look(now))
    await page.goto(f"{planted_console.url}/rollouts?rollout={samples.PAUSED}")
    reports = page.get_by_role("region", name="Safety reports on its replies")
    waiting = reports.get_by_role("listitem").filter(has_text="My kitchen nearly burned.")
    await expect(waiting).to_contain_text("Dangerous")
    await expect(waiting.get_by_role("link", name="Read the reply")).to_have_attribute(
        "href", f"/conversations/{samples.REPLY}"
    )
    await expect(reports.get_by_text("decided by Minh")).to_be_visible()
    await waiting.get_by_role("button", name="It is harmless").click()
    dialog = page.get_by_role("dialog", name="Dismiss this report?")
    await dialog.get_by_label("Reason").fill("It is about another kettle.")
    await dialog.get_by_role("button", name="It is harmless").click()
    await expect(reports.get_by_text("Harmless", exact=True)).to_have_count(2)
    await waiting.get_by_role("button", name="It is unsafe").click()
    await page.get_by_role("dialog").get_by_role("button", name="It is unsafe").click()
    await expect(waiting.get_by_text("Unsafe", exact=True)).to_be_visible()
    await expect(waiting).to_contain_text("decided by Lan")
    decided = [(each.feedback_id, each.tenant_id, each.confirmed, each.note) for each in rollouts.asked]
    assert decided == [
        (samples.REPORT, "default", False, "It is about another kettle."),
        (samples.REPORT, "default", True, ""),
    ]


async def test_a_rollout_is_started_as_it_was_planned(
    page: Page, planted: Planted, rollouts: PlantedRollouts, planted_console: Console
) -> None:
    planted.releases.plant(*samples.releases(time.time()))
    await page.goto(f"{planted_console.url}/rollouts")
    await page.get_by_role("button", name="Start a rollout").first.click()
    dialog = page.get_by_role("dialog", name="Start a rollout")
    options = dialog.get_by_label("Release").get_by_role("option")
    await expect(options).to_have_text(["reward-000001 (Reward)"])  # the others serve, or roll out
    await dialog.get_by_text("Plan for experts").click()
    await dialog.get_by_label("Stages").fill("5, 25, viele")
    await dialog.get_by_role("button", name="Start", exact=True).click()
    await expect(dialog.get_by_role("alert")).to_have_text("Stages: this is no number.")
    await dialog.get_by_label("Stages").fill("5,12.5 100 %")
    await dialog.get_by_label("Samples at least").fill("500")
    await dialog.get_by_label("Held back").fill("2.5")
    await dialog.get_by_label("Unseen first (shadow)").uncheck()
    rollouts.refusals.append((grpc.StatusCode.FAILED_PRECONDITION, "Another one is under way."))
    await dialog.get_by_role("button", name="Start", exact=True).click()
    await expect(dialog.get_by_role("alert")).to_contain_text("Another one is under way.")
    await dialog.get_by_label("Reason").fill("The older one was better.")
    await dialog.get_by_role("button", name="Start", exact=True).click()
    await page.wait_for_url("**/rollouts?rollout=*")
    (request,) = rollouts.asked
    assert request.release == "reward-000001"
    assert request.request_id
    assert not request.draft
    assert request.plan.no_shadow
    assert request.plan.holdback == 0.025
    assert [round(stage.share, 4) for stage in request.plan.stages] == [0.05, 0.125, 1.0]
    assert {stage.waiting.minimum_samples for stage in request.plan.stages} == {500}
    assert not any(stage.waiting.HasField("minimum_seconds") for stage in request.plan.stages)
    assert request.reason == "The older one was better."


async def test_without_a_word_the_default_plan_holds_and_a_draft_waits(
    page: Page, planted: Planted, rollouts: PlantedRollouts, planted_console: Console
) -> None:
    planted.releases.plant(*samples.releases(time.time()))
    await page.goto(f"{planted_console.url}/releases?release=reward-000001")
    await page.get_by_role("button", name="Roll out").click()
    dialog = page.get_by_role("dialog", name="Start a rollout")
    await dialog.get_by_role("radio", name="At once (blue-green)").check()
    await dialog.get_by_label("Only as a draft").check()
    await dialog.get_by_role("button", name="Start", exact=True).click()
    await page.wait_for_url("**/rollouts?rollout=*")
    (request,) = rollouts.asked
    assert request.draft
    assert request.release == "reward-000001"
    assert request.plan == pb.RolloutPlan(strategy=pb.ROLLOUT_STRATEGY_AT_ONCE)


async def test_where_no_release_waits_none_can_be_started(
    page: Page, rollouts: PlantedRollouts, planted_console: Console
) -> None:
    await page.goto(f"{planted_console.url}/rollouts")
    await page.get_by_role("button", name="Start a rollout").first.click()
    dialog = page.get_by_role("dialog", name="Start a rollout")
    await expect(dialog.get_by_text("No published release waits")).to_be_visible()
    await expect(dialog.get_by_role("button", name="Start", exact=True)).to_be_disabled()


async def test_what_others_wrote_is_text_and_nothing_else(
    page: Page, rollouts: PlantedRollouts, planted_console: Console
) -> None:
    hostile = "<img src=x onerror=\"document.title='ran'\">'\"&lt;"
    now = time.time()
    paused, look = samples.paused(now), samples.paused_look(now)
    paused.challenger = paused.pauses[0].reason = look.reason = hostile
    look.evidence.refusal = look.evidence.mismatch = hostile
    for measure in look.evidence.measures:
        measure.subject = measure.sentence = hostile
    report = samples.reports(now)[0]
    report.comment = report.category = hostile
    rollouts.reports[samples.PAUSED] = [report]
    rollouts.plant(paused, pb.RolloutEvent(version=7, trigger=hostile, actor=hostile, reason=hostile), look=look)
    await page.goto(f"{planted_console.url}/rollouts?rollout={samples.PAUSED}")
    await expect(page.get_by_role("region", name="Safety reports on its replies")).to_contain_text(hostile)
    await expect(page.get_by_role("heading", level=2, name=hostile)).to_be_visible()
    await expect(page.locator("main img:not(.brand-mark)")).to_have_count(0)
    assert await page.title() != "ran"
    await page.goto(f"{planted_console.url}/experiments")
    await expect(page.get_by_role("heading", level=2, name=hostile)).to_be_visible()
    assert await page.title() != "ran"


async def test_a_server_that_goes_away_and_comes_back_is_followed_again(
    page: Page, planted: Planted, rollouts: PlantedRollouts, planted_console: Console
) -> None:
    canary = plant_canary(rollouts)
    await page.goto(f"{planted_console.url}{CANARY}")
    await expect(page.get_by_text("143 of 200", exact=True)).to_be_visible()
    await planted.stop()
    await expect(page.get_by_text("The server is away; reconnecting.")).to_be_visible()
    await expect(page.get_by_text("143 of 200", exact=True)).to_be_visible()
    canary.stage, canary.version = 2, 7
    rollouts.plant(canary)
    await planted.start()
    current = page.get_by_role("list", name="The way to service").locator("[aria-current=step]")
    await expect(current).to_contain_text("100 %")
    await expect(page.get_by_text("The server is away; reconnecting.")).to_have_count(0)


async def test_older_entries_of_the_audit_come_on_demand(
    page: Page, rollouts: PlantedRollouts, planted_console: Console
) -> None:
    canary = plant_canary(rollouts)
    canary.version = 250
    more = [pb.RolloutEvent(version=n, trigger="pause", reason=f"Number {n}.") for n in range(7, 251)]
    for event in more:
        event.time.CopyFrom(stamp(time.time()))
    rollouts.plant(canary, *more)
    await page.goto(f"{planted_console.url}{CANARY}")
    entries = page.get_by_role("region", name="What happened").locator(".audit-entry")
    await expect(entries).to_have_count(100)
    await page.get_by_role("button", name="Show older ones").click()
    await expect(entries).to_have_count(250)
    await expect(entries.last).to_contain_text("Drafted")
    await expect(entries.first).to_contain_text("Number 250.")
    await expect(page.get_by_role("button", name="Show older ones")).to_have_count(0)


async def test_experiments_tell_what_compares_what_and_what_was_decided(
    page: Page, planted: Planted, rollouts: PlantedRollouts, planted_console: Console
) -> None:
    await page.goto(f"{planted_console.url}/experiments")
    await expect(page.get_by_role("heading", name="Nothing is compared now")).to_be_visible()
    samples.plant(planted.releases, rollouts, time.time())
    card = page.get_by_role("region", name="reward-000003, reward-000002")
    for words in ("Canary 50 %", "against reward-000002", "143 of 200", "3.4 days", "2 of 4", "No guardrail is broken"):
        await expect(card).to_contain_text(words)
    await expect(card.get_by_role("img")).to_have_count(4)  # safety is a count
    paused = page.get_by_role("region", name="policy-000002, policy-000001")
    await expect(paused).to_contain_text("Broken: Satisfaction, Safety reports")
    before = page.get_by_role("list", name="Decided before").get_by_role("listitem")
    await expect(before).to_have_count(2)
    await expect(before.first).to_contain_text("All four success criteria are met after 1,240 samples.")
    await expect(before.first).to_contain_text("Latency: Met")
    await expect(before.nth(1)).to_contain_text("Satisfaction: Missed")
    await expect(before.nth(1)).to_contain_text("Rolled back (controller): Satisfaction is 6 % down")
    look = samples.canary_look(time.time())
    look.evidence.samples = 200
    rollouts.plant(samples.canary(time.time()), look=look)
    await expect(card).to_contain_text("200 of 200")
    await card.get_by_role("link", name="See the rollout").click()
    await page.wait_for_url(f"**{CANARY}")


async def test_an_experiment_on_settings_is_told_judged_and_stopped(
    page: Page, planted: Planted, rollouts: PlantedRollouts, planted_console: Console
) -> None:
    planted.experiments.found = {samples.EXPERIMENT: samples.experiment(time.time())}
    await page.goto(f"{planted_console.url}/experiments")
    card = page.get_by_role("region", name="more-candidates")
    for words in ("Running", "Selection", "exploration = 0.05 · candidates = 8", "has eight", "12 days", "2 of 4"):
        await expect(card).to_contain_text(words)
    await card.get_by_role("button", name="It is harmless").click()
    await page.get_by_role("dialog").get_by_role("button", name="It is harmless").click()
    await expect(card).to_contain_text("decided by Lan")
    await card.get_by_role("button", name="Stop").click()
    dialog = page.get_by_role("dialog", name="Stop this experiment?")
    await dialog.get_by_label("Reason").fill("Enough is known.")
    await dialog.get_by_role("button", name="Stop").click()
    before = page.get_by_role("list", name="Decided before").get_by_role("listitem")
    for words in ("Stopped", "more-candidates", "Enough is known.", "RATCHET_CANDIDATES=8"):
        await expect(before).to_contain_text(words)
    await expect(card).to_have_count(0)
    decided, stopped = planted.experiments.asked
    assert (decided.feedback_id, decided.confirmed) == (samples.REPORT, False)
    assert (stopped.experiment_id, stopped.reason) == (samples.EXPERIMENT, "Enough is known.")
    planted.experiments.found.clear()


async def test_an_experiment_is_started_by_a_form_that_says_what_it_lacks(
    page: Page, planted: Planted, rollouts: PlantedRollouts, planted_console: Console
) -> None:
    planted.experiments.asked.clear()
    await page.goto(f"{planted_console.url}/experiments")
    await page.get_by_role("button", name="Start an experiment").click()
    dialog = page.get_by_role("dialog", name="Start an experiment")
    start, alert = dialog.get_by_role("button", name="Start"), dialog.get_by_role("alert")
    await start.click()
    await expect(alert).to_have_text("Name is missing.")
    await dialog.get_by_label("Name", exact=False).first.fill("a warmer one")
    await start.click()
    await expect(alert).to_contain_text("Letters from a to z")
    await dialog.get_by_label("Name", exact=False).first.fill("warmer")
    await start.click()
    await expect(alert).to_contain_text("Say what is tried")
    await dialog.get_by_label("Candidates drawn").fill("2.5")
    await start.click()
    await expect(alert).to_contain_text("a whole number")
    await dialog.get_by_label("Candidates drawn").fill("17")
    await start.click()
    await expect(alert).to_contain_text("a number from 1 to 16")
    await dialog.get_by_label("Candidates drawn").fill("8")
    await dialog.get_by_label("How the answer is chosen").select_option("weighted")
    await dialog.get_by_label("Percent drawn by reward").fill("20 %")
    await dialog.get_by_label("Percent of users who get it").fill("0")
    await start.click()
    await expect(alert).to_contain_text("a number from 0.1 to 90")
    await dialog.get_by_label("Percent of users who get it").fill("12.5")
    await dialog.get_by_text("More", exact=True).click()
    await dialog.get_by_label("Days after which it stops").fill("7")
    await dialog.get_by_label("Reason").fill("Is it worth it?")
    await start.click()
    await expect(dialog).to_be_hidden()
    await expect(page.get_by_role("region", name="warmer")).to_contain_text("candidates = 8")

    await page.get_by_role("button", name="Start an experiment").click()
    await dialog.get_by_label("Name", exact=False).first.fill("kinder")
    await dialog.get_by_label("Instructions", exact=True).check()
    await dialog.get_by_role("textbox", name="Instructions").fill("Be kind.")
    await start.click()
    await expect(page.get_by_role("region", name="kinder")).to_contain_text("Be kind.")

    first, second = planted.experiments.asked
    tried = first.variant.selection
    assert (first.name, first.share, first.longest_seconds, first.reason) == (
        "warmer",
        0.125,
        604_800,
        "Is it worth it?",
    )
    assert (tried.method, tried.candidates, tried.exploration) == (inference_pb2.SELECTION_METHOD_WEIGHTED, 8, 0.2)
    assert not tried.HasField("minimum_reward")
    assert (second.name, second.variant.prompt.instructions) == ("kinder", "Be kind.")
    assert not second.HasField("share")
    assert first.request_id != second.request_id
    planted.experiments.found.clear()
    planted.experiments.asked.clear()


async def test_on_a_phone_the_pages_entry_is_scrolled_to(
    page: Page, rollouts: PlantedRollouts, planted_console: Console
) -> None:
    await page.set_viewport_size(PHONE)
    await page.goto(f"{planted_console.url}/experiments")
    await expect(page.get_by_role("link", name="Experiments")).to_be_in_viewport(ratio=1)
