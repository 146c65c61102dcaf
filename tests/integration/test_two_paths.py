"""The hot path and aiohttp agree on every input: answers, events, and what becomes of the
connection. And both are right, wherever the bytes of a request are cut.
"""

import asyncio
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.raw_requests import Case, cases, fill, read
from tests.two_paths import EdgePath

#: Longer cases are of limits, where what is cut in between says nothing new.
MOST_CUTS = 600
CASES = [case for case in cases() if len(fill(case.raw, {})) <= MOST_CUTS]
PROBE = b"GET %b HTTP/1.1\r\nHost: px\r\nUser-Agent: probe\r\n\r\n"


class Paths(NamedTuple):
    loop: asyncio.Runner
    hot: EdgePath
    aiohttp: EdgePath


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paths]:
    home = tmp_path_factory.mktemp("paths")
    with asyncio.Runner() as loop:
        loop.get_loop()

        async def start() -> tuple[EdgePath, EdgePath]:
            hot = EdgePath("hot", home / "hot", None)
            aiohttp = EdgePath("aiohttp", home / "aiohttp", hot.keys)
            await hot.start()
            await aiohttp.start()
            return hot, aiohttp

        made = Paths(loop, *loop.run(start()))
        yield made
        loop.run(made.hot.stop())
        loop.run(made.aiohttp.stop())


@pytest.mark.parametrize("name", ["hot", "aiohttp"])
def test_a_cut_changes_nothing(paths: Paths, name: str) -> None:
    """Each case, cut in two at each of its bytes; those that aiohttp joins itself, at some."""
    path: EdgePath = getattr(paths, name)

    async def one(case: Case) -> list[str]:
        raw = fill(case.raw, path.places.of("cut"))
        places = range(1, len(raw), 1 if name == "hot" else 5)
        scripts = [(raw[:at], raw[at:]) for at in places]
        wrong = [
            f"{case.id}, cut at {at}: {said}"
            for at, said in zip(places, await path.talk(scripts), strict=True)
            if read(said.told, case.answers) != case.answers
            or said.open == (case.after == "closed")
        ]
        events = [event["kind"] for event in path.events()]
        if sorted(events) != sorted([*case.events] * len(scripts)):
            wrong.append(f"{case.id}: {len(events)} events of {len(scripts)} connections")
        return wrong[:3]

    wrong = [line for case in CASES for line in paths.loop.run(one(case))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["hot", "aiohttp"])
def test_byte_by_byte(paths: Paths, name: str) -> None:
    """Each case, each byte of it by itself, all side by side."""
    path: EdgePath = getattr(paths, name)
    raws = [fill(case.raw, path.places.of(case.id)) for case in CASES]
    scripts = [[raw[n : n + 1] for n in range(len(raw))] for raw in raws]
    talked = paths.loop.run(path.talk(scripts))
    found: dict[str, list[str]] = {}
    for event in path.events():
        found.setdefault(event["recipient"], []).append(event["kind"])
    for case, said in zip(CASES, talked, strict=True):
        assert read(said.told, case.answers) == case.answers, case.id
        assert said.open == (case.after != "closed"), case.id
        assert found.get(case.id, []) == [*case.events], case.id


def test_no_answer_blames_the_server() -> None:
    assert [
        c.id for c in cases() if {a for a in c.answers if isinstance(a, int) and a >= 500}
    ] == []


def bytes_of(*texts: str) -> st.SearchStrategy[bytes]:
    return st.sampled_from([text.encode("latin-1") for text in texts])


