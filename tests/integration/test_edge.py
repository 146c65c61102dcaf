"""The edge's bytes, as they go over the wire, in one process with a real journal."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from collector import pixel
from collector.worker import Worker
from schemas import keyring, token
from schemas.consent import Mode
from tests.collecting import events, mint, settings

PIXEL = bytes.fromhex(
    "47494638396101000100800000ffffff00000021f90401000000002c00000000010001000002024401003b"
)
PIXEL_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: image/gif\r\n"
    b"Cache-Control: no-cache, no-store, must-revalidate, max-age=0\r\nPragma: no-cache\r\n"
    b"Expires: 0\r\nContent-Length: 43\r\nDate: X\r\n\r\n"
)
URL = "https://px.example.org/m"


@dataclass
class Edge:
    worker: Worker
    port: int

    @property
    def data(self) -> Path:
        return self.worker.settings.data

    async def raw(self, request: bytes, *, seconds: float = 30.0) -> bytes:
        """What comes back until the other side closes, its dates blanked."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        async with asyncio.timeout(seconds):
            answer = await reader.read(-1)
        writer.close()
        return re.sub(rb"Date: [^\r]*", b"Date: X", answer)

    async def get(self, path: str, *headers: str, method: str = "GET") -> bytes:
        lines = (f"{method} {path} HTTP/1.1", "Host: px", "Connection: close", *headers, "", "")
        answer = await self.raw("\r\n".join(lines).encode("utf-8", "surrogateescape"))
        return answer.replace(b"Connection: close\r\n", b"")

    def events(self) -> list[dict[str, Any]]:
        return events(self.data)

    def counted(self, kind: str, result: str) -> float:
        labels = {"kind": kind, "result": result}
        return self.worker.registry.get_sample_value("heliograph_hits_total", labels) or 0.0


@contextlib.asynccontextmanager
async def edge_of(data: Path, **more: Any) -> AsyncIterator[Edge]:
    worker = Worker(settings(data, public_url=URL, **more))
    runner = worker.runner()
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        await web.SockSite(runner, sock).start()
        try:
            yield Edge(worker, sock.getsockname()[1])
        finally:
            await runner.cleanup()
            await worker.commit.close()


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with edge_of(tmp_path / "data") as running:
        yield running


def path_of(url: str) -> str:
    return url.removeprefix(URL)


async def test_a_pixel_is_recorded_and_answered(edge: Edge) -> None:
    path = path_of(mint(edge.data, URL).pixel_url)
    answer = await edge.get(
        path + "?utm=1",
        "User-Agent: Ünit/1 \udcff",
        "Accept-Language: de",
        "Referer: https://mail.example.org/",
        "X-Purpose: preview",
        "Purpose: ",
        "X-Forwarded-For: 203.0.113.9",
    )
    assert answer == PIXEL_HEAD + PIXEL
    (found,) = edge.events()
    assert found.pop("ts") > 1_700_000_000_000
    assert found.pop("key_id") == edge.worker.keys.ring.minting_id
    assert found.pop("sent_at")
    assert found == {
        "journal": edge.worker.commit.journal.id,
        "seq": 1,
        "kind": "open",
        "campaign": "c1",
        "send": "c1",
        "recipient": "r1",
        "message_id": "",
        "link": "",
        "method": "GET",
        "address": "127.0.0.1",
        "user_agent": "Ünit/1 �",
        "accept_language": "de",
        "referer": "https://mail.example.org/",
        "prefetch": "preview",
    }
    assert edge.counted("open", "recorded") == 1


async def test_all_pixels_look_alike(edge: Edge) -> None:
    """Valid, opted out, forged, of an unknown key, malformed, no token at all."""
    valid = path_of(mint(edge.data, URL).pixel_url)
    off = edge.worker.keys.ring.seal("open", token.Sealed("c", "c", "r", 0, Mode.OFF))
    forged = valid[:-6] + ("AA" if valid[-6:-4] != "AA" else "BB") + ".gif"
    unknown = valid.replace(valid[3:7], "AAAA")
    click = path_of(mint(edge.data, URL, links={"a": "https://x.org/"}).links["a"])[3:]
    paths = [valid, f"/o/{off}.gif", forged, unknown, f"/o/{click}.gif", "/o/", "/o/x.gif",
             "/o/a/b/c", "/o/%ff%00.gif", valid.removesuffix(".gif")]  # fmt: skip
    assert {await edge.get(path) for path in paths} == {PIXEL_HEAD + PIXEL}
    assert [found["kind"] for found in edge.events()] == ["open"]
    counted = {r: edge.counted("open", r) for r in ("recorded", "off", "forged", "unknown_key")}
    assert counted == {"recorded": 1, "off": 1, "forged": 2, "unknown_key": 1}
    assert edge.counted("open", "malformed") == 5


