"""docs/nginx.conf.sample in a real nginx, before a stand-in that tells what reached it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.nginx import Nginx, nginx_before

pytestmark = pytest.mark.nginx

PIXEL = bytes.fromhex(
    "47494638396101000100800000ffffff00000021f90401000000002c00000000010001000002024401003b"
)
NO_CACHE = {
    "Cache-Control": "no-cache, no-store, must-revalidate, max-age=0",
    "Pragma": "no-cache",
    "Expires": "0",
}
TARGET = "http://heliograph/a%20b?q=1&r=%2F#x"


@dataclass
class Upstream:
    """A stand-in for the collector: what it was sent, over which connections."""

    port: int = 0
    seen: list[web.Request] = field(default_factory=list)
    connections: set[int] = field(default_factory=set)
    body: bytearray = field(default_factory=bytearray)
    first_part: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, request: web.Request) -> None:
        assert request.transport is not None
        self.seen.append(request)
        self.connections.add(request.transport.get_extra_info("peername")[1])

    async def pixel(self, request: web.Request) -> web.Response:
        self.note(request)
        return web.Response(body=PIXEL, content_type="image/gif", headers=NO_CACHE)

    async def click(self, request: web.Request) -> web.Response:
        self.note(request)
        return web.Response(status=302, headers={"Location": TARGET})

    async def sends(self, request: web.Request) -> web.StreamResponse:
        """Read all, then answer in two parts, the second when told to."""
        self.note(request)
        async for part in request.content.iter_any():
            self.body += part
            self.first_part.set()
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"one\n")
        await self.go_on.wait()
        await answer.write(b"two\n")
        return answer


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    stand_in = Upstream()
    app = web.Application()
    app.router.add_get("/{prefix:(px/)?}o/{token}", stand_in.pixel)
    app.router.add_get("/c/{token}", stand_in.click)
    app.router.add_post("/v1/sends", stand_in.sends)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    stand_in.port = runner.addresses[0][1]
    yield stand_in
    stand_in.go_on.set()
    await runner.cleanup()


@pytest.fixture
async def nginx(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Nginx]:
    async with nginx_before(upstream.port, tmp_path / "nginx") as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    # A connection for each request, as so many readers would open.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(total=60)
    ) as session:
        yield session


def at(nginx: Nginx, path: str, host: str = "px.example.org") -> dict[str, object]:
    """Arguments of a request to one of the sample's hosts."""
    return {"url": nginx.url(path), "ssl": nginx.trust, "server_hostname": host}


