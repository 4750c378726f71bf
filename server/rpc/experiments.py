"""ratchet.v1.ExperimentService: people start and stop experiments here, and see how they stand."""

import hashlib
import json
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar
from uuid import UUID

from ratchet.v1 import experiment_pb2 as pb
from ratchet.v1 import experiment_pb2_grpc, rollout_pb2
from server.errors import Conflict, DeadlineExceeded, told
from server.experiments import decision
from server.experiments.decision import NO_REASON
from server.experiments.store import Experiments
from server.experiments.types import Event, Experiment, State, Step, Trigger
from server.identity import caller
from server.patience import within
from server.rollout import documents
from server.rollout.orders import new_id
from server.rollout.registry import Looked
from server.rollout.reports import SafetyReport, SafetyReports
from server.rollout.types import Actor, Evidence
from server.rpc.documents import place_of, token_of
from server.rpc.experiment_messages import ASKED_KINDS, event_of, experiment_of, plan_of, variant_of
from server.rpc.messages import Defaults
from server.rpc.rollout_messages import look_of, report_of
from server.rpc.validation import require_clean

log = logging.getLogger(__name__)

Context = Any
"""grpc.aio.ServicerContext, whose stubs are generic and whose class is not."""
T = TypeVar("T")

PAGE_SIZE, MOST_EXPERIMENTS = 50, 200
NEWEST = 100
"""Entries of the audit, and safety reports, that come with an experiment."""
ANYONE = "anyone"
"""Who acts where nobody is asked for a key."""
ATTEMPTS = 5
"""To stop one while others write."""


class ExperimentService(experiment_pb2_grpc.ExperimentServiceServicer):
    """See protos/ratchet/v1/experiment.proto."""

    def __init__(self, experiments: Experiments, reports: SafetyReports, defaults: Defaults) -> None:
        self._experiments, self._reports, self._defaults = experiments, reports, defaults

    async def StartExperiment(self, request: pb.StartExperimentRequest, context: Context) -> pb.StartExperimentResponse:
        """Starts an experiment."""
        require_clean(request)
        found = await self._in_time(context, self._started(request))
        return pb.StartExperimentResponse(experiment=experiment_of(found))

    async def GetExperiment(self, request: pb.GetExperimentRequest, context: Context) -> pb.GetExperimentResponse:
        """One experiment, all of it."""
        require_clean(request)
        return await self._in_time(context, self._one(request.experiment_id))

    async def ListExperiments(self, request: pb.ListExperimentsRequest, context: Context) -> pb.ListExperimentsResponse:
        """A page of experiments."""
        require_clean(request)
        return await self._in_time(context, self._listed(request))

    async def StopExperiment(self, request: pb.StopExperimentRequest, context: Context) -> pb.StopExperimentResponse:
        """Ends one."""
        require_clean(request)
        found = await self._in_time(context, self._stopped(request))
        return pb.StopExperimentResponse(experiment=experiment_of(found))

    async def DecideExperimentReport(
        self, request: pb.DecideExperimentReportRequest, context: Context
    ) -> pb.DecideExperimentReportResponse:
        """Keeps what a person makes of a report."""
        require_clean(request)
        return pb.DecideExperimentReportResponse(report=await self._in_time(context, self._decided(request)))

    async def _started(self, request: pb.StartExperimentRequest) -> Experiment:
        kind, variant, overrides = variant_of(request.variant)
        asked, now, experiment_id = plan_of(request), await self._experiments.now(), new_id()
        plan = asked.model_copy(update={"salt": asked.salt or experiment_id})
        experiment = Experiment(
            experiment_id=experiment_id,
            name=request.name,
            kind=kind,
            variant=variant,
            overrides=overrides,
            plan=plan,
            started_at=now,
            started_by=_actor().name,
        )
        event = Event(
            experiment_id=experiment_id,
            version=experiment.version,
            at=now,
            actor=_actor(),
            trigger=Trigger.START,
            reason=request.reason or NO_REASON,
        )
        known = [request.name, kind.value, variant, overrides, asked.model_dump(mode="json")]
        fingerprint = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).digest()
        step = Step(experiment, event)
        return await self._experiments.create(step, request_id=request.request_id, fingerprint=fingerprint)

    async def _one(self, experiment_id: str) -> pb.GetExperimentResponse:
        experiment = await self._experiments.get(experiment_id)
        looked = await self._experiments.looked(experiment_id)
        return pb.GetExperimentResponse(
            experiment=experiment_of(experiment),
            look=look_of(looked) if looked else None,
            events=map(event_of, await self._experiments.events(experiment_id, NEWEST)),
            safety_reports=map(_shown, await self._reports.newest(experiment, NEWEST)),
        )

    async def _listed(self, request: pb.ListExperimentsRequest) -> pb.ListExperimentsResponse:
        size = min(request.page_size or PAGE_SIZE, MOST_EXPERIMENTS)
        scope = f"experiments:{request.kind}:{request.active_only}"
        before = place_of(request.page_token, scope) if request.page_token else ""
        kind = ASKED_KINDS.get(request.kind)
        found = await self._experiments.page(size=size + 1, before=before, kind=kind, active_only=request.active_only)
        return pb.ListExperimentsResponse(
            experiments=map(experiment_of, found[:size]),
            next_page_token=token_of(found[size - 1].experiment_id, scope) if len(found) > size else "",
        )

    async def _stopped(self, request: pb.StopExperimentRequest) -> Experiment:
        """Stopping needs nobody's evidence; what was seen last is kept with it."""
        for attempt in range(ATTEMPTS):
            experiment = await self._experiments.get(request.experiment_id)
            if experiment.state is State.STOPPED:
                return experiment
            evidence = _read(await self._experiments.looked(request.experiment_id))
            now = await self._experiments.now()
            step = decision.stop(experiment, _actor(), request.reason, evidence, now)
            try:
                await self._experiments.apply(step)
            except Conflict:
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                return step.experiment
        raise AssertionError("unreachable")

    async def _decided(self, request: pb.DecideExperimentReportRequest) -> rollout_pb2.RolloutSafetyReport:
        experiment = await self._experiments.get(request.experiment_id)
        tenant, feedback_id = request.tenant_id or caller().tenant_id, UUID(request.feedback_id)
        await self._experiments.decide_report(
            experiment.experiment_id,
            tenant,
            feedback_id,
            confirmed=request.confirmed,
            by=_actor().name,
            note=request.note,
        )
        return _shown(await self._reports.one(experiment, tenant, feedback_id))

    async def _in_time(self, context: Context, work: Coroutine[Any, Any, T]) -> T:
        """Ends what takes longer than the call's deadline, or than calls may take."""
        remaining, defaults = context.time_remaining(), self._defaults
        seconds = min(defaults.deadline_seconds if remaining is None else remaining, defaults.max_seconds)
        try:
            return await within(seconds, work)
        except TimeoutError as error:
            raise DeadlineExceeded("The store of experiments did not answer in time.") from error


def _read(looked: Looked | None) -> Evidence | None:
    """What was seen last; None also where only a newer version can read it, for nothing rests on it."""
    try:
        return documents.evidence(looked.evidence) if looked else None
    except (KeyError, ValueError) as error:
        log.warning("what was seen of an experiment can't be read: %s", told(error))
        return None


def _actor() -> Actor:
    return Actor(caller().name or ANYONE, is_person=True)


def _shown(report: SafetyReport) -> rollout_pb2.RolloutSafetyReport:
    """Experiments belong to all tenants, what users wrote to their own, and keys of one user see none of it."""
    who = caller()
    return report_of(report, readable=report.tenant_id == who.tenant_id and not who.user_id)
