"""One browser and one server for all browser tests. Where no browser is, they skip."""

import shutil
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, ViewportSize, async_playwright, expect

from tests.browser import chromium
from tests.browser.consoles import Console, console, wait_for
from tests.browser.planted import Planted
from tests.browser.watched import Watch
from tests.conftest import new_home
from tests.e2e.serving import Serving, serving, what_was_said

DESKTOP, PHONE = ViewportSize(width=1280, height=800), ViewportSize(width=390, height=844)
FAILURES = Path(__file__).parents[2] / ".cache" / "screenshots" / "failures"
PATIENCE = 30_000
"""Milliseconds that a page gets for anything: machines are shared."""
expect.set_options(timeout=PATIENCE)
_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[_failed] = report.failed
    if report.failed:
        report.sections += what_was_said()
    return report


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """A Chromium with a profile of its own. Skips what asks for it where there is none."""
    path = chromium.found()
    if path is None:
        pytest.skip(chromium.MISSING)
    async with async_playwright() as playwright:
        found = await playwright.chromium.launch(executable_path=path, args=list(chromium.ARGUMENTS))
        yield found
        await found.close()


@pytest.fixture(scope="session")
def ratchet(browser: Browser) -> Iterator[Serving]:
    """The whole Ratchet with its starter models, shared by all browser tests, and its console."""
    home = new_home()
    with serving(home, "--console=127.0.0.1:0") as found:
        assert found.started["sample"]["response"]
        wait_for(found.events[-1]["console"])
        yield found
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def address(ratchet: Serving) -> str:
    return str(ratchet.events[-1]["serving"])


@pytest.fixture(scope="session")
def url(ratchet: Serving) -> str:
    """Where the pages of the console of `ratchet` are, without a path."""
    return str(ratchet.events[-1]["console"]).rstrip("/")


@pytest.fixture(scope="session")
async def planted(browser: Browser) -> AsyncIterator[Planted]:
    """A server whose figures and alerts the test makes up."""
    found = Planted()
    await found.start()
    yield found
    await found.stop()


@pytest.fixture(scope="session")
def planted_console(planted: Planted) -> Iterator[Console]:
    """The console of `planted`."""
    home = new_home()
    with console(planted.address, home) as found:
        yield found
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """What one visitor's browser keeps: nothing yet."""
    async with await browser.new_context(viewport=DESKTOP, locale="en-US", reduced_motion="reduce") as found:
        found.set_default_timeout(PATIENCE)
        yield found


@pytest.fixture
async def watch(context: BrowserContext) -> Watch:
    """The faults of the pages of this test. There must be none in the end."""
    # Playwright asks for the running loop when it is told what to listen for: no place for a fixture without one.
    return Watch(context)


@pytest.fixture
async def page(context: BrowserContext, watch: Watch, request: pytest.FixtureRequest) -> AsyncIterator[Page]:
    """A page of a new visitor. Leaves a screenshot when the test fails, and fails it for what the page did wrong."""
    found = await context.new_page()
    yield found
    if request.node.stash.get(_failed, False):
        FAILURES.mkdir(parents=True, exist_ok=True)
        picture = FAILURES / f"{request.node.name}.png"
        await found.screenshot(path=picture)
        print(f"the page as it was: {picture}")
    assert watch.faults == []
