"""Postgres, Valkey and Triton as one thing: started side by side, supervised, stopped together.

Each is left out when its URL is given. It does not migrate the database, load models or look after external servers.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType

from server.embedded import machine, orphans, status
from server.embedded.child import Child, ChildStatus, Service
from server.embedded.errors import require_space
from server.embedded.guard import Guard
from server.embedded.layout import Layout
from server.embedded.lock import HomeLock
from server.embedded.postgres import Postgres
from server.embedded.settings import EmbeddedSettings, Endpoints
from server.embedded.triton import Triton
from server.embedded.valkey import Valkey
from server.redaction import redact

log = logging.getLogger(__name__)


class Stack:
    """`on_event` gets one line for people at each change; `on_restart` gets a part's name once it is back: a Triton
    that came back has no models. `start` and `stop` belong to the same, long-lived thread: the kernel ties the
    children to it.
    """

    def __init__(
        self,
        settings: EmbeddedSettings,
        *,
        on_event: Callable[[str], None] | None = None,
        on_restart: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._settings = settings
        self._on_event, self._on_restart = on_event, on_restart
        self._layout = Layout.of(settings.home)
        self._lock: HomeLock | None = None
        self._address = ""
        self._writing = asyncio.Lock()
        self._guard = Guard(self._layout)
        self._postgres = None if settings.database_url else Postgres(self._layout)
        self._valkey = None if settings.redis_url else Valkey(self._layout)
        wanted = settings.triton and not settings.triton_url
        self._triton = Triton(self._layout, settings.triton_env) if wanted else None
        services = (self._postgres, self._valkey, self._triton)
        self._children = [self._child(service) for service in services if service is not None]

    async def start(self) -> Endpoints:
        """Raises an EmbeddedError, one sentence; nothing is left running then."""
        try:
            if self._children or not self._settings.triton_url:  # the model repository is in the home
                await asyncio.to_thread(self._take_home)
            if self._children:
                await self._guard.start()
            async with asyncio.TaskGroup() as starting:
                for child in self._children:
                    starting.create_task(child.start(self._settings.start_timeout))
        except BaseExceptionGroup as failures:
            await self.stop()
            raise _first(failures) from None
        except BaseException:
            await self.stop()
            raise
        return self._endpoints()

    async def stop(self) -> None:
        """Ends all parts together (none needs another to end) and gives the home back. Harmless when nothing runs."""
        await asyncio.gather(*(child.stop() for child in self._children))
        await self._guard.stop()
        if self._lock is not None:
            await asyncio.to_thread(self._layout.status.unlink, missing_ok=True)
            await asyncio.to_thread(self._layout.clear)
            self._lock.release()
            self._lock = None

    def status(self) -> list[ChildStatus]:
        """One line a part, the external ones last, without passwords."""
        urls = {
            "postgres": self._settings.database_url,
            "valkey": self._settings.redis_url,
            "triton": self._settings.triton_url,
        }
        external = [ChildStatus(name, "external", redact(url)) for name, url in urls.items() if url]
        return [*(child.status() for child in self._children), *external]

    async def listening(self, address: str) -> None:
        """Writes down where the server listens, for who looks into the home; where there is one."""
        self._address = address
        if self._lock is not None:
            await self._write_status()

    async def __aenter__(self) -> Endpoints:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _child(self, service: Service) -> Child:
        log = self._layout.logs / f"{service.name}.log"
        return Child(service, log, self._guard, self._changed, self._restarted)

    def _take_home(self) -> None:
        if self._children:
            machine.require_supported()
        self._layout.make()
        self._lock = HomeLock(self._layout.lock)
        require_space(self._layout.home)
        orphans.end(self._layout)

    def _endpoints(self) -> Endpoints:
        settings, triton = self._settings, self._triton
        return Endpoints(
            database_url=self._postgres.url if self._postgres else settings.database_url or "",
            redis_url=self._valkey.url if self._valkey else settings.redis_url or "",
            triton_url=triton.address if triton else settings.triton_url or "",
            triton_http_url=triton.http_address if triton else None,
            model_repository=None if settings.triton_url else self._layout.models,
        )

    async def _changed(self, what: str) -> None:
        """Tells the world; a full disk or a reader that left must not end the supervision that calls this."""
        await self._write_status()
        self._tell(what)

    async def _write_status(self) -> None:
        try:
            async with self._writing:  # the parts start side by side and share the file
                await asyncio.to_thread(status.write, self._layout, self.status(), self._address)
        except OSError as error:
            log.warning("the state of the parts could not be written: %s", error)

    def _tell(self, what: str) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(what)
        except OSError as error:
            log.warning("nobody could be told that %s: %s", what, error)

    async def _restarted(self, name: str) -> None:
        if self._on_restart is None:
            return
        try:
            await self._on_restart(name)
        except Exception as error:  # the part itself is back; its supervision must go on
            self._tell(f"{name} is back, but what followed failed: {error}")


def _first(failures: BaseExceptionGroup) -> BaseException:
    """The first failure itself: the others were cancelled because of it, or say no more."""
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
