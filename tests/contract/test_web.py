"""The web tool over real connections, to servers on this machine: hostile ones, too.

Loopback is refused, so tests that are to reach a server are given a reach that permits it: nothing else does that.
"""

import asyncio
import contextlib
import gzip
import json
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from server.tools import web_names
from server.tools.tool import ToolFailed, ToolRefused
from server.tools.web import WebTool, open_web
from server.tools.web_fetch import Fetcher
from server.tools.web_names import Names as SystemNames
from server.tools.web_page import Page
from server.tools.web_reach import Reach, is_public
from server.tools.web_reader import Reader
from server.tools.web_search import Search
from server.types import Evidence
from tests.tools import a_question

ARTICLE = (
    "<html><head><title>Ridge Shop</title></head><body><article><p>The warranty of every product lasts 24 months.</p>"
    "<p>Tất cả sản phẩm được bảo hành 24 tháng.</p></article></body></html>"
)
MOST = 64 << 10
SECONDS = 5.0
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Names(AbstractResolver):
    """Resolves `name` to each list of addresses in turn, the last for ever."""

    def __init__(self, **names: list[list[str]]) -> None:
        self.names = {name.replace("_", "."): answers for name, answers in names.items()}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answers = self.names[host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in found
        ]

    async def close(self) -> None:
        pass


