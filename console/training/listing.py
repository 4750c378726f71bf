"""The list of runs, and what waits for the next one. Both follow the server while the page is open."""

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo

from console import client, moments, parts, shell
from console.listing import PAGE, Lines, Listing
from console.meter import Meter
from console.numerals import number
from console.parts import el
from console.training import telling
from console.words import t
from ratchet.v1 import training_pb2 as pb


class Waiting:
    """New feedback that waits for a run, as a share of what starts one."""

    def __init__(self) -> None:
        with el("div", "waiting-words"):
            el("h2", "card-title", t("training.waiting"))
            self._count = el("p", "waiting-count", "")
        self._meter = Meter(t("training.waiting"), classes="meter-tall")
        self._note = el("p", "muted small", "")

    def show(self, answer: pb.ListTrainingsResponse) -> None:
        """What the server says of it."""
        count, minimum = answer.waiting_feedback_count, answer.minimum_feedback_count
        if not minimum:
            words, note = "waiting_count", "waiting_never"
        elif count < minimum:
            words, note = "waiting_of", "waiting_note"
        else:
            words, note = "waiting_enough", "waiting_due"
        parts.set_text(self._count, t(f"training.{words}", n=number(count), minimum=number(minimum)))
        parts.set_text(self._note, t(f"training.{note}"))
        self._meter.box.set_visibility(minimum > 0)
        self._meter.show(count / minimum if minimum else 0.0)


def runs(waiting: Waiting) -> Listing[pb.Training]:
    """Runs, newest first. Draws itself where it is made; `waiting` shows what waits for the next one."""

    async def fetch(token: str) -> tuple[Sequence[pb.Training], str]:
        api = client.api()
        request = pb.ListTrainingsRequest(page_size=PAGE, page_token=token)
        answer = await api.call(api.training.ListTrainings, request)
        waiting.show(answer)
        return answer.trainings, answer.next_page_token

    lines = Lines(
        name=t("training.runs"),
        older=t("training.older"),
        fetch=fetch,
        key=lambda run: run.training_id,
        draw=_draw,
        looks=_ago,
        empty=_empty,
    )
    return Listing(lines)


def _empty() -> None:
    shell.empty(t("training.empty"), t("training.empty_text"), icon="model_training")


def _ago(run: pb.Training) -> str:
    return moments.ago(moments.of(run.create_time), datetime.now(UTC))


def _draw(run: pb.Training, zone: tzinfo) -> None:
    """One run of the list, which leads to its page."""
    with el("a", "run-row", href=f"/training?run={run.training_id}"):
        words, tone, symbol = telling.state(run)
        with el("span", "run-head"):
            parts.chip(words, tone, symbol=symbol)
            el("strong", "run-name", run.release or run.base_model or t("training.run"))
            el("span", "run-time num", _ago(run), title=moments.written(moments.of(run.create_time), zone))
        _middle(run)
        with el("span", "run-facts num"):
            _facts(run)


def _middle(run: pb.Training) -> None:
    """What there is to say of the run in a line: how far it is, or what became of it."""
    if run.state == pb.TRAINING_STATE_RUNNING:
        with el("span", "run-progress"):
            Meter(t("training.progress"), run.progress, progress=True)
            el("span", "num", f"{telling.stage(run)} · {telling.percent(run.progress, 0)}")
    elif run.error:
        el("span", "run-error", run.error, lang="en")
    elif run.reasons:
        el("span", "run-why", run.reasons[0], lang="en")


def _facts(run: pb.Training) -> None:
    for fact in (telling.against(run), telling.who(run), telling.took(run)):
        if fact:
            el("span", "", fact)
    if run.feedback_count:
        el("span", "", t("training.rows", n=number(run.feedback_count), new=number(run.new_feedback_count)))
    if run.not_reproducible:
        parts.chip(t("training.not_reproducible"), "warn", symbol="history_toggle_off")
