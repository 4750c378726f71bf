"""Training runs and review items that a test makes up, served as the real service does."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc

from ratchet.v1 import training_pb2 as pb
from ratchet.v1 import training_pb2_grpc

Context = Any
_ENDED = (pb.TRAINING_STATE_SUCCEEDED, pb.TRAINING_STATE_FAILED, pb.TRAINING_STATE_CANCELLED)


class PlantedTraining(training_pb2_grpc.TrainingServiceServicer):
    """`started`: what was asked for. `lost`: items that are gone when they are judged."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.runs: dict[str, pb.Training] = {}
        self.points: dict[str, list[pb.TrainingPoint]] = {}
        self.reports: dict[str, tuple[dict[str, Any], str]] = {}
        self.items: dict[str, pb.ReviewItem] = {}
        self.started: list[pb.StartTrainingRequest] = []
        self.judged: list[pb.LabelReviewItemRequest] = []
        self.lost: set[str] = set()
        self.waiting, self.minimum = 0, 1000
        self._changed: dict[str, list[asyncio.Queue[pb.WatchTrainingResponse]]] = {}

    def plant(self, run: pb.Training, *points: pb.TrainingPoint, restarted: bool = False) -> None:
        """A new run, or one that changes and comes to more points."""
        self.runs[run.training_id] = pb.Training.FromString(run.SerializeToString())
        known = self.points.setdefault(run.training_id, [])
        if restarted:
            known.clear()
        known.extend(points)
        for queue in self._changed.get(run.training_id, ()):
            queue.put_nowait(pb.WatchTrainingResponse(training=run, points=points, restarted=restarted))

    async def StartTraining(self, request: pb.StartTrainingRequest, context: Context) -> pb.StartTrainingResponse:
        if "seeds" in request.config and request.config["seeds"] > 10:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "config.seeds: must be at most 10")
        self.started.append(request)
        run = pb.Training(training_id=request.request_id, kind="reward", state=pb.TRAINING_STATE_QUEUED)
        run.create_time.GetCurrentTime()
        self.plant(run)
        return pb.StartTrainingResponse(training=run)

    async def GetTraining(self, request: pb.GetTrainingRequest, context: Context) -> pb.GetTrainingResponse:
        run = await self._run(request.training_id, context)
        return pb.GetTrainingResponse(training=run, points=self.points[run.training_id])

    async def ListTrainings(self, request: pb.ListTrainingsRequest, context: Context) -> pb.ListTrainingsResponse:
        newest = sorted(self.runs.values(), key=lambda run: run.create_time.ToNanoseconds(), reverse=True)
        newest = [run for run in newest if request.state in (pb.TRAINING_STATE_UNSPECIFIED, run.state)]
        begin, size = int(request.page_token or 0), request.page_size
        return pb.ListTrainingsResponse(
            trainings=newest[begin : begin + size],
            next_page_token=str(begin + size) if len(newest) > begin + size else "",
            waiting_feedback_count=self.waiting,
            minimum_feedback_count=self.minimum,
        )

    async def WatchTraining(
        self, request: pb.WatchTrainingRequest, context: Context
    ) -> AsyncIterator[pb.WatchTrainingResponse]:
        run = await self._run(request.training_id, context)
        queue: asyncio.Queue[pb.WatchTrainingResponse] = asyncio.Queue()
        watchers = self._changed.setdefault(run.training_id, [])
        watchers.append(queue)
        try:
            message = pb.WatchTrainingResponse(training=run, points=self.points[run.training_id], restarted=True)
            yield message
            while message.training.state not in _ENDED:
                yield (message := await queue.get())
        finally:
            watchers.remove(queue)

    async def CancelTraining(self, request: pb.CancelTrainingRequest, context: Context) -> pb.CancelTrainingResponse:
        run = await self._run(request.training_id, context)
        run.cancelling = True
        self.plant(run)
        return pb.CancelTrainingResponse(training=run)

    async def GetTrainingReport(
        self, request: pb.GetTrainingReportRequest, context: Context
    ) -> pb.GetTrainingReportResponse:
        if request.training_id not in self.reports:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "This run has no report.")
        found, html = self.reports[request.training_id]
        return pb.GetTrainingReportResponse(json=json.dumps(found), html=html)

    async def ListReviewItems(self, request: pb.ListReviewItemsRequest, context: Context) -> pb.ListReviewItemsResponse:
        ids, size = list(self.items), request.page_size
        after = ids[ids.index(request.page_token) + 1 :] if request.page_token else ids
        wanted = [self.items[each] for each in after if not (request.open_only and self.items[each].label)]
        wanted = [each for each in wanted if request.training_id in ("", each.training_id)]
        return pb.ListReviewItemsResponse(
            items=wanted[:size],
            next_page_token=wanted[size - 1].item_id if len(wanted) > size else "",
            open_count=sum(not each.label for each in self.items.values()),
        )

    async def LabelReviewItem(self, request: pb.LabelReviewItemRequest, context: Context) -> pb.LabelReviewItemResponse:
        if request.item_id in self.lost:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no item of this id.")
        self.judged.append(request)
        item = self.items[request.item_id]
        item.label, item.note = request.label, request.note
        return pb.LabelReviewItemResponse(item=item)

    async def _run(self, training_id: str, context: Context) -> pb.Training:
        if training_id not in self.runs:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no training run of this id.")
        return self.runs[training_id]