def as_host(host: str = "px.example.org", **headers: str) -> dict[str, str]:
    return {"Host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}


async def test_readers_share_kept_connections(
    nginx: Nginx, upstream: Upstream, client: aiohttp.ClientSession
) -> None:
    for number in range(20):
        async with client.get(**at(nginx, f"/o/{number}.gif"), headers=as_host()) as answer:
            assert answer.status == 200
    assert len(upstream.seen) == 20
    assert len(upstream.connections) == 1
    for request in upstream.seen:
        assert request.version == aiohttp.HttpVersion11
        assert "Connection" not in request.headers


async def test_a_pixel_arrives_whole_and_is_never_cached(
    nginx: Nginx, upstream: Upstream, client: aiohttp.ClientSession
) -> None:
    for _ in range(2):
        async with client.get(**at(nginx, "/o/same.gif"), headers=as_host()) as answer:
            assert await answer.read() == PIXEL
            assert answer.headers["Content-Type"] == "image/gif"
            assert answer.headers["Content-Length"] == "43"
            assert {name: answer.headers[name] for name in NO_CACHE} == NO_CACHE
    assert [request.raw_path for request in upstream.seen] == ["/o/same.gif"] * 2


async def test_the_readers_address_comes_last(
    nginx: Nginx, upstream: Upstream, client: aiohttp.ClientSession
) -> None:
    for headers in (as_host(), as_host(X_Forwarded_For="203.0.113.9")):
        async with client.get(**at(nginx, "/o/a.gif"), headers=headers) as answer:
            assert answer.status == 200
    told = [request.headers.getall("X-Forwarded-For") for request in upstream.seen]
    assert told == [["127.0.0.1"], ["203.0.113.9, 127.0.0.1"]]
    assert {request.headers["Host"] for request in upstream.seen} == {"px.example.org"}


async def test_what_the_reader_says_is_passed_on(
    nginx: Nginx, upstream: Upstream, client: aiohttp.ClientSession
) -> None:
    said = {
        "User-Agent": "Reader/1.0 (test)",
        "Accept-Language": "eo,de;q=0.5",
        "Sec-Purpose": "prefetch;prerender",
        "Referer": "https://mail.example.org/",
    }
    async with client.head(**at(nginx, "/o/a.gif"), headers=as_host() | said) as answer:
        assert answer.status == 200
    (request,) = upstream.seen
    assert request.method == "HEAD"
    assert {name: request.headers[name] for name in said} == said


async def test_a_clicks_target_stays_as_it_is(
    nginx: Nginx, upstream: Upstream, client: aiohttp.ClientSession
) -> None:
    async with client.get(
        **at(nginx, "/c/token"), headers=as_host(), allow_redirects=False
    ) as answer:
        assert answer.status == 302
        assert answer.headers["Location"] == TARGET
    assert len(upstream.seen) == 1


@pytest.mark.parametrize(("pass_on", "expected"), [(False, "/o/a.gif"), (True, "/px/o/a.gif")])
async def test_a_path_is_taken_off_or_passed_on(
    upstream: Upstream,
    client: aiohttp.ClientSession,
    tmp_path: Path,
    pass_on: bool,
    expected: str,
) -> None:
    async with nginx_before(upstream.port, tmp_path / "nginx", pass_prefix_on=pass_on) as nginx:
        for _ in range(3):
            request = at(nginx, "/px/o/a.gif", host="example.org")
            async with client.get(**request, headers=as_host("example.org")) as answer:
                assert await answer.read() == PIXEL
        async with client.get(
            **at(nginx, "/o/a.gif", host="example.org"), headers=as_host("example.org")
        ) as answer:
            assert answer.status == 404
        # That last one was for nginx's own files, which are not there.
        (nginx.home / "error.log").write_text("")
    assert [request.raw_path for request in upstream.seen] == [expected] * 3
    assert upstream.seen[0].headers["X-Forwarded-For"] == "127.0.0.1"
    assert len(upstream.connections) == 1


async def test_sends_are_streamed_both_ways(
    nginx: Nginx, upstream: Upstream, client: aiohttp.ClientSession
) -> None:
    async def lines() -> AsyncIterator[bytes]:
        yield b'{"recipient":"r1"}\n'
        # A proxy that collects the body first would wait here for ever.
        await asyncio.wait_for(upstream.first_part.wait(), 60)
        yield b'{"recipient":"r2"}\n'

    async with client.post(**at(nginx, "/v1/sends"), headers=as_host(), data=lines()) as answer:
        first = await asyncio.wait_for(answer.content.readline(), 60)
        assert first == b"one\n"
        upstream.go_on.set()
        assert await answer.content.readline() == b"two\n"
    assert bytes(upstream.body) == b'{"recipient":"r1"}\n{"recipient":"r2"}\n'


async def test_a_large_upload_is_not_refused(
    nginx: Nginx, upstream: Upstream, client: aiohttp.ClientSession
) -> None:
    upstream.go_on.set()
    large = b'{"recipient":"r"}\n' * 200_000
    async with client.post(**at(nginx, "/v1/sends"), headers=as_host(), data=large) as answer:
        assert answer.status == 200
    assert len(upstream.body) == len(large) == 3_600_000


async def test_opens_are_not_logged_by_the_proxy(
    nginx: Nginx, upstream: Upstream, client: aiohttp.ClientSession
) -> None:
    async with client.get(**at(nginx, "/o/secret.gif"), headers=as_host()) as answer:
        assert answer.status == 200
    assert len(upstream.seen) == 1
    assert (nginx.home / "access.log").read_text() == ""
