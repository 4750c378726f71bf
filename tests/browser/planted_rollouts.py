"""Releases, rollouts and experiments that a test makes up, served as the real services do."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc

from ratchet.v1 import experiment_pb2, experiment_pb2_grpc, release_pb2, release_pb2_grpc, rollout_pb2_grpc
from ratchet.v1 import rollout_pb2 as pb

Context = Any
_ENDED = (pb.ROLLOUT_STATE_VERIFIED, pb.ROLLOUT_STATE_ROLLED_BACK, pb.ROLLOUT_STATE_FAILED)


class PlantedReleases(release_pb2_grpc.ReleaseServiceServicer):
    """`releases`: by id, the newest first. `refused`: what training made in vain. `refusal`: why nothing is retired or
    published. A directory is published under its last name, once `publishing` is set."""

    def __init__(self) -> None:
        self.releases: dict[str, release_pb2.Release] = {}
        self.refused: list[release_pb2.RefusedRelease] = []
        self.refusal = ""
        self.publishing = asyncio.Event()
        self.publishing.set()

    def clear(self) -> None:
        """Begins anew."""
        self.releases.clear()
        self.refused.clear()
        self.refusal = ""

    def plant(self, *releases: release_pb2.Release) -> None:
        """New ones, or ones that change."""
        for release in releases:
            self.releases[release.release] = release_pb2.Release.FromString(release.SerializeToString())

    async def ListReleases(
        self, request: release_pb2.ListReleasesRequest, context: Context
    ) -> release_pb2.ListReleasesResponse:
        newest = [each for each in self.releases.values() if request.kind in (0, each.kind)]
        begin, size = int(request.page_token or 0), request.page_size
        return release_pb2.ListReleasesResponse(
            releases=newest[begin : begin + size],
            next_page_token=str(begin + size) if len(newest) > begin + size else "",
        )

    async def GetRelease(
        self, request: release_pb2.GetReleaseRequest, context: Context
    ) -> release_pb2.GetReleaseResponse:
        if request.release not in self.releases:
            await context.abort(grpc.StatusCode.NOT_FOUND, "No release of this id was published.")
        found = self.releases[request.release]
        ancestors, parent = [], found.parent
        while parent in self.releases:
            ancestors.append(self.releases[parent])
            parent = self.releases[parent].parent
        return release_pb2.GetReleaseResponse(release=found, ancestors=ancestors)

    async def PublishRelease(
        self, request: release_pb2.PublishReleaseRequest, context: Context
    ) -> release_pb2.PublishReleaseResponse:
        await self.publishing.wait()
        if self.refusal:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, self.refusal)
        name = request.directory.rpartition("/")[2]
        existed = name in self.releases
        if not existed:
            self.plant(release_pb2.Release(release=name, kind=release_pb2.RELEASE_KIND_REWARD))
            self.releases[name].publish_time.GetCurrentTime()
        return release_pb2.PublishReleaseResponse(release=self.releases[name], existed=existed)

    async def RetireRelease(
        self, request: release_pb2.RetireReleaseRequest, context: Context
    ) -> release_pb2.RetireReleaseResponse:
        if self.refusal:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, self.refusal)
        found = self.releases[request.release]
        found.retire_time.GetCurrentTime()
        return release_pb2.RetireReleaseResponse(release=found)

    async def ListRefusedReleases(
        self, request: release_pb2.ListRefusedReleasesRequest, context: Context
    ) -> release_pb2.ListRefusedReleasesResponse:
        return release_pb2.ListRefusedReleasesResponse(refused_releases=self.refused[: request.page_size])


class PlantedRollouts(rollout_pb2_grpc.RolloutServiceServicer):
    """`asked`: every request that would change something. `refusals`: what the next calls are refused with. Who watches
    waits while `answering` is not set."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.rollouts: dict[str, pb.Rollout] = {}
        self.looks: dict[str, pb.RolloutLook] = {}
        self.events: dict[str, list[pb.RolloutEvent]] = {}
        self.reports: dict[str, list[pb.RolloutSafetyReport]] = {}
        self.asked: list[Any] = []
        self.refusals: list[tuple[grpc.StatusCode, str]] = []
        self.answering = asyncio.Event()
        self.answering.set()
        self._watchers: dict[str, list[asyncio.Queue[pb.WatchRolloutResponse]]] = {}

    def plant(self, rollout: pb.Rollout, *events: pb.RolloutEvent, look: pb.RolloutLook | None = None) -> None:
        """A new one, or one that changes, with new entries of its audit, oldest first."""
        key = rollout.rollout_id
        kept = pb.Rollout.FromString(rollout.SerializeToString())
        self.rollouts[key] = kept
        self.events.setdefault(key, []).extend(events)
        if look is not None:
            self.looks[key] = look
        message = pb.WatchRolloutResponse(rollout=kept, look=self.looks.get(key), events=events)
        for queue in self._watchers.get(key, ()):
            queue.put_nowait(message)

    async def StartRollout(self, request: pb.StartRolloutRequest, context: Context) -> pb.StartRolloutResponse:
        await self._allowed(request, context)
        if request.rollout_id:
            return pb.StartRolloutResponse(rollout=self._moved(request.rollout_id, pb.ROLLOUT_STATE_PUBLISHED, request))
        rollout = pb.Rollout(
            rollout_id=str(uuid.uuid5(uuid.NAMESPACE_URL, request.request_id)),
            challenger=request.release,
            champion="reward-000001",
            plan=request.plan,
            state=pb.ROLLOUT_STATE_DRAFT if request.draft else pb.ROLLOUT_STATE_PUBLISHED,
            version=1,
        )
        rollout.create_time.GetCurrentTime()
        rollout.since_time.GetCurrentTime()
        self.plant(rollout)
        return pb.StartRolloutResponse(rollout=rollout)

    async def GetRollout(self, request: pb.GetRolloutRequest, context: Context) -> pb.GetRolloutResponse:
        rollout = await self._rollout(request.rollout_id, context)
        return pb.GetRolloutResponse(
            rollout=rollout,
            look=self.looks.get(rollout.rollout_id),
            events=self.events[rollout.rollout_id][::-1],
            safety_reports=self.reports.get(rollout.rollout_id, ()),
        )

    async def ListRollouts(self, request: pb.ListRolloutsRequest, context: Context) -> pb.ListRolloutsResponse:
        newest = sorted(self.rollouts.values(), key=lambda each: each.create_time.ToNanoseconds(), reverse=True)
        begin, size = int(request.page_token or 0), request.page_size
        return pb.ListRolloutsResponse(
            rollouts=newest[begin : begin + size],
            next_page_token=str(begin + size) if len(newest) > begin + size else "",
        )

    async def WatchRollout(
        self, request: pb.WatchRolloutRequest, context: Context
    ) -> AsyncIterator[pb.WatchRolloutResponse]:
        await self.answering.wait()
        rollout = await self._rollout(request.rollout_id, context)
        key = rollout.rollout_id
        queue: asyncio.Queue[pb.WatchRolloutResponse] = asyncio.Queue()
        watchers = self._watchers.setdefault(key, [])
        watchers.append(queue)
        try:
            newest = self.events[key][-100:]
            message = pb.WatchRolloutResponse(rollout=rollout, look=self.looks.get(key), events=newest)
            yield message
            while message.rollout.state not in _ENDED:
                yield (message := await queue.get())
        finally:
            watchers.remove(queue)

    async def PauseRollout(self, request: pb.PauseRolloutRequest, context: Context) -> pb.PauseRolloutResponse:
        await self._allowed(request, context)
        before = self.rollouts[request.rollout_id].state
        rollout = self._moved(request.rollout_id, pb.ROLLOUT_STATE_PAUSED, request, resumes_to=before)
        return pb.PauseRolloutResponse(rollout=rollout)

    async def ResumeRollout(self, request: pb.ResumeRolloutRequest, context: Context) -> pb.ResumeRolloutResponse:
        await self._allowed(request, context)
        back = self.rollouts[request.rollout_id].resumes_to
        return pb.ResumeRolloutResponse(rollout=self._moved(request.rollout_id, back, request))

    async def PromoteRollout(self, request: pb.PromoteRolloutRequest, context: Context) -> pb.PromoteRolloutResponse:
        await self._allowed(request, context)
        rollout = self.rollouts[request.rollout_id]
        rollout.stage += 1
        rollout.share = rollout.plan.stages[rollout.stage].share
        return pb.PromoteRolloutResponse(rollout=self._moved(request.rollout_id, rollout.state, request))

    async def RollBackRollout(self, request: pb.RollBackRolloutRequest, context: Context) -> pb.RollBackRolloutResponse:
        await self._allowed(request, context)
        before = self.rollouts[request.rollout_id]
        if before.state == pb.ROLLOUT_STATE_VERIFIED:
            undoing = pb.Rollout.FromString(before.SerializeToString())
            undoing.rollout_id, undoing.undoes = str(uuid.uuid4()), before.rollout_id
            undoing.challenger, undoing.champion = before.champion, before.challenger
            undoing.state, undoing.version = pb.ROLLOUT_STATE_PUBLISHED, 1
            self.plant(undoing)
            return pb.RollBackRolloutResponse(rollout=undoing)
        return pb.RollBackRolloutResponse(
            rollout=self._moved(request.rollout_id, pb.ROLLOUT_STATE_ROLLING_BACK, request, share=0.0)
        )

    async def ListRolloutEvents(
        self, request: pb.ListRolloutEventsRequest, context: Context
    ) -> pb.ListRolloutEventsResponse:
        newest = self.events[request.rollout_id][::-1]
        begin, size = int(request.page_token or 0), request.page_size
        return pb.ListRolloutEventsResponse(
            events=newest[begin : begin + size],
            next_page_token=str(begin + size) if len(newest) > begin + size else "",
        )

    async def DecideSafetyReport(
        self, request: pb.DecideSafetyReportRequest, context: Context
    ) -> pb.DecideSafetyReportResponse:
        await self._allowed(request, context)
        found = next(each for each in self.reports[request.rollout_id] if each.feedback_id == request.feedback_id)
        found.confirmed, found.decided_by = request.confirmed, "Lan"
        return pb.DecideSafetyReportResponse(report=found)

    async def _allowed(self, request: Any, context: Context) -> None:
        """Keeps what was asked for, or refuses it."""
        if self.refusals:
            code, sentence = self.refusals.pop(0)
            await context.abort(code, sentence)
        self.asked.append(request)

    def _moved(self, rollout_id: str, state: int, request: Any, **changes: Any) -> pb.Rollout:
        """The rollout in its new state, with one more entry in its audit."""
        rollout = self.rollouts[rollout_id]
        event = pb.RolloutEvent(version=rollout.version + 1, actor="Lan", is_person=True, reason=request.reason)
        event.trigger = type(request).__name__.removesuffix("RolloutRequest").lower().replace("rollback", "roll_back")
        event.time.GetCurrentTime()
        event.from_state, event.from_stage = rollout.state, rollout.stage
        rollout.state, rollout.version = state, rollout.version + 1  # type: ignore[assignment]
        event.to_state, event.to_stage = rollout.state, rollout.stage
        del rollout.pauses[:]
        if state == pb.ROLLOUT_STATE_PAUSED:
            pause = rollout.pauses.add(cause=pb.ROLLOUT_PAUSE_CAUSE_PERSON, reason=request.reason)
            pause.since_time.GetCurrentTime()
        for name, value in changes.items():
            setattr(rollout, name, value)
        self.looks.pop(rollout_id, None)
        self.plant(rollout, event)
        return rollout

    async def _rollout(self, rollout_id: str, context: Context) -> pb.Rollout:
        try:
            uuid.UUID(rollout_id)
        except ValueError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "rollout_id: must be a valid UUID")
        if rollout_id not in self.rollouts:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no rollout of this id.")
        return self.rollouts[rollout_id]