async def test_head_is_recorded_as_head(edge: Edge) -> None:
    minted = mint(edge.data, URL, links={"a": "https://x.org/"})
    assert await edge.get(path_of(minted.pixel_url), method="HEAD") == PIXEL_HEAD
    answer = await edge.get(path_of(minted.links["a"]), method="HEAD")
    assert answer.startswith(b"HTTP/1.1 302 ")
    assert [(e["kind"], e["method"]) for e in edge.events()] == [
        ("open", "HEAD"),
        ("click", "HEAD"),
    ]


async def test_a_click_goes_where_it_was_sealed_to(edge: Edge) -> None:
    target = "https://x.org/a%2Fb?q=%C3%BC&r=1+2#frag'\""
    path = path_of(mint(edge.data, URL, links={"a": target}).links["a"])
    for prefix in ("", "/m", "/an/older/prefix"):
        assert await edge.get(prefix + path) == (
            b"HTTP/1.1 302 Found\r\nLocation: " + target.encode() + b"\r\n"
            b"Referrer-Policy: no-referrer\r\nCache-Control: no-store\r\nContent-Length: 0\r\n"
            b"Date: X\r\n\r\n"
        )
    assert [e["link"] for e in edge.events()] == [target] * 3


async def test_a_link_that_does_not_work_is_a_plain_404(edge: Edge) -> None:
    open_token = path_of(mint(edge.data, URL).pixel_url)[3:-4]
    for path in ("/c/", "/c/foo", f"/c/{open_token}", "/c/https://evil.org/"):
        answer = await edge.get(path)
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"Location" not in answer
        assert b"Content-Type: text/plain; charset=utf-8\r\n" in answer
        assert b"evil" not in answer
    assert edge.events() == []


async def test_an_opted_out_click_still_leads_on(edge: Edge) -> None:
    sealed = token.Sealed("c", "c", "r", 0, Mode.OFF, "https://x.org/")
    path = "/c/" + edge.worker.keys.ring.seal("click", sealed)
    assert b"Location: https://x.org/\r\n" in await edge.get(path)
    assert edge.events() == []


async def test_what_of_a_client_the_journal_has(edge: Edge) -> None:
    """For the verdict at the insert, which keeps less (see test_consent.py)."""
    for mode in Mode:
        sealed = token.Sealed("c", "c", "r", 1_790_000_000, mode)
        path = f"/o/{edge.worker.keys.ring.seal('open', sealed)}.gif"
        headers = ("User-Agent: x", "Accept-Language: de", "Referer: y", "Purpose: prefetch")
        await edge.get(path, *headers)
    told = ("consent", "recipient", "sent_at", "address", "user_agent", "prefetch",
            "accept_language", "referer")  # fmt: skip
    assert [tuple(e.get(name, None) for name in told) for e in edge.events()] == [
        ("anonymous", "", 0, "", "x", "prefetch", "", ""),
        ("pseudonymous", "r", 1_790_000_000, "127.0.0.1", "x", "prefetch", "", ""),
        (None, "r", 1_790_000_000, "127.0.0.1", "x", "prefetch", "de", "y"),
    ]


@pytest.mark.parametrize("most", ["off", "anonymous", "pseudonymous"])
async def test_a_lowered_setting_holds_for_older_tokens(tmp_path: Path, most: str) -> None:
    async with edge_of(tmp_path / "data", consent=most) as edge:
        minted = mint(edge.data, URL, links={"a": "https://x.org/"})
        assert await edge.get(path_of(minted.pixel_url), "User-Agent: x") == PIXEL_HEAD + PIXEL
        assert b"\r\nLocation: https://x.org/\r\n" in await edge.get(path_of(minted.links["a"]))
        kept = b"".join(file.read_bytes() for file in edge.data.glob("journal/*/*"))
    assert [e["kind"] for e in edge.events()] == ([] if most == "off" else ["open", "click"])
    assert (b'"r1"' in kept) == (most == "pseudonymous")
    assert (b"127.0.0.1" in kept) == (most == "pseudonymous")
    assert edge.counted("open", "off") == (most == "off")


async def test_replays_inflate_anonymous_hits_up_to_a_bound(tmp_path: Path) -> None:
    """Of a campaign and kind; what is answered stays the same."""
    async with edge_of(tmp_path / "data", anonymous_per_minute=9, workers=2) as edge:
        edge.worker.beacon._clock = lambda: now  # type: ignore[method-assign]
        ring, now = edge.worker.keys.ring, 1_790_000_000.0
        named = token.Sealed("c", "c", "r", 0, Mode.PSEUDONYMOUS)
        sealed = token.Sealed("c", "c", "", 0, Mode.ANONYMOUS)
        other = ring.seal("open", sealed._replace(campaign="d", send="d"))
        one, click = ring.seal("open", sealed), ring.seal("click", sealed._replace(link="http://x"))
        for later in (0, 61):
            now += later
            assert {await edge.get(f"/o/{one}.gif") for _ in range(7)} == {PIXEL_HEAD + PIXEL}
            assert {(await edge.get(f"/c/{click}"))[:12] for _ in range(7)} == {b"HTTP/1.1 302"}
        for _ in range(5):
            await edge.get(f"/o/{other}.gif")
            await edge.get(f"/o/{ring.seal('open', named)}.gif")
        kinds = [e["kind"] + e["campaign"] for e in edge.events()]
        assert {kind: kinds.count(kind) for kind in kinds} == {"openc": 13, "clickc": 8, "opend": 4}
        assert (edge.counted("open", "excess"), edge.counted("click", "excess")) == (7, 6)


