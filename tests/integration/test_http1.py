"""Bodies, deadlines and ends of connections on aiohttp's side of the edge."""

import asyncio
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from collector import http1
from tests.collecting import API_KEY
from tests.two_paths import EdgePath

HEAD = f"POST /v1/sends HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {API_KEY}\r\n".encode()
LINE = b'{"campaign":"c","recipient":"r"}\n'
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
PIXEL = b"GET /o/x.gif HTTP/1.1\r\nHost: a\r\n\r\n"


class Edge(NamedTuple):
    loop: asyncio.Runner
    path: EdgePath

    def say(self, *pieces: bytes | None, wait: float = 0.0) -> tuple[list[int], bytes, bool]:
        """The statuses that came, all bytes, and whether the connection stayed open."""

        async def talk() -> tuple[list[int], bytes, bool]:
            (said,) = await self.path.talk([pieces], wait)
            statuses = re.findall(rb"HTTP/1\.1 (\d+) ", said.told)
            return [int(status) for status in statuses], said.told, said.open

        return self.loop.run(talk())


@pytest.fixture(params=["hot", "aiohttp"])
def edge(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Edge]:
    with asyncio.Runner() as loop:

        async def start() -> EdgePath:
            path = EdgePath(request.param, tmp_path_factory.mktemp("edge") / "data", None)
            await path.start()
            return path

        path = loop.run(start())
        yield Edge(loop, path)
        loop.run(path.stop())


def test_a_body_of_chunks_wherever_it_is_cut(edge: Edge) -> None:
    """And what follows it on the connection is a request again."""
    chunks = b"5;a=b\r\n" + LINE[:5] + b"\r\n%x\r\n" % (len(LINE) - 5) + LINE[5:] + b"\r\n"
    raw = CHUNKED + chunks + b"0\r\nX: y\r\n\r\n" + PIXEL
    pieces = [(raw[:at], raw[at:]) for at in range(len(HEAD), len(raw))]
    said = edge.loop.run(edge.path.talk([*pieces, [raw[n : n + 1] for n in range(len(raw))]]))
    for one in said:
        assert re.findall(rb"HTTP/1\.1 (\d+) ", one.told) == [b"200", b"200"]
        assert b'"recipient":"r"' in one.told
        assert one.open
    assert [event["kind"] for event in edge.path.events()] == ["sent"] * len(said)


def test_a_body_of_known_length_wherever_it_is_cut(edge: Edge) -> None:
    raw = HEAD + b"Content-Length: %d\r\n\r\n" % (3 * len(LINE)) + LINE * 3 + PIXEL
    pieces = [(raw[:at], raw[at:]) for at in range(len(HEAD), len(raw))]
    for one in edge.loop.run(edge.path.talk(pieces)):
        assert re.findall(rb"HTTP/1\.1 (\d+) ", one.told) == [b"200", b"200"]
    assert len(edge.path.events()) == 3 * len(pieces)


@pytest.mark.parametrize(
    "bad", [b"zz\r\n", b"2\r\nabc\r\n", b"-1\r\n", b"1\na\n0\n\n", b"0\r\nX y\r\n\r\n", b"1 \r\n"]
)
def test_a_body_that_turns_out_bad_is_answered_at_once(edge: Edge, bad: bytes) -> None:
    """Nothing of it becomes an event, and nothing behind it is a request."""
    whole = b"%x\r\n%b\r\n" % (len(LINE), LINE)
    for pieces in ((CHUNKED + whole + bad,), (CHUNKED, whole, bad), (CHUNKED, whole, bad, PIXEL)):
        statuses, _, is_open = edge.say(*pieces)
        assert (statuses, is_open) == ([400], False)
    assert edge.path.events() == []


def test_a_body_is_asked_for_when_it_is_wanted(edge: Edge) -> None:
    head = HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(LINE)
    assert edge.say(head)[0] == [100]
    assert edge.say(head, LINE)[0] == [100, 200]
    assert edge.say(head.replace(b"Bearer ", b"Bearer x"))[0] == [401]
    assert edge.say(head.replace(b"/v1/sends", b"/nothing"))[0] == [405]
    long = head.replace(b"Length: ", b"Length: 99999999999")
    assert edge.say(long)[0] == [413]


def test_a_peer_that_ends_its_side_gets_its_answers(edge: Edge) -> None:
    statuses, told, is_open = edge.say(PIXEL * 3, None)
    assert (statuses, is_open) == ([200] * 3, False)
    assert b"Connection: close" not in told
    assert edge.say(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", None)[0] == [404]
    assert edge.say(PIXEL[:20], None) == ([], b"", False)
    assert edge.say(None) == ([], b"", False)
    assert edge.say(CHUNKED + b"5\r\nab", None)[0] == [400]


def test_a_head_that_does_not_end_is_given_up(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not so an empty line, nor a head whose bytes came in time."""
    monkeypatch.setattr(http1, "HEAD_SECONDS", 0.3)
    statuses, _, is_open = edge.say(PIXEL + PIXEL[:-2], wait=0.6)
    assert (statuses, is_open) == ([200, 408], False)
    assert edge.say(PIXEL[:9], wait=0.6)[0] == [408]
    assert edge.say(PIXEL[:9], PIXEL[9:], wait=0.6)[::2] == ([200], True)
    assert edge.say(PIXEL + b"\r\n", wait=0.6)[::2] == ([200], True)


def test_refusals_tell_nothing_of_the_server(edge: Edge) -> None:
    for raw in (
        b"\0",
        b"GET / HTTP/9.9\r\n",
        PIXEL.replace(b"Host", b"Most"),
        b"BREW / HTTP/1.1\r\n",
    ):
        statuses, told, is_open = edge.say(raw)
        assert statuses[0] >= 400
        assert not is_open
        assert b"\r\nConnection: close\r\n" in told
        assert b"\r\nContent-Type: text/plain; charset=utf-8\r\n" in told
        assert not re.search(rb"server|python|aiohttp", told, re.IGNORECASE)
    metric = edge.path.worker.registry.get_sample_value("heliograph_bad_requests_total")
    assert metric == 4
