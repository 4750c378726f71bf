"""A server of figures, alerts, training runs and rollouts that a test makes up: pages show what they must, to the last
digit."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from ratchet.v1 import (
    alert_pb2,
    alert_pb2_grpc,
    analytics_pb2,
    analytics_pb2_grpc,
    experiment_pb2_grpc,
    release_pb2_grpc,
    rollout_pb2_grpc,
    training_pb2_grpc,
)
from tests.browser.planted_rollouts import PlantedExperiments, PlantedReleases, PlantedRollouts
from tests.browser.planted_training import PlantedTraining

FIRING, RESOLVED = alert_pb2.ALERT_STATE_FIRING, alert_pb2.ALERT_STATE_RESOLVED


class PlantedAnalytics(analytics_pb2_grpc.AnalyticsServiceServicer):
    """Answers with `figures` of the window that is asked for, and pushes them when they are planted anew."""

    def __init__(self) -> None:
        self.figures: Mapping[float, analytics_pb2.GetMetricsResponse] = {}
        self.asked: list[analytics_pb2.WatchMetricsRequest] = []
        self._changed = asyncio.Condition()

    async def plant(self, figures: Mapping[float, analytics_pb2.GetMetricsResponse]) -> None:
        """`figures`: by length of the window in seconds."""
        async with self._changed:
            self.figures = figures
            self._changed.notify_all()

    async def WatchMetrics(
        self, request: analytics_pb2.WatchMetricsRequest, context: object
    ) -> AsyncIterator[analytics_pb2.WatchMetricsResponse]:
        self.asked.append(request)
        while True:
            yield analytics_pb2.WatchMetricsResponse(metrics=self._of(request.window.ToTimedelta().total_seconds()))
            async with self._changed:
                await self._changed.wait()

    async def GetMetrics(
        self, request: analytics_pb2.GetMetricsRequest, context: object
    ) -> analytics_pb2.GetMetricsResponse:
        return self._of(request.window.ToTimedelta().total_seconds())

    async def RebuildMetrics(
        self, request: analytics_pb2.RebuildMetricsRequest, context: object
    ) -> analytics_pb2.RebuildMetricsResponse:
        return analytics_pb2.RebuildMetricsResponse()

    def _of(self, seconds: float) -> analytics_pb2.GetMetricsResponse:
        return self.figures.get(seconds, analytics_pb2.GetMetricsResponse())


class PlantedAlerts(alert_pb2_grpc.AlertServiceServicer):
    """Keeps alerts as the real service does: each is told to all who watch, whenever it changes."""

    def __init__(self) -> None:
        self.alerts: dict[str, alert_pb2.Alert] = {}
        self.rules: list[alert_pb2.AlertRule] = []
        self._watchers: set[asyncio.Queue[alert_pb2.Alert]] = set()

    def plant(self, alert: alert_pb2.Alert) -> str:
        """Fires, changes or resolves one. Gives its id."""
        kept = alert_pb2.Alert()
        kept.CopyFrom(alert)
        kept.alert_id = kept.alert_id or str(uuid.uuid4())
        self.alerts[kept.alert_id] = kept
        for watcher in self._watchers:
            watcher.put_nowait(kept)
        return kept.alert_id

    async def WatchAlerts(
        self, request: alert_pb2.WatchAlertsRequest, context: object
    ) -> AsyncIterator[alert_pb2.WatchAlertsResponse]:
        watcher: asyncio.Queue[alert_pb2.Alert] = asyncio.Queue()
        self._watchers.add(watcher)
        try:
            for alert in self._sorted():
                if alert.state == FIRING:
                    yield alert_pb2.WatchAlertsResponse(alert=alert, initial=True)
            yield alert_pb2.WatchAlertsResponse(initial=True)
            while True:
                yield alert_pb2.WatchAlertsResponse(alert=await watcher.get())
        finally:
            self._watchers.discard(watcher)

    async def ListAlerts(self, request: alert_pb2.ListAlertsRequest, context: object) -> alert_pb2.ListAlertsResponse:
        wanted = [alert for alert in self._sorted() if request.state in (0, alert.state)]
        return alert_pb2.ListAlertsResponse(alerts=wanted)

    async def AcknowledgeAlert(
        self, request: alert_pb2.AcknowledgeAlertRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> alert_pb2.AcknowledgeAlertResponse:
        alert = self.alerts.get(request.alert_id)
        if alert is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such alert")
        assert alert is not None
        alert.acknowledge_time.GetCurrentTime()
        alert.acknowledged_by, alert.note = request.actor, request.note
        self.plant(alert)
        return alert_pb2.AcknowledgeAlertResponse(alert=alert)

    async def ListAlertRules(
        self, request: alert_pb2.ListAlertRulesRequest, context: object
    ) -> alert_pb2.ListAlertRulesResponse:
        return alert_pb2.ListAlertRulesResponse(rules=self.rules)

    def _sorted(self) -> list[alert_pb2.Alert]:
        return sorted(self.alerts.values(), key=lambda alert: (alert.state, -alert.fire_time.ToNanoseconds()))


class Planted:
    """All of these services on one port, which stays the same when it is stopped and started again."""

    def __init__(self) -> None:
        self.analytics, self.alerts, self.training = PlantedAnalytics(), PlantedAlerts(), PlantedTraining()
        self.releases, self.rollouts, self.experiments = PlantedReleases(), PlantedRollouts(), PlantedExperiments()
        self.port = 0
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 1)])
        analytics_pb2_grpc.add_AnalyticsServiceServicer_to_server(self.analytics, server)
        alert_pb2_grpc.add_AlertServiceServicer_to_server(self.alerts, server)
        training_pb2_grpc.add_TrainingServiceServicer_to_server(self.training, server)
        release_pb2_grpc.add_ReleaseServiceServicer_to_server(self.releases, server)
        rollout_pb2_grpc.add_RolloutServiceServicer_to_server(self.rollouts, server)
        experiment_pb2_grpc.add_ExperimentServiceServicer_to_server(self.experiments, server)
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        self._server = server

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
        self._server = None


def stamp(seconds: float) -> Timestamp:
    """A moment, in seconds since 1970."""
    found = Timestamp()
    found.FromMicroseconds(int(seconds * 1e6))
    return found
