"""ratchet.v1.TrainingService. The trainer, a process elsewhere, does the runs: here they are asked for and shown."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol, TypeVar
from uuid import UUID

from ratchet.v1 import training_pb2 as pb
from ratchet.v1 import training_pb2_grpc
from server.errors import DeadlineExceeded, Draining, InvalidRequest, PermissionDenied, Violation
from server.identity import caller
from server.patience import within
from server.rpc.documents import place_of, token_of
from server.rpc.messages import Defaults
from server.rpc.training_messages import ASKED_STATES, item_of, point_of, settings_of, training_of
from server.rpc.validation import require_valid
from server.training.settings import checked
from server.training.types import Asked, Point, Report, ReviewItem, ReviewPlace, Run, State

Context = Any
"""grpc.aio.ServicerContext, whose stubs are generic and whose class is not."""
T = TypeVar("T")

PAGE_SIZE, MOST_RUNS = 50, 200
LOOK_EVERY = 1.0
"""Seconds between two looks at a run, of each who watches."""


class Store(Protocol):
    """What the service needs of `server.storage.training`. Every method raises StoreUnavailable."""

    async def start(self, tenant: str, asked: Asked) -> Run:
        """The run, which waits. Raises RequestIdReused, Overloaded."""

    async def get(self, tenant: str, training_id: UUID) -> Run:
        """One run. Raises TrainingNotFound."""

    async def page(self, tenant: str, state: State | None, after: UUID | None, limit: int) -> list[Run]:
        """Runs after one, newest first."""

    async def waiting(self, tenant: str, minimum: int) -> int:
        """How much feedback no run has looked at; it need not be counted beyond `minimum`."""

    async def curve(self, run: Run) -> list[Point]:
        """At most 1,000 points, spread evenly."""

    async def points(self, run: Run, after: Point | None) -> list[Point]:
        """The next points after one: of later steps, or of earlier ones that another attempt wrote since."""

    async def cancel(self, tenant: str, training_id: UUID) -> Run:
        """The run, which ends or will. Raises TrainingNotFound."""

    async def report(self, tenant: str, training_id: UUID) -> Report:
        """What was found out. Raises TrainingNotFound, TrainingHasNoReport."""


class Reviews(Protocol):
    """What the service needs of `server.storage.reviews`. Every method raises StoreUnavailable."""

    async def page(
        self, tenant: str, training_id: UUID | None, open_only: bool, after: ReviewPlace | None, limit: int
    ) -> tuple[list[ReviewItem], bool]:
        """Items after a place, open ones first, then the newest, and whether there are more."""

    async def open_count(self, tenant: str) -> int:
        """How many wait for a judgement."""

    async def label(self, tenant: str, item_id: UUID, label: int, note: str, who: str) -> ReviewItem:
        """The item, judged. Raises ReviewItemNotFound."""


class TrainingService(training_pb2_grpc.TrainingServiceServicer):
    """See protos/ratchet/v1/training.proto. `minimum`: feedback that starts a run by itself, 0 for none; `draining`
    tells when the server stops."""

    def __init__(
        self,
        store: Store,
        reviews: Reviews,
        defaults: Defaults,
        minimum: int,
        draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store, self._reviews, self._defaults = store, reviews, defaults
        self._minimum, self._draining = minimum, draining

    async def StartTraining(self, request: pb.StartTrainingRequest, context: Context) -> pb.StartTrainingResponse:
        """Asks for a run."""
        require_valid(request)
        started = self._store.start(caller().tenant_id, _asked(request))
        return pb.StartTrainingResponse(training=training_of(await self._in_time(context, started)))

    async def GetTraining(self, request: pb.GetTrainingRequest, context: Context) -> pb.GetTrainingResponse:
        """One run with its curves."""
        require_valid(request)
        run = await self._in_time(context, self._store.get(caller().tenant_id, UUID(request.training_id)))
        points = await self._in_time(context, self._store.curve(run))
        return pb.GetTrainingResponse(training=training_of(run), points=map(point_of, points))

    async def ListTrainings(self, request: pb.ListTrainingsRequest, context: Context) -> pb.ListTrainingsResponse:
        """A page of runs."""
        require_valid(request)
        tenant, size = caller().tenant_id, min(request.page_size or PAGE_SIZE, MOST_RUNS)
        scope = f"trainings:{len(tenant)}.{tenant}:{request.state}"
        after = UUID(place_of(request.page_token, scope)) if request.page_token else None
        page = self._store.page(tenant, ASKED_STATES.get(request.state), after, size + 1)
        found = await self._in_time(context, page)
        return pb.ListTrainingsResponse(
            trainings=map(training_of, found[:size]),
            next_page_token=token_of(str(found[size - 1].training_id), scope) if len(found) > size else "",
            waiting_feedback_count=await self._in_time(context, self._store.waiting(tenant, self._minimum)),
            minimum_feedback_count=self._minimum,
        )

    async def WatchTraining(
        self, request: pb.WatchTrainingRequest, context: Context
    ) -> AsyncIterator[pb.WatchTrainingResponse]:
        """The present state, then changes, until the run ends."""
        require_valid(request)
        tenant, training_id = caller().tenant_id, UUID(request.training_id)
        seen = await self._store.get(tenant, training_id)
        points = await self._store.curve(seen)
        yield pb.WatchTrainingResponse(training=training_of(seen), points=map(point_of, points), restarted=True)
        last, more = points[-1] if points else None, False
        while more or not seen.state.ended:
            if self._draining():
                raise Draining("This server is stopping; watch another one.")
            await asyncio.sleep(0 if more else LOOK_EVERY)
            run = await self._store.get(tenant, training_id)
            points = await self._store.points(run, last)
            if restarted := bool(points and last and points[0].step <= last.step):
                points = await self._store.curve(run)
            if run.version != seen.version or points:
                message = training_of(run) if run.version != seen.version else None
                yield pb.WatchTrainingResponse(training=message, points=map(point_of, points), restarted=restarted)
            more = bool(points) and not restarted  # an ended run's last points may be many
            seen, last = run, points[-1] if points else last

    async def CancelTraining(self, request: pb.CancelTrainingRequest, context: Context) -> pb.CancelTrainingResponse:
        """Stops a run."""
        require_valid(request)
        cancelled = self._store.cancel(caller().tenant_id, UUID(request.training_id))
        return pb.CancelTrainingResponse(training=training_of(await self._in_time(context, cancelled)))

    async def GetTrainingReport(
        self, request: pb.GetTrainingReportRequest, context: Context
    ) -> pb.GetTrainingReportResponse:
        """The report of a run."""
        require_valid(request)
        _require_all_users()
        found = await self._in_time(context, self._store.report(caller().tenant_id, UUID(request.training_id)))
        return pb.GetTrainingReportResponse(json=found.json, html=found.html)

    async def ListReviewItems(self, request: pb.ListReviewItemsRequest, context: Context) -> pb.ListReviewItemsResponse:
        """A page of what people should judge."""
        require_valid(request)
        _require_all_users()
        tenant = caller().tenant_id
        training_id = UUID(request.training_id) if request.training_id else None
        scope = f"reviews:{len(tenant)}.{tenant}:{request.training_id}:{request.open_only}"
        after = _place(place_of(request.page_token, scope)) if request.page_token else None
        page = self._reviews.page(tenant, training_id, request.open_only, after, request.page_size or PAGE_SIZE)
        found, more = await self._in_time(context, page)
        return pb.ListReviewItemsResponse(
            items=map(item_of, found),
            next_page_token=token_of(_text(found[-1]), scope) if more else "",
            open_count=await self._in_time(context, self._reviews.open_count(tenant)),
        )

    async def LabelReviewItem(self, request: pb.LabelReviewItemRequest, context: Context) -> pb.LabelReviewItemResponse:
        """Judges an item."""
        require_valid(request)
        _require_all_users()
        who = caller()
        labelled = self._reviews.label(who.tenant_id, UUID(request.item_id), request.label, request.note, who.name)
        return pb.LabelReviewItemResponse(item=item_of(await self._in_time(context, labelled)))

    async def _in_time(self, context: Context, work: Coroutine[Any, Any, T]) -> T:
        """Ends what takes longer than the call's deadline, or than calls may take."""
        remaining, defaults = context.time_remaining(), self._defaults
        seconds = min(defaults.deadline_seconds if remaining is None else remaining, defaults.max_seconds)
        try:
            return await within(seconds, work)
        except TimeoutError as error:
            raise DeadlineExceeded("The store of training runs did not answer in time.") from error


def _require_all_users() -> None:
    """Raises PermissionDenied for a key of one user: reports and review items show what others asked."""
    if caller().user_id:
        raise PermissionDenied("This API key belongs to one user and can't see what others asked.")


def _asked(request: pb.StartTrainingRequest) -> Asked:
    """What a valid request asks for. Raises InvalidRequest for settings that there are not."""
    kind, config = request.kind or "reward", checked(settings_of(request.config))
    text = json.dumps([kind, config], sort_keys=True)
    return Asked(
        kind=kind,
        config=config,
        requested_by=caller().name,
        request_id=request.request_id,
        fingerprint=hashlib.sha256(text.encode()).digest(),
    )


def _text(item: ReviewItem) -> str:
    return f"{'judged' if item.label else 'open'} {item.item_id}"


def _place(text: str) -> ReviewPlace:
    """The inverse of `_text`. Raises InvalidRequest."""
    state, _, item_id = text.partition(" ")
    try:
        return ReviewPlace(state == "open", UUID(item_id))
    except ValueError as error:
        raise InvalidRequest([Violation("page_token", "is not one that this listing gave")]) from error
