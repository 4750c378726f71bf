"""The alerts that fire now, as a page's visitor may see them: watched once, for its badge and for what it shows."""

from collections.abc import AsyncIterator, Callable
from weakref import WeakKeyDictionary

from nicegui import Client, ui

from console import client, shell
from console.following import Following
from ratchet.v1 import alert_pb2 as pb


class Firing:
    """`alerts`: those that fire, by id. `known`: whether they ever were. `trouble`: why they are not known now."""

    def __init__(self) -> None:
        self.alerts: dict[str, pb.Alert] = {}
        self.known = False
        self.trouble: client.Trouble | None = None
        self._told: list[Callable[[], None]] = []
        self._initial: dict[str, pb.Alert] = {}
        self._following = Following(self._watch, self._take, self._fault)
        shell.when_ready(self._following.start)

    def on_change(self, told: Callable[[], None]) -> None:
        """Calls `told` after each change, and now when something is known already."""
        self._told.append(told)
        if self.known or self.trouble:
            told()

    def take(self, alert: pb.Alert) -> None:
        """Notes a change that was heard of otherwise."""
        self._change(alert)
        self._tell()

    def again(self) -> None:
        """Begins anew at once."""
        self._following.start()

    def _watch(self) -> AsyncIterator[pb.WatchAlertsResponse]:
        self._initial = {}
        api = client.api()
        return api.watch(api.alerts.WatchAlerts, pb.WatchAlertsRequest())

    def _take(self, message: pb.WatchAlertsResponse) -> None:
        """The present state takes the place of what was known once it is complete; then come changes."""
        if message.initial and message.HasField("alert"):
            self._initial[message.alert.alert_id] = message.alert
            return
        if message.HasField("alert"):
            self._change(message.alert)
        else:
            self.alerts, self.known = self._initial, True
        self.trouble = None
        self._tell()

    def _change(self, alert: pb.Alert) -> None:
        if alert.state == pb.ALERT_STATE_FIRING:
            self.alerts[alert.alert_id] = alert
        else:
            self.alerts.pop(alert.alert_id, None)

    def _fault(self, trouble: client.Trouble) -> None:
        self.trouble = trouble
        self._tell()

    def _tell(self) -> None:
        for told in self._told:
            told()


_pages: WeakKeyDictionary[Client, Firing] = WeakKeyDictionary()


def here() -> Firing:
    """Those of the page that is being built or handled."""
    page = ui.context.client
    if page not in _pages:
        _pages[page] = Firing()
    return _pages[page]