@dataclass
class Site:
    """A server on loopback; `pages` by path. `port` is where it listens, `seen` what was asked of it."""

    port: int = 0
    pages: dict[str, Handler | web.Response] = field(default_factory=dict)
    seen: list[web.BaseRequest] = field(default_factory=list)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(request)
        page = self.pages.get(request.path, web.Response(status=404))
        return page if isinstance(page, web.Response) else await page(request)

    def at(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    found = Site()
    runner = web.ServerRunner(web.Server(found.answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


@contextlib.asynccontextmanager
async def a_listener() -> AsyncIterator[tuple[int, list[str]]]:
    """A port, and the connections that it has seen."""
    seen: list[str] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(str(writer.get_extra_info("peername")))
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], seen


def here(*ports: int) -> Reach:
    """A reach that permits 127.0.0.1 and what is public, at `ports`."""
    return Reach(frozenset(ports), lambda address: address == IPv4Address("127.0.0.1") or is_public(address))


@contextlib.asynccontextmanager
async def fetching(reach: Reach, resolver: AbstractResolver | None = None, most: int = MOST) -> AsyncIterator[Fetcher]:
    fetcher = Fetcher(reach, most, resolver)
    try:
        yield fetcher
    finally:
        await fetcher.close()


async def fetched(site: Site, path: str = "/", *, seconds: float = SECONDS) -> Page:
    async with fetching(here(site.port)) as fetcher:
        return await fetcher.fetch(site.at(path), seconds)


def html(text: str = ARTICLE, **headers: str) -> web.Response:
    return web.Response(text=text, content_type="text/html", headers=headers)


def moved(location: str, status: int = 302) -> web.Response:
    return web.Response(status=status, headers={"Location": location})


# Names


async def test_slow_names_hold_up_nobody_else_and_too_many_are_turned_away() -> None:
    """Who left still holds a place, as its lookup goes on; each that ends frees one."""
    slow, begun = threading.Event(), threading.Semaphore(0)

    def lookup(host: str, port: int, *how: int) -> list[Any]:
        begun.release()
        slow.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", port))]

    names = SystemNames(lookup)
    waiting = [asyncio.create_task(names.resolve(f"{number}.example", 443)) for number in range(web_names.WAITING)]
    for _ in range(web_names.THREADS):
        while not begun.acquire(blocking=False):
            await asyncio.sleep(0.001)
    waiting[0].cancel()
    await asyncio.gather(*(asyncio.to_thread(int) for _ in range(64)))  # the loop's own threads are free
    with pytest.raises(ToolFailed, match="Too many names"):
        await names.resolve("more.example", 443)
    slow.set()
    results = await asyncio.gather(*waiting[1:])
    assert {(each["host"], each["port"]) for (each,) in results} == {("93.184.215.14", 443)}
    assert await names.resolve("more.example", 443)
    await names.close()


async def test_a_name_is_found_as_the_system_does() -> None:
    names = SystemNames()
    assert {each["host"] for each in await names.resolve("localhost", 80)} <= {"127.0.0.1", "::1"}
    with pytest.raises(socket.gaierror):
        await names.resolve("no-such-host.invalid", 80)
    await names.close()


# Where it goes


async def test_what_is_on_this_machine_is_refused_and_not_connected_to() -> None:
    async with a_listener() as (port, seen):
        names = Names(inside_example=[["127.0.0.1"]], mixed_example=[["93.184.215.14", "127.0.0.1"]])
        names.names["localhost"] = [["127.0.0.1"]]
        async with fetching(Reach(frozenset({port})), names) as fetcher:
            for host in (
                "localhost",
                "127.0.0.1",
                "inside.example",
                "mixed.example",
                "2130706433",
                "[::ffff:127.0.0.1]",
            ):
                with pytest.raises(ToolRefused):
                    await fetcher.fetch(f"http://{host}:{port}/", SECONDS)
        async with fetching(Reach(frozenset({port}))) as fetcher:
            with pytest.raises(ToolRefused, match="localhost is"):
                await fetcher.fetch(f"http://localhost:{port}/", SECONDS)
        assert seen == []
        async with fetching(here(port)) as fetcher:
            with pytest.raises(ToolFailed):
                await fetcher.fetch(f"http://127.0.0.1:{port}/", SECONDS)
        assert seen, "the listener sees who connects"


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/", "http://inside.example:{port}/", "http://localhost/", "file:///etc/passwd"]
)
async def test_a_redirect_to_what_is_refused_is_refused(site: Site, target: str) -> None:
    async with a_listener() as (port, seen):
        names = Names(inside_example=[["127.0.0.2"]], localhost=[["127.0.0.2"]])
        reach = Reach(frozenset({80, site.port, port}), here(1).permits)
        site.pages["/"] = moved(target.format(port=port))
        async with fetching(reach, names) as fetcher:
            with pytest.raises(ToolRefused):
                await fetcher.fetch(site.at("/"), SECONDS)
        assert (len(site.seen), seen) == (1, [])


async def test_a_name_that_changes_its_address_is_checked_at_each_connection(site: Site) -> None:
    site.pages["/"] = moved("/again")
    site.pages["/again"] = html()
    names = Names(rebinds_example=[["127.0.0.1"], ["127.0.0.2"]])
    async with fetching(here(site.port), names) as fetcher:
        with pytest.raises(ToolRefused, match=r"rebinds\.example is 127\.0\.0\.2"):
            await fetcher.fetch(site.at("/", "rebinds.example"), SECONDS)
    assert [request.path for request in site.seen] == ["/"]


async def test_the_address_is_checked_where_the_connection_is_made(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if no check had been made before."""
    monkeypatch.setattr("server.tools.web_fetch._Checking", lambda resolver, reach: resolver)
    names = Names(inside_example=[["127.0.0.1"]])
    async with fetching(Reach(frozenset({site.port})), names) as fetcher:
        with pytest.raises(ToolRefused, match=r"127\.0\.0\.1, which is no public address"):
            await fetcher.fetch(site.at("/", "inside.example"), SECONDS)
    assert not site.seen


async def test_redirects_are_followed_to_a_bound(site: Site) -> None:
    site.pages["/5"] = html()
    for number in range(5):
        site.pages[f"/{number}"] = moved(f"/{number + 1}", (301, 302, 303, 307, 308)[number])

    async def again(request: web.BaseRequest) -> web.StreamResponse:
        return moved("/loop")

    site.pages["/loop"] = again
    assert (await fetched(site, "/0")).url == site.at("/5")
    with pytest.raises(ToolFailed, match="redirects more than 5 times"):
        await fetched(site, "/loop")


@pytest.mark.parametrize("location", ["http://[", "http://user:pass@example.com/", "//127.0.0.1:99999/", "https://:1/"])
async def test_a_redirect_to_nonsense_is_refused(site: Site, location: str) -> None:
    site.pages["/"] = moved(location)
    with pytest.raises(ToolRefused):
        await fetched(site)


def test_a_redirect_from_https_to_http_is_refused() -> None:
    from yarl import URL

    async def target() -> None:
        async with fetching(Reach()) as fetcher:
            assert str(fetcher._target(URL("https://a.example/"), "/b")) == "https://a.example/b"
            with pytest.raises(ToolRefused, match="from https to http"):
                fetcher._target(URL("https://a.example/"), "http://a.example/")

    asyncio.run(target())


async def test_the_environments_proxy_and_the_sites_cookies_are_not_used(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_listener() as (port, seen):
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        first = moved("/page")
        first.set_cookie("tracked", "yes")
        async with fetching(here(site.port), Names(shop_example=[["127.0.0.1"]])) as fetcher:
            for response in (first, moved("/page")):
                site.pages |= {"/": response, "/page": html()}
                await fetcher.fetch(site.at("/", "shop.example"), SECONDS)
        assert seen == []
    assert [request.headers.get("Cookie") for request in site.seen] == [None] * 4
    assert "Ratchet" in site.seen[0].headers["User-Agent"]


# What it takes


async def test_a_page_comes_with_what_it_says_of_itself(site: Site) -> None:
    site.pages["/"] = html()
    page = await fetched(site)
    assert (page.content_type, page.charset, page.encoding) == ("text/html", "utf-8", "")
    assert page.body == ARTICLE.encode()


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (lambda: web.Response(status=404), "answers 404"),
        (lambda: web.Response(status=500), "answers 500"),
        (lambda: web.Response(body=b"\x89PNG", content_type="image/png"), "image/png"),
        (lambda: web.Response(body=b"{}", content_type="application/json"), "application/json"),
        (lambda: html(**{"X-Huge": "x" * 20_000}), "can't be read"),
        (lambda: html(**{f"X-{number}": "x" for number in range(500)}), "can't be read"),
    ],
)
async def test_what_is_no_page_is_said(site: Site, response: Callable[[], web.Response], why: str) -> None:
    site.pages["/"] = response()
    with pytest.raises(ToolFailed, match=why):
        await fetched(site)


async def test_an_endless_body_is_cut(site: Site) -> None:
    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/html"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"<p>more</p>" * 1000)
        return response

    site.pages["/"] = endless
    assert len((await fetched(site)).body) == MOST


async def test_a_slow_drip_is_given_up(site: Site) -> None:
    async def dripping(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/html"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"x")
                await asyncio.sleep(0.01)
        return response

    site.pages["/"] = dripping
    with pytest.raises(ToolFailed, match=r"did not answer within 0\.3 s"):
        await fetched(site, seconds=0.3)


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\nx", b"\x00" * 99999]
)
async def test_a_server_that_speaks_no_http_is_said(answer: bytes) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with fetching(here(port)) as fetcher:
            with pytest.raises(ToolFailed):
                await fetcher.fetch(f"http://127.0.0.1:{port}/", SECONDS)


# The process that reads


@contextlib.asynccontextmanager
async def a_reader(*command: str, seconds: float = 60.0) -> AsyncIterator[Reader]:
    reader = Reader(MOST, seconds, command)
    try:
        yield reader
    finally:
        await reader.close()


def a_page(body: bytes = ARTICLE.encode(), content_type: str = "text/html", encoding: str = "") -> Page:
    return Page("http://example.com/", content_type, "", encoding, body)


async def test_pages_are_read_in_a_process_of_its_own() -> None:
    async with a_reader() as reader:
        readings = await asyncio.gather(*(reader.read(a_page(), query, 60) for query in ("warranty", "bao hanh")))
    assert [reading.title for reading in readings] == ["Ridge Shop"] * 2
    assert "24 months" in readings[0].text
    assert "24 tháng" in readings[1].text


async def test_a_bomb_is_cut_and_the_next_page_is_read() -> None:
    bomb = gzip.compress(b"boom " * (20 << 20 >> 2))
    async with a_reader() as reader:
        assert "boom" in (await reader.read(a_page(bomb, "text/plain", "gzip"), "boom", 60)).text
        with pytest.raises(ToolFailed, match="packed"):
            await reader.read(a_page(b"nonsense", encoding="gzip"), "boom", 60)
        with pytest.raises(ToolFailed, match="PDF"):
            await reader.read(a_page(b"%PDF-1.4", "application/pdf"), "boom", 60)
        assert "24 months" in (await reader.read(a_page(), "warranty", 60)).text


ANSWER = json.dumps({"title": "t", "text": "read", "score": 1.0})
ONCE_STUCK = f"""
import json, sys, time
print("ready", flush=True)
for line in sys.stdin.buffer:
    body = sys.stdin.buffer.read(json.loads(line)["size"])
    if body == b"hang": time.sleep(600)
    if body == b"die": sys.exit(1)
    if body == b"babble": print("[]", flush=True)
    if body == b"flood": print("x" * 100000, flush=True)
    print({ANSWER!r}, flush=True)
"""


@pytest.mark.parametrize("body", [b"hang", b"die", b"babble", b"flood"])
async def test_a_process_that_a_page_broke_is_replaced(body: bytes) -> None:
    async with a_reader(sys.executable, "-c", ONCE_STUCK, seconds=1.0) as reader:
        with pytest.raises(ToolFailed, match="time and memory"):
            await reader.read(a_page(body), "q", 60)
        assert (await reader.read(a_page(b"fine"), "q", 60)).text == "read"


async def test_who_leaves_does_not_disturb_the_next() -> None:
    async with a_reader(sys.executable, "-c", ONCE_STUCK, seconds=1.0) as reader:
        left = asyncio.create_task(reader.read(a_page(b"hang"), "q", 60))
        waiting = asyncio.create_task(reader.read(a_page(b"fine"), "q", 60))
        await asyncio.sleep(0.1)
        left.cancel()
        assert (await waiting).text == "read"


@pytest.mark.parametrize("command", [("/no/such/program",), (sys.executable, "-c", "pass")])
async def test_without_a_process_pages_fail_and_nothing_hangs(command: tuple[str, ...]) -> None:
    async with a_reader(*command) as reader:
        for _ in range(2):
            with pytest.raises(ToolFailed):
                await reader.read(a_page(), "q", 60)


async def test_closing_ends_the_process_and_what_waits() -> None:
    async with a_reader(sys.executable, "-c", ONCE_STUCK) as reader:
        waiting = [asyncio.create_task(reader.read(a_page(b"hang"), "q", 60)) for _ in range(3)]
        await asyncio.sleep(0.1)
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ToolFailed] * 3


# The whole tool


@contextlib.asynccontextmanager
async def a_tool(
    site: Site, reach: Reach | None = None, results: int = 2, budget: float = 60.0
) -> AsyncIterator[WebTool]:
    threads = ThreadPoolExecutor(1)
    tool = WebTool(
        Search(site.at("/search?engines=wiki"), threads),
        Fetcher(reach or here(site.port), MOST),
        Reader(MOST, 60.0),
        results=results,
        timeout=60.0,
        budget=budget,
    )
    try:
        yield tool
    finally:
        await tool.close()
        threads.shutdown()


def found(*results: tuple[str, str]) -> web.Response:
    listed = [{"url": url, "title": f"About {number}", "content": text} for number, (url, text) in enumerate(results)]
    return web.json_response({"results": listed})


async def test_a_query_is_searched_and_the_best_pages_are_evidence(site: Site) -> None:
    site.pages |= {
        "/search": found((site.at("/one"), ""), (site.at("/two"), ""), (site.at("/three"), "")),
        "/one": html(
            "<html><body><article><p>Nothing of interest is written on this page here.</p></article></body></html>"
        ),
        "/two": html(),
    }
    async with a_tool(site) as tool:
        evidence = await tool.run(a_question("bảo hành bao lâu"))
    assert [each.uri for each in evidence] == [site.at("/two"), site.at("/one")]
    assert evidence[0].tool == "web"
    assert "bảo hành 24 tháng" in evidence[0].text
    assert evidence[0].score > evidence[1].score
    assert dict(site.seen[0].query) == {"engines": "wiki", "q": "bảo hành bao lâu", "format": "json", "language": "vi"}
    assert site.at("/three") not in {str(request.url) for request in site.seen}


async def test_a_result_that_is_private_is_passed_over_and_one_that_fails_shows_its_snippet(site: Site) -> None:
    site.pages["/search"] = found(
        ("http://169.254.169.254/latest/", "secret"),
        ("file:///etc/passwd", "root"),
        (site.at("/gone"), "24\u202e months."),
        (site.at("/silent"), ""),
    )
    async with a_tool(site, results=4) as tool:
        evidence = await tool.run(a_question())
    assert [(each.uri, each.text) for each in evidence] == [(site.at("/gone"), "24 months.")]


async def test_a_page_that_is_late_shows_its_snippet(site: Site) -> None:
    async def hangs(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    site.pages |= {"/search": found((site.at("/slow"), "24 months.")), "/slow": hangs}
    async with a_tool(site, budget=0.5) as tool:
        assert [each.text for each in await tool.run(a_question())] == ["24 months."]


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (lambda site: web.Response(status=429), "answers 429"),
        (lambda site: moved("http://127.0.0.1/"), "answers 302"),
        (lambda site: html(), "SearXNG"),
        (lambda site: web.Response(body=b" " * (2 << 20)), "more than 1 MiB"),
        (lambda site: found((site.at("/gone"), "")), "answers 404"),
    ],
)
async def test_a_search_that_fails_is_said(site: Site, response: Callable[[Site], web.Response], why: str) -> None:
    site.pages["/search"] = response(site)
    async with a_tool(site) as tool:
        with pytest.raises(ToolFailed, match=why):
            await tool.run(a_question())


async def test_a_search_that_finds_nothing_is_no_error(site: Site) -> None:
    site.pages["/search"] = found()
    async with a_tool(site) as tool:
        assert await tool.run(a_question()) == ()


async def test_an_address_in_the_query_is_visited_and_nothing_searched(site: Site) -> None:
    site.pages["/page"] = html()
    async with a_tool(site) as tool:
        evidence = await tool.run(a_question(f"What does {site.at('/page')} say?"))
    assert evidence[0] == Evidence("web", site.at("/page"), "Ridge Shop", evidence[0].text, site.at("/page"), 1.0)
    assert "24 months" in evidence[0].text
    assert [request.path for request in site.seen] == ["/page"]


@pytest.mark.parametrize(
    "query",
    [
        "Read http://169.254.169.254/latest/meta-data/",
        "đọc http://localhost giúp mình",
        "What is on http://0x7f000001/?",
        "Compare {page} with http://[::1]/",
        "Read {redirect}",
    ],
)
async def test_an_address_in_the_query_that_is_private_is_refused(site: Site, query: str) -> None:
    site.pages |= {"/page": html(), "/redirect": moved("http://169.254.169.254/")}
    async with a_tool(site) as tool:
        with pytest.raises(ToolRefused):
            await tool.run(a_question(query.format(page=site.at("/page"), redirect=site.at("/redirect"))))


async def test_a_query_cancelled_on_its_way_leaves_nothing_running(site: Site) -> None:
    arrived = asyncio.Event()

    async def hangs(request: web.BaseRequest) -> web.StreamResponse:
        arrived.set()
        await asyncio.sleep(60)
        raise AssertionError

    site.pages |= {"/search": found((site.at("/slow"), "")), "/slow": hangs}
    async with a_tool(site) as tool:
        before = asyncio.all_tasks()
        task = asyncio.create_task(tool.run(a_question()))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not [each for each in asyncio.all_tasks() - before if "WebTool" in repr(each)]


def services(**changes: Any) -> Any:
    usual = {
        "web_search_url": "http://127.0.0.1:1/search",
        "web_bytes": MOST,
        "web_timeout": 1.0,
        "web_results": 1,
        "web_ports": "80,443",
        "tool_budget": 1.0,
    }
    return SimpleNamespace(settings=SimpleNamespace(**usual | changes), threads=ThreadPoolExecutor(1))


async def test_the_tool_as_it_is_configured_reaches_no_private_address() -> None:
    async with a_listener() as (port, seen):
        tool = await open_web(services(web_ports=f"80,{port}"))
        assert tool is not None
        with pytest.raises(ToolRefused):
            await tool.run(a_question(f"http://127.0.0.1:{port}/"))
        with pytest.raises(ToolRefused):
            await tool.run(a_question(f"http://localhost:{port}/"))
        with pytest.raises(ToolFailed, match="can't be reached"):
            await tool.run(a_question())
        await tool.close()
        assert seen == []


async def test_without_an_endpoint_there_is_no_tool() -> None:
    assert await open_web(services(web_search_url=None)) is None


def test_the_permission_that_tests_use_is_no_wider_than_said() -> None:
    assert not here(80).permits(ip_address("127.0.0.2"))
