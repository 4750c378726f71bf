"""A page whose every fault is kept: what its console says, what it throws, where it asks for something."""

import ipaddress
from urllib.parse import urlsplit

from playwright.async_api import BrowserContext, ConsoleMessage, Page, Request, WebError

OF_THE_BROWSER = ("Failed to load resource: net::ERR_CONNECTION_REFUSED", "WebSocket connection to")
"""What Chromium itself writes while a server is away. Whoever takes one away says so by `Watch.away`."""

POLLING = 50
"""Milliseconds between two looks."""
FRAMES = 2000
"""Milliseconds that two frames may take."""
_TWO_FRAMES = """limit => new Promise(done => {
  setTimeout(done, limit);
  requestAnimationFrame(() => requestAnimationFrame(() => done()));
})"""


class Watch:
    """Collects the faults of all pages of a context. `away`: the console's process is stopped by the test itself."""

    def __init__(self, context: BrowserContext) -> None:
        self.faults: list[str] = []
        self.away = False
        context.on("console", self._said)
        context.on("weberror", self._threw)
        context.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type != "error" or (self.away and message.text.startswith(OF_THE_BROWSER)):
            return
        self.faults.append(f"console error: {message.text} ({message.location.get('url', '')})")

    def _threw(self, error: WebError) -> None:
        self.faults.append(f"page error: {error.error}")

    def _asked(self, request: Request) -> None:
        if not is_here(request.url):
            self.faults.append(f"left this machine: {request.url}")


def is_here(url: str) -> bool:
    """Whether a URL names this machine, or nothing outside the page."""
    parts = urlsplit(url)
    if parts.scheme in ("data", "blob", "about"):
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname == "localhost"


async def settled(page: Page) -> None:
    """Waits until the page is drawn: its socket is there, its fonts are loaded, two frames were shown.

    A headless Chromium now and then shows no frame until something is asked of it, a picture for instance, so for
    frames nobody waits long; for what is waited for by polling there is Playwright's own time limit.
    """
    await page.wait_for_function("() => window.socket === undefined || window.socket.connected", polling=POLLING)
    await page.wait_for_function("() => document.fonts.status === 'loaded'", polling=POLLING)
    await page.evaluate(_TWO_FRAMES, FRAMES)
