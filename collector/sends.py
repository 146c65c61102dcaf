"""POST /v1/sends: NDJSON of sends in, NDJSON of their URLs out.

The body is taken whole (to a file) before the first answer, for most clients only read when they
have written. Each line is answered for itself, after its event is in the journal; repeating a
request, in part or in whole, changes nothing.
"""

import asyncio
import hmac
import itertools
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Final, TypeVar

import msgspec
import orjson
from aiohttp import HttpVersion11, web

from collector.app import plain
from collector.group_commit import GroupCommit
from collector.keys import Keys
from collector.metrics import EdgeMetrics
from collector.mint import Mint, SendRequest
from collector.settings import CollectorSettings

T = TypeVar("T")
#: Lines that go to the journal, and are then answered, together.
GROUP: Final = 500
#: Lines minted without letting a pixel in between (each takes some 20 us).
SLICE: Final = 50
MAX_LINE: Final = 64 * 1024
IDLE_SECONDS: Final = 20.0
BODY_SECONDS: Final = 600.0
WRITE_SECONDS: Final = 60.0
_IN_MEMORY: Final = 1 << 20
_decode = msgspec.json.Decoder(SendRequest).decode


class Lines:
    """A handler of NDJSON, answered line by line."""

    def __init__(self, settings: CollectorSettings) -> None:
        self._settings = settings

    async def _record(self, group: list[tuple[int, bytes | None]]) -> list[bytes]:
        """The answers to some lines, once what they say is kept."""
        raise NotImplementedError

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Check the key, take the body, answer line by line."""
        if not authorized(request, self._settings):
            return refused()
        limit = self._settings.sends_max_bytes
        if (request.content_length or 0) > limit:
            return plain(413, f"The body is longer than {limit} bytes.", close=True)
        if _waits_to_be_asked(request):
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        with tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(self._settings.data)) as spool:
            try:
                complete = await _take(request, spool, limit)
            except TimeoutError:
                return plain(408, "The body did not come in time.", close=True)
            except web.RequestPayloadError:
                return plain(400, "The body is broken.", close=True)
            except OSError as error:
                return plain(507, f"The body could not be kept: {error.strerror}.", close=True)
            if not complete:
                return plain(413, f"The body is longer than {limit} bytes.", close=True)
            spool.seek(0)
            return await self._answer(request, spool)

    async def _answer(self, request: web.Request, spool: IO[bytes]) -> web.StreamResponse:
        answer = web.StreamResponse(
            headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"}
        )
        await answer.prepare(request)
        lines = _lines(spool)
        try:
            while group := list(itertools.islice(lines, GROUP)):
                told = b"".join(await self._record(group))
                async with asyncio.timeout(WRITE_SECONDS):
                    await answer.write(told)
            await answer.write_eof()
        except TimeoutError:  # a client that does not read its answer
            if request.transport is not None:
                request.transport.abort()
        return answer


class Sends(Lines):
    """The handler of POST /v1/sends."""

    def __init__(
        self,
        settings: CollectorSettings,
        keys: Keys,
        commit: GroupCommit,
        clock: Callable[[], float],
        metrics: EdgeMetrics,
    ) -> None:
        """`settings.public_url` is set."""
        super().__init__(settings)
        self._keys = keys
        self._commit = commit
        self._clock = clock
        self._counts = metrics.sends

    async def _record(self, group: list[tuple[int, bytes | None]]) -> list[bytes]:
        settings = self._settings
        mint = Mint(self._keys.ring, settings.public_url, self._clock, settings.mode)
        answers: list[tuple[int, bytes]] = []
        bodies: dict[int, bytes] = {}
        refused = 0
        for done, (number, line) in enumerate(group, 1):
            try:
                text, body = _mint_line(mint, number, line)
                if body:
                    bodies[number] = body
            except ValueError as error:
                text = refuse_line(number, str(error))
                refused += 1
            answers.append((number, text))
            if done % SLICE == 0:
                await asyncio.sleep(0)
        self._counts["refused"].inc(refused)
        stored = [self._commit.record(body) for body in bodies.values()]  # one tick, one future
        if stored and not await asyncio.shield(stored[-1]):
            self._counts["lost"].inc(len(bodies))
            reason = "not recorded, for the journal cannot be written: send it again later"
            return [refuse_line(n, reason) if n in bodies else text for n, text in answers]
        self._counts["recorded"].inc(len(bodies))
        return [text for _, text in answers]


def authorized(request: web.Request, settings: CollectorSettings) -> bool:
    """Whether a request shows the API key."""
    try:
        key = settings.api_key_path.read_bytes().strip()
    except OSError:
        key = b""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), key)
    return right and bool(key) and scheme.lower() == "bearer"


def refused() -> web.Response:
    """The answer to a request that does not."""
    answer = plain(401, "The API key is missing or wrong.", close=True)
    answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _waits_to_be_asked(request: web.Request) -> bool:
    return request.version >= HttpVersion11 and any(
        name.lower() == b"expect" and value.lower() == b"100-continue"
        for name, value in request.raw_headers
    )


async def _take(request: web.Request, spool: IO[bytes], limit: int) -> bool:
    """Copy the body to the spool; false if it is too long, TimeoutError if it stalls."""
    size = 0
    async with asyncio.timeout(BODY_SECONDS):
        while True:
            async with asyncio.timeout(IDLE_SECONDS):
                part = await request.content.readany()
            if not part:
                return True
            size += len(part)
            if size > limit:
                return False
            spool.write(part)


def _lines(spool: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """The lines that are not blank, with their numbers; None for one that is too long."""
    for number in itertools.count(1):
        line = spool.readline(MAX_LINE)
        if not line:
            return
        if len(line) == MAX_LINE and not line.endswith(b"\n"):
            while (rest := spool.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        elif line.strip():
            yield number, line


def read_line(decode: Callable[[bytes], T], line: bytes | None) -> T:
    """What a line says; ValueError with the reason it is refused for."""
    if line is None:
        raise ValueError(f"the line is longer than {MAX_LINE} bytes")
    try:
        return decode(line)
    except UnicodeDecodeError:
        raise ValueError("the line is not UTF-8") from None


def _mint_line(mint: Mint, number: int, line: bytes | None) -> tuple[bytes, bytes]:
    """A line's answer and its event; ValueError with the reason it is refused for."""
    request = read_line(_decode, line)
    minted = mint.send(request)
    told: dict[str, object] = {"line": number, "recipient": minted.recipient}
    if request.cancelled or request.bounced:
        told["cancelled" if request.cancelled else "bounced"] = True
    else:
        told |= {"pixel_url": minted.pixel_url, "pixel_html": minted.pixel_html,
                 "links": minted.links, "optout_url": minted.optout_url}  # fmt: skip
    return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE), minted.body


def refuse_line(number: int, reason: str) -> bytes:
    """The answer to a line that is refused."""
    return orjson.dumps({"line": number, "error": reason}, option=orjson.OPT_APPEND_NEWLINE)