async def test_pipelined_requests_are_answered_in_turn(edge: Edge) -> None:
    path = path_of(mint(edge.data, URL).pixel_url).encode()
    one = b"GET %b HTTP/1.1\r\nHost: px\r\nUser-Agent: %d\r\n\r\n"
    last = b"GET %b HTTP/1.1\r\nHost: px\r\nUser-Agent: 9\r\nConnection: close\r\n\r\n" % path
    answer = await edge.raw(b"".join(one % (path, n) for n in range(9)) + last)
    assert answer.count(PIXEL) == 10
    assert [e["user_agent"] for e in edge.events()] == [str(n) for n in range(10)]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /o/x.gif HTTP/1.1\r\n\r\n", 400),
        (b"GET /o/x.gif HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET /o/x.gif HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET /o/x.gif HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET /o/x.gif HTTP/1.1\r\nHost: \r\n\r\n", 400),
        (b"GET /o/x.gif HTTP/1.1\r\nHost: a:1b\r\n\r\n", 400),
        (b"GET /o/x.gif HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n", 200),
        (b"GET /o/x.gif HTTP/1.0\r\n\r\n", 200),
        (b"GET /o/x.gif HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"GET /o/x.gif HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", 400),
        (b"GET /o/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz", 400),
        (b"GET /o/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", 400),
        (b"POST /o/x.gif HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", 405),
        (b"POST /o/x.gif HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 405),
        (b"PUT /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", 405),
        (b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 404),
        (b"POST /v1/sends HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", 401),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ],
)
async def test_statuses(edge: Edge, request_bytes: bytes, status: int) -> None:
    """Each ends the connection by itself: no request is left waiting for a body."""
    answer = await edge.raw(request_bytes)
    assert answer.startswith((b"HTTP/1.1 %d " % status, b"HTTP/1.0 %d " % status))


async def test_a_lost_event_does_not_hide_the_pixel(tmp_path: Path) -> None:
    limits = {"journal_max_bytes": 1 << 20, "journal_segment_bytes": 1 << 16}
    async with edge_of(tmp_path / "data", **limits) as edge:
        path = path_of(mint(edge.data, URL).pixel_url)
        journal = edge.worker.commit.journal
        journal.used = (1 << 20) - 10
        assert await edge.get(path) == PIXEL_HEAD + PIXEL
        assert journal.lost["cap"] == 1
        assert edge.worker.state().reasons == ("the journal is at its cap: events are lost",)
        journal.maintain()
        assert edge.worker.state().reasons == ()
        await edge.get(path)
        assert [e["seq"] for e in edge.events()] == [2]


async def test_a_trusted_proxy_names_the_client(tmp_path: Path) -> None:
    async with edge_of(tmp_path / "data", trusted_proxies=("127.0.0.0/8",)) as edge:
        path = path_of(mint(edge.data, URL).pixel_url)
        await edge.get(path, "X-Forwarded-For: 198.51.100.1, 203.0.113.9")
        assert [e["address"] for e in edge.events()] == ["203.0.113.9"]


async def test_a_new_key_is_taken_at_its_first_token(edge: Edge) -> None:
    """And a retired one is refused after the file is looked at again."""
    file, keys = edge.data / "keys.json", edge.worker.keys
    keys._asked -= 10  # the file was not looked at for a while
    old = path_of(mint(edge.data, URL).pixel_url)
    content = keyring.rotate(keyring.add(keyring.read(file), lambda n: b"k" * n, 1))
    keyring.write(file, content, replace=True)
    await edge.get(path_of(mint(edge.data, URL).pixel_url))
    await edge.get(old)
    assert len({e["key_id"] for e in edge.events()}) == 2
    file.write_bytes(b"broken")
    assert not keys.refresh()
    assert "not a key file" in keys.trouble
    await edge.get(old)
    retired = keyring.retire(content, content.keys[0].id)
    keyring.write(file, retired, replace=True)
    assert keys.refresh()
    assert keys.trouble == ""
    await edge.get(old)
    assert len(edge.events()) == 3
    other = keyring.create(lambda n: b"x" * n, 1)
    keyring.write(file, other, replace=True)
    assert not keys.refresh()
    assert "another ring" in keys.trouble


def test_the_pixel_is_the_documented_one() -> None:
    assert pixel.PIXEL == PIXEL
    assert len(PIXEL) == 43
