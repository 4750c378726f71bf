"""ratchet.v1.RolloutService. The leader moves rollouts on evidence; here people order, and all is shown."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar
from uuid import UUID

from ratchet.v1 import rollout_pb2 as pb
from ratchet.v1 import rollout_pb2_grpc
from server.errors import DeadlineExceeded, Draining, InvalidRequest, Violation
from server.identity import caller
from server.patience import within
from server.rollout import documents
from server.rollout.commands import Command
from server.rollout.orders import Order, Orders
from server.rollout.registry import Looked
from server.rollout.reports import SafetyReport, SafetyReports
from server.rollout.store import Rollouts
from server.rollout.types import Actor, Rollout, Trigger
from server.rpc.documents import place_of, token_of
from server.rpc.messages import Defaults
from server.rpc.plan_messages import plan_of
from server.rpc.release_messages import ASKED_KINDS
from server.rpc.releases import serving_of
from server.rpc.rollout_messages import fitting, look_of, report_of, rollout_of
from server.rpc.validation import require_clean

Context = Any
"""grpc.aio.ServicerContext, whose stubs are generic and whose class is not."""
T = TypeVar("T")

PAGE_SIZE, MOST_ROLLOUTS = 50, 200
NEWEST = 100
"""Entries of the audit, and safety reports, that come with a rollout."""
LOOK_EVERY = 1.0
"""Seconds between two looks at a rollout, of each who watches."""
ANYONE = "anyone"
"""Who acts where nobody is asked for a key."""


class RolloutService(rollout_pb2_grpc.RolloutServiceServicer):
    """See protos/ratchet/v1/rollout.proto. `draining` tells when the server stops."""

    def __init__(
        self,
        rollouts: Rollouts,
        reports: SafetyReports,
        defaults: Defaults,
        draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self._rollouts, self._reports, self._defaults, self._draining = rollouts, reports, defaults, draining
        self._orders = Orders(rollouts, reports, defaults.max_seconds)

    async def StartRollout(self, request: pb.StartRolloutRequest, context: Context) -> pb.StartRolloutResponse:
        """Drafts and starts a rollout, or starts a draft."""
        require_clean(request)
        rollout = await self._in_time(context, self._told(self._started(request)))
        return pb.StartRolloutResponse(rollout=rollout)

    async def GetRollout(self, request: pb.GetRolloutRequest, context: Context) -> pb.GetRolloutResponse:
        """One rollout, all of it."""
        require_clean(request)
        return await self._in_time(context, self._one(request.rollout_id))

    async def ListRollouts(self, request: pb.ListRolloutsRequest, context: Context) -> pb.ListRolloutsResponse:
        """A page of rollouts."""
        require_clean(request)
        return await self._in_time(context, self._listed(request))

    async def WatchRollout(
        self, request: pb.WatchRolloutRequest, context: Context
    ) -> AsyncIterator[pb.WatchRolloutResponse]:
        """The present state, then changes and looks, until it ends."""
        require_clean(request)
        seen: Rollout | None = None
        looked: Looked | None = None
        while seen is None or not seen.state.is_final:
            if self._draining():
                raise Draining("This server is stopping; watch another one.")
            if seen is not None:
                await asyncio.sleep(LOOK_EVERY)
            rollout = await self._rollouts.get(request.rollout_id)
            look = None if rollout.state.is_final else await self._rollouts.looked(request.rollout_id)
            if seen is None or rollout.version != seen.version or (look and (look.version, look.at) != _place(looked)):
                yield await self._seen(rollout, look, after=seen.version if seen else 0)
            seen, looked = rollout, look

    async def PauseRollout(self, request: pb.PauseRolloutRequest, context: Context) -> pb.PauseRolloutResponse:
        """Pauses a rollout."""
        return pb.PauseRolloutResponse(rollout=await self._obeyed(Trigger.PAUSE, request, context))

    async def ResumeRollout(self, request: pb.ResumeRolloutRequest, context: Context) -> pb.ResumeRolloutResponse:
        """Ends its pauses."""
        return pb.ResumeRolloutResponse(rollout=await self._obeyed(Trigger.RESUME, request, context))

    async def PromoteRollout(self, request: pb.PromoteRolloutRequest, context: Context) -> pb.PromoteRolloutResponse:
        """Goes on to the next stage."""
        return pb.PromoteRolloutResponse(rollout=await self._obeyed(Trigger.PROMOTE, request, context))

    async def RollBackRollout(self, request: pb.RollBackRolloutRequest, context: Context) -> pb.RollBackRolloutResponse:
        """Gives all traffic back to the champion."""
        return pb.RollBackRolloutResponse(rollout=await self._obeyed(Trigger.ROLL_BACK, request, context))

    async def ListRolloutEvents(
        self, request: pb.ListRolloutEventsRequest, context: Context
    ) -> pb.ListRolloutEventsResponse:
        """A page of a rollout's audit."""
        require_clean(request)
        return await self._in_time(context, self._audit(request))

    async def DecideSafetyReport(
        self, request: pb.DecideSafetyReportRequest, context: Context
    ) -> pb.DecideSafetyReportResponse:
        """Keeps what a person makes of a report."""
        require_clean(request)
        return pb.DecideSafetyReportResponse(report=await self._in_time(context, self._decided(request)))

    async def _started(self, request: pb.StartRolloutRequest) -> Rollout:
        if request.rollout_id:
            if request.release or request.draft or request.HasField("plan"):
                raise InvalidRequest([Violation("rollout_id", "a draft is started as it is: name nothing else")])
            return await self._orders.start_draft(request.rollout_id, _actor(), request.reason)
        if not request.release:
            raise InvalidRequest([Violation("release", "is required without rollout_id")])
        return await self._orders.start(_order(request))

    async def _obeyed(self, trigger: Trigger, request: Any, context: Context) -> pb.Rollout:
        require_clean(request)
        command = Command(trigger, _actor(), request.reason, request.version or None)
        return await self._in_time(context, self._told(self._orders.obey(request.rollout_id, command)))

    async def _one(self, rollout_id: str) -> pb.GetRolloutResponse:
        rollout = await self._rollouts.get(rollout_id)
        looked = None if rollout.state.is_final else await self._rollouts.looked(rollout_id)
        (message,) = await self._messages([rollout])
        return pb.GetRolloutResponse(
            rollout=message,
            look=look_of(looked) if looked else None,
            events=fitting(await self._rollouts.events(rollout_id, size=NEWEST, before=0)),
            safety_reports=map(_shown, await self._reports.newest(rollout, NEWEST)),
        )

    async def _listed(self, request: pb.ListRolloutsRequest) -> pb.ListRolloutsResponse:
        size = min(request.page_size or PAGE_SIZE, MOST_ROLLOUTS)
        scope = f"rollouts:{request.kind}:{request.active_only}"
        before = place_of(request.page_token, scope) if request.page_token else ""
        kind = ASKED_KINDS.get(request.kind)
        found = await self._rollouts.page(size=size + 1, before=before, kind=kind, active_only=request.active_only)
        return pb.ListRolloutsResponse(
            rollouts=await self._messages(found[:size]),
            next_page_token=token_of(found[size - 1].rollout_id, scope) if len(found) > size else "",
        )

    async def _seen(self, rollout: Rollout, looked: Looked | None, *, after: int) -> pb.WatchRolloutResponse:
        """`after`: the version that was told last, 0 for the first message."""
        size = min(rollout.version - after, NEWEST)
        events = await self._rollouts.events(rollout.rollout_id, size=size, before=rollout.version + 1) if size else []
        (message,) = await self._messages([rollout])
        return pb.WatchRolloutResponse(
            rollout=message, look=look_of(looked) if looked else None, events=reversed(fitting(events))
        )

    async def _audit(self, request: pb.ListRolloutEventsRequest) -> pb.ListRolloutEventsResponse:
        size = min(request.page_size or PAGE_SIZE, MOST_ROLLOUTS)
        scope = f"events:{request.rollout_id}"
        before = _version(place_of(request.page_token, scope)) if request.page_token else 0
        await self._rollouts.get(request.rollout_id)
        found = fitting(await self._rollouts.events(request.rollout_id, size=size, before=before))
        more = bool(found) and found[-1].version > 1
        token = token_of(str(found[-1].version), scope) if more else ""
        return pb.ListRolloutEventsResponse(events=found, next_page_token=token)

    async def _decided(self, request: pb.DecideSafetyReportRequest) -> pb.RolloutSafetyReport:
        rollout = await self._rollouts.get(request.rollout_id)
        tenant, feedback_id = request.tenant_id or caller().tenant_id, UUID(request.feedback_id)
        await self._rollouts.decide_report(
            rollout.rollout_id,
            tenant,
            feedback_id,
            confirmed=request.confirmed,
            by=_actor().name,
            note=request.note,
        )
        return _shown(await self._reports.one(rollout, tenant, feedback_id))

    async def _told(self, work: Coroutine[Any, Any, Rollout]) -> pb.Rollout:
        (message,) = await self._messages([await work])
        return message

    async def _messages(self, rollouts: Sequence[Rollout]) -> list[pb.Rollout]:
        serving, now = await serving_of(self._rollouts), await self._rollouts.now()
        made = await self._rollouts.created([each.rollout_id for each in rollouts])
        return [rollout_of(each, now, made.get(each.rollout_id), serving) for each in rollouts]

    async def _in_time(self, context: Context, work: Coroutine[Any, Any, T]) -> T:
        """Ends what takes longer than the call's deadline, or than calls may take."""
        remaining, defaults = context.time_remaining(), self._defaults
        seconds = min(defaults.deadline_seconds if remaining is None else remaining, defaults.max_seconds)
        try:
            return await within(seconds, work)
        except TimeoutError as error:
            raise DeadlineExceeded("The store of rollouts did not answer in time.") from error


def _actor() -> Actor:
    return Actor(caller().name or ANYONE, is_person=True)


def _order(request: pb.StartRolloutRequest) -> Order:
    """What a valid request asks for. Raises InvalidRequest for a plan that can't be."""
    plan = plan_of(request.plan)
    asked = [request.release, documents.of_plan(plan), request.draft]
    return Order(
        release=request.release,
        plan=plan,
        actor=_actor(),
        reason=request.reason,
        draft=request.draft,
        request_id=request.request_id,
        fingerprint=hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).digest(),
    )


def _shown(report: SafetyReport) -> pb.RolloutSafetyReport:
    """Rollouts belong to all tenants, what users wrote to their own, and keys of one user see none of it."""
    who = caller()
    return report_of(report, readable=report.tenant_id == who.tenant_id and not who.user_id)


def _place(looked: Looked | None) -> object:
    return (looked.version, looked.at) if looked else None


def _version(text: str) -> int:
    """Raises InvalidRequest."""
    try:
        return max(1, int(text))
    except ValueError as error:
        raise InvalidRequest([Violation("page_token", "is not one that this listing gave")]) from error