#: Of 64 characters or of more: that is a question of how its bytes are decoded.
ZONED = "2001:db8::1%" + "\u00c3\u00a9" * 40
#: What requests are made of, in places as in `raw_requests`.
TARGETS = bytes_of(
    *["{pixel}"] * 8, "{other}", "{off}", "{anonymous}", "{pseudonymous}", "{opted-out}",
    "{forged}", "{bad}", "{escaped}", "/m{pixel}", "/x{pixel}",
    "/{pixel}", "{click}", "/o/.gif", "{pixel}?x=1", "{pixel}#x", "/o/{token}", "/v1/sends", "*",
    "http://px{pixel}", "{pixel}%20", "{pixel} HTTP/1.1\r\nX: .gif", "/o/{token}.gif.gif", "/",
)  # fmt: skip
LINES = st.builds(
    lambda method, target, version: b" ".join((method, target, version)),
    bytes_of(*["GET"] * 9, "HEAD", "POST", "get", "BREW"),
    TARGETS,
    bytes_of(*["HTTP/1.1"] * 9, "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/1.1 "),
)
NAMES = bytes_of(
    "Host", "User-Agent", "Accept-Language", "Referer", "X-Forwarded-For", "x-forwarded-for",
    "Connection", "Accept", "Purpose", "Sec-Purpose", "X-Purpose", "X-Moz", "Content-Length",
    "Transfer-Encoding", "Expect", "Upgrade", "TE", "Cookie", "X", "X ", "Content_Length", "",
)  # fmt: skip
VALUES = bytes_of(
    "", "a", "px.example.org", "a b", "close", "keep-alive", "Keep-Alive, close", "Upgrade",
    "203.0.113.9", "203.0.113.9, 192.0.2.7", ZONED, "prefetch", "preview", "0", "3", "chunked",
    "gzip",
    "100-continue", "websocket", "\u00fc\u00ff", " a\t", "a\x01", "a\r\n b", "a\nX: b", "trailers",
    "Mozilla/5.0 (Windows NT 6.1; rv:140.0) Thunderbird/140.0", "https://mail.example.org/?x#",
) | st.binary(max_size=12)  # fmt: skip
FIELDS = st.builds(
    lambda name, blank, value: name + b":" + blank + value,
    NAMES,
    bytes_of(*[" "] * 6, "", "  ", "\t"),
    VALUES,
)
PLAIN = (b"Host: px.example.org", b"User-Agent: a/1", b"Accept: */*", b"X-Forwarded-For: 192.0.2.1")
HEADS = st.lists(st.sampled_from(PLAIN) | FIELDS, max_size=5).map(lambda more: [PLAIN[0], *more])
GENERATED = st.builds(
    lambda line, fields, body: b"\r\n".join((line, *fields, b"", body)),
    LINES,
    HEADS | st.permutations(PLAIN) | st.lists(FIELDS, max_size=4),
    bytes_of(*[""] * 6, "abc", "3\r\nabc\r\n0\r\n\r\n", "\r\n", "zz\r\n"),
)


@st.composite
def nearly_plain(draw: st.DrawFn) -> bytes:
    """A plain request but for a line or two: twice, in other letters, behind the end, or odd."""
    fields = draw(st.sampled_from([PLAIN, PLAIN[:3], PLAIN[::-1]]))
    lines = [b"GET {pixel} HTTP/1.1", *fields, b"", b""]
    for _ in range(draw(st.integers(0, 2))):
        line = draw(st.sampled_from(PLAIN) | FIELDS)
        name, colon, value = line.partition(b":")
        line = draw(st.sampled_from([line, name.lower() + colon + value, name + b": other"]))
        lines.insert(draw(st.integers(1, len(lines))), line)
    return b"\r\n".join(lines)