class PlantedExperiments(experiment_pb2_grpc.ExperimentServiceServicer):
    """`asked`: every request that would change something."""

    def __init__(self) -> None:
        self.found: dict[str, experiment_pb2.GetExperimentResponse] = {}
        self.asked: list[Any] = []

    async def StartExperiment(
        self, request: experiment_pb2.StartExperimentRequest, context: Context
    ) -> experiment_pb2.StartExperimentResponse:
        self.asked.append(request)
        made = experiment_pb2.GetExperimentResponse()
        tried = made.experiment
        tried.experiment_id, tried.name, tried.version = str(uuid.uuid4()), request.name, 1
        tried.share = request.share if request.HasField("share") else 0.1
        tried.variant.CopyFrom(request.variant)
        tried.kind = experiment_pb2.ExperimentKind.Value(f"EXPERIMENT_KIND_{tried.variant.WhichOneof('what').upper()}")
        tried.state = experiment_pb2.EXPERIMENT_STATE_RUNNING
        self.found[tried.experiment_id] = made
        return experiment_pb2.StartExperimentResponse(experiment=tried)

    async def GetExperiment(
        self, request: experiment_pb2.GetExperimentRequest, context: Context
    ) -> experiment_pb2.GetExperimentResponse:
        return self.found[request.experiment_id]

    async def ListExperiments(
        self, request: experiment_pb2.ListExperimentsRequest, context: Context
    ) -> experiment_pb2.ListExperimentsResponse:
        return experiment_pb2.ListExperimentsResponse(experiments=[each.experiment for each in self.found.values()])

    async def StopExperiment(
        self, request: experiment_pb2.StopExperimentRequest, context: Context
    ) -> experiment_pb2.StopExperimentResponse:
        self.asked.append(request)
        experiment = self.found[request.experiment_id].experiment
        experiment.state, experiment.reason = experiment_pb2.EXPERIMENT_STATE_STOPPED, request.reason
        experiment.version += 1
        experiment.stop_time.GetCurrentTime()
        return experiment_pb2.StopExperimentResponse(experiment=experiment)

    async def DecideExperimentReport(
        self, request: experiment_pb2.DecideExperimentReportRequest, context: Context
    ) -> experiment_pb2.DecideExperimentReportResponse:
        self.asked.append(request)
        report = self.found[request.experiment_id].safety_reports[0]
        report.confirmed, report.decided_by = request.confirmed, "Lan"
        return experiment_pb2.DecideExperimentReportResponse(report=report)