REQUESTS = (
    nearly_plain()
    | nearly_plain()
    | GENERATED
    | st.sampled_from([case.raw.encode("latin-1") for case in CASES])
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Some requests in a row, here and there changed."""
    parts = draw(st.lists(REQUESTS, min_size=1, max_size=4))
    places = draw(st.sampled_from([[], [], [0], [0, 0], [0, 0, 0]]))
    raw = b"".join(parts)
    for _ in places:
        at = draw(st.integers(0, len(raw)))
        size = draw(st.sampled_from([0, 0, 1, 1, 2, 9]))
        new = draw(bytes_of("", "\r", "\n", "\r\n", " ", "\0", ":", "X", "\xff") | st.binary())
        again = raw[at : at + size] if draw(st.booleans()) else b""
        raw = raw[:at] + again + new + raw[at + size :]
    return raw


@st.composite
def scripts(draw: st.DrawFn) -> tuple[bytes, list[int], bool]:
    """Bytes with the places in braces, where they are cut, and whether the peer then ends."""
    raw = draw(mutated())
    cuts = st.lists(st.integers(0, len(raw) + 60), max_size=4) | st.just([0, 10**9])
    return raw, sorted(draw(cuts)), draw(st.booleans())


ONE = b"GET {pixel} HTTP/1.1\r\nHost: px\r\n"
TOLD_LESS = (b"off", b"anonymous", b"pseudonymous", b"opted-out")
LESS = b"GET {%b} HTTP/1.1\r\nHost: px\r\nUser-Agent: a\r\nReferer: b\r\n\r\n"
FORWARDED = b"X-Forwarded-For: 192.0.2.1\r\n"


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts())
@example((ONE + b"\r\n" + ONE + b"\r", [], True))
@example((b"".join(LESS % mode for mode in TOLD_LESS), [], False))
@example(((ONE + b"X-Forwarded-For: %b\r\n\r\n" % ZONED.encode("latin-1")) * 3, [], False))
@example((ONE + b"\r\n" + ONE + FORWARDED + b"\r\n" + ONE + b"\r\n" + FORWARDED, [], False))
def test_the_two_agree(paths: Paths, script: tuple[bytes, list[int], bool]) -> None:
    """As it came, and cut; and what a request that follows then gets."""
    raw, cuts, ends = script
    places = paths.hot.places.of("two")
    data = fill(raw.decode("latin-1"), places)
    last = None if ends else PROBE % places["pixel"].encode()

    async def one(path: EdgePath, pieces: list[bytes]) -> Any:
        hits = path.worker.metrics.hits
        before = dict(hits)
        told = await path.talk([[*pieces, last]])
        return told, path.events(), {what: count - before[what] for what, count in hits.items()}

    async def both(pieces: list[bytes]) -> Any:
        hot, aiohttp = [await one(path, pieces) for path in (paths.hot, paths.aiohttp)]
        assert hot == aiohttp
        statuses = re.findall(rb"HTTP/1\.[01] (\d)", hot[0][0].told)
        assert b"5" not in statuses
        assert len(hot[1]) <= statuses.count(b"2") + statuses.count(b"3")  # of what was answered
        return hot

    whole = paths.loop.run(both([data]))
    if cuts == [0, 10**9]:
        pieces = [data[n : n + 1] for n in range(len(data))]
    else:
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]
    assert paths.loop.run(both(pieces)) == whole


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A request whose body, whole and well framed or not, is requests of a pixel."""
    body = b"GET {hidden} HTTP/1.1\r\nHost: px\r\n\r\n" * draw(st.integers(1, 3))
    method = draw(bytes_of("POST", "GET", "PUT", "BREW"))
    target = draw(bytes_of("/v1/sends", "{pixel}", "/v1/receipts", "/", "{click}"))
    length, chunked = b"Content-Length: {length}", b"Transfer-Encoding: chunked"
    odd = bytes_of("Content-Length : 0", "Content-Length: +0", "Transfer-Encoding: xchunked", "X:")
    fields = draw(st.sampled_from([[length], [chunked], [length, chunked]]))
    lines = [b"%b %b HTTP/1.1" % (method, target), b"Host: px", *draw(st.permutations(fields))]
    if draw(st.booleans()):
        lines.insert(draw(st.integers(2, len(lines))), draw(odd))
    if chunked in fields:
        sizes = draw(st.lists(st.integers(1, 60), max_size=3))
        body = b"{chunks:" + b",".join(b"%d" % n for n in sizes) + b"}" + body
    return b"\r\n".join((*lines, b"", body))


def framed(raw: bytes, places: dict[str, str]) -> bytes:
    """The bytes, the body's length and chunks put in."""
    head, _, body = raw.partition(b"\r\n\r\n")
    sizes, mark, rest = body.rpartition(b"}GET {hidden}")
    hidden = fill(((b"GET {hidden}" + rest) if mark else body).decode("latin-1"), places)
    if mark:
        pieces = []
        for size in (*map(int, filter(None, sizes[len(b"{chunks:") :].split(b","))), len(hidden)):
            if hidden:
                pieces.append(b"%x\r\n%b\r\n" % (len(hidden[:size]), hidden[:size]))
                hidden = hidden[size:]
        hidden = b"".join(pieces) + b"0\r\n\r\n"
    head = fill(head.decode("latin-1"), places).replace(b"{length}", b"%d" % len(hidden))
    return head + b"\r\n\r\n" + hidden


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(bodies(), st.integers(0, 400))
def test_what_is_hidden_in_a_body_is_no_request(paths: Paths, raw: bytes, cut: int) -> None:
    """However the body is framed, and wherever it is cut: on both paths."""
    places = dict(paths.hot.places.of("seen"))
    places["hidden"] = paths.hot.places.of("hidden")["pixel"]
    data = framed(raw, places)
    for path in (paths.hot, paths.aiohttp):
        (said,) = paths.loop.run(path.talk([[data[:cut], data[cut:]]]))
        assert b"HTTP/1.1 5" not in said.told
        assert "hidden" not in [event["recipient"] for event in path.events()]
