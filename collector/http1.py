"""aiohttp's server behind the edge's own grammar.

By itself it drops a complete request when bad bytes follow it in the same read, lets a handler
wait for ever for a body whose chunks turn out bad, answers what follows a last request, closes
while the peer still writes (whose kernel then throws the answer away), and tells its name.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE, RequestHandler, _ErrInfo
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from collector.app import plain
from collector.grammar import Head, HeadReader, Refused

#: How long a head may take from its first byte to its last.
HEAD_SECONDS: Final = 15.0
#: How long an answer may wait for its reader.
WRITE_SECONDS: Final = 60.0
#: How long the end of a connection waits for the peer to end it too.
LINGER_SECONDS: Final = 2.0
_READ_BYTES: Final = 1 << 16


class Connection(RequestHandler):
    """A connection whose heads `grammar` reads, and whose requests, bodies and answers are
    aiohttp's. An asyncio.Protocol; it may also be given a connection that is under way.
    """

    def __init__(self, manager: web.Server, refused: Callable[[], None], **options: Any) -> None:
        """`refused` is called for each request that is not let through."""
        super().__init__(manager, **options)
        self._refused = refused
        self._heads = HeadReader()
        self._unread = b""
        self._body: StreamReader | None = None  # the one that is being read
        self._left: int | None = 0  # bytes of it, None where it comes in chunks
        self._last = False  # whether nothing follows it
        self._ended = False  # nothing more is read
        self._peer_ended = False
        self._owed = 0  # answers
        self._timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Take bytes; b"" goes on with those that had to wait."""
        data, self._unread, at, more = self._unread + data, b"", 0, True
        try:
            while more and not (self._is_deaf() or self._reading_paused or self._is_full()):
                read = self._read_head if self._body is None else self._read_body
                more, at = read(data, at)
        except Refused as error:
            self._refuse(error)
        if not self._is_deaf():
            self._unread = data[at:]
            begun = self._heads.begun or self._unread.strip(b"\r\n")
            if self._body is None and begun and self._timer is None:
                late = Refused(408, "The request did not come in time.")
                self._timer = self._loop.call_later(HEAD_SECONDS, self._refuse, late)

    def _is_deaf(self) -> bool:
        return self._ended or self._force_close or (self._close and self._body is None)

    def _is_full(self) -> bool:
        if len(self._messages) < MAX_MSG_QUEUE_SIZE:
            return False
        if not self._buffer_paused:
            self._pause_reading_for_buffer()
        return True

    def _read_head(self, data: bytes, at: int) -> tuple[bool, int]:
        """Whether a head was read, and where what follows begins."""
        head, at = self._heads.read(data, at)
        if head is None:
            return False, at
        self._stop_timer()
        if head.length == 0:
            self._deliver(_message(head), EMPTY_PAYLOAD)
            self._ended = head.close
        else:
            self._body, self._left, self._last = self._stream(head), head.length, head.close
            self._deliver(_message(head), self._body)
        return True, at

    def _stream(self, head: Head) -> StreamReader:
        """A body, from a parser that is told nothing but how it is framed."""
        self._parser = HttpRequestParser(
            self, self._loop, _READ_BYTES, payload_exception=web.RequestPayloadError
        )
        size = head.length
        lines = [b"POST / HTTP/1.1", b"Host: x"]
        lines.append(b"Content-Length: %d" % size if size else b"Transfer-Encoding: chunked")
        for name, value in head.fields:
            if name.lower() == b"content-encoding" and value.lower() in (b"gzip", b"deflate"):
                lines.append(b"Content-Encoding: " + value)
                break
        ((_, stream),), _, _ = self._parser.feed_data(b"\r\n".join((*lines, b"", b"")))
        return stream

    def _read_body(self, data: bytes, at: int) -> tuple[bool, int]:
        """Whether to go on, and where."""
        body, parser = self._body, self._parser
        assert body is not None
        assert parser is not None
        if self._left is not None:
            end = min(len(data), at + self._left)
            self._left -= end - at
        elif data[at : at + 1] == b"\n":  # of a line end that was cut
            end = at + 1
        else:  # any line end may be the body's
            end = data.find(b"\r\n", at) + 2
            end = end if end > 1 else len(data)
        try:
            parser.feed_data(data[at:end])
        except HttpProcessingError as error:
            body.set_exception(web.RequestPayloadError(str(error)))
        if body.exception() is not None:
            self._ended = True
        elif body.is_eof():
            self._body, self._ended = None, self._last
        return self._body is None or end > at, end

    def _deliver(self, message: RawRequestMessage | _ErrInfo, body: StreamReader) -> None:
        self._owed += 1
        self._request_count += 1
        self._messages.append((message, body))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _refuse(self, error: Refused) -> None:
        """Answer the last that is answered here."""
        self._stop_timer()
        self._ended = True
        told = _ErrInfo(status=error.status, exc=error, message=str(error))
        self._deliver(told, EMPTY_PAYLOAD)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no request, or to a handler that failed."""
        if not isinstance(exc, Refused):
            super().handle_error(request, status, exc, message)  # which logs it
            return plain(status, HTTPStatus(status).phrase + ".", close=True)
        self._refused()
        answer = _Refusal(status=status, text=f"{exc}\n", headers={"Cache-Control": "no-store"})
        if status == 405:
            answer.headers["Allow"] = "GET, HEAD"
        answer.force_close()
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write an answer, and end the connection behind the last one."""
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                resp, lost = await super().finish_response(request, resp, start_time)
        except TimeoutError:  # nobody reads it
            if self.transport is not None:
                self.transport.abort()
            return resp, True
        self._owed -= 1
        if not lost and (not resp.keep_alive or (self._ended and not self._owed)):
            self._leave()
        return resp, lost

    def _leave(self) -> None:
        """End our side at once, and the connection when the peer has ended its own."""
        self._stop_timer()
        self._ended = self._force_close = True  # the latter keeps aiohttp from closing
        if (transport := self.transport) is None or transport.is_closing():
            return
        if self._peer_ended:
            transport.close()
            return
        transport.write_eof()
        self._resume_transport_reading()
        self._timer = self._loop.call_later(LINGER_SECONDS, transport.close)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer what was asked before the peer ended its side."""
        self._ended = self._peer_ended = True
        self._stop_timer()
        if self._body is not None:
            self._body.set_exception(web.RequestPayloadError("The body is not complete."))
        return self._owed > 0

    def connection_lost(self, exc: BaseException | None) -> None:
        """The end of it all."""
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Refusal(web.Response):
    """An answer to something that is no request, as any other of the edge."""

    async def _prepare_headers(self) -> None:
        assert self._req is not None
        self._req._version = HttpVersion11
        await super()._prepare_headers()
        self.headers.pop("Server", None)


class _Server(web.Server):
    def __init__(self, made: web.Server, refused: Callable[[], None]) -> None:
        super().__init__(
            made.request_handler,
            request_factory=made.request_factory,
            loop=made._loop,
            **made._kwargs,
        )
        self._refused = refused

    def __call__(self) -> RequestHandler:
        return Connection(self, self._refused, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """An AppRunner of such connections; once set up, `server()` makes one."""

    def __init__(self, app: web.Application, refused: Callable[[], None], **options: Any) -> None:
        """`refused` is called for each request that is not let through to the application."""
        super().__init__(app, access_log=None, **options)
        self._refused = refused

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server(), self._refused)


def _message(head: Head) -> RawRequestMessage:
    """A head as aiohttp has it, but for Expect: a handler that wants the body asks for it."""
    headers = CIMultiDict(
        (name.decode(), value.decode("utf-8", "surrogateescape"))
        for name, value in head.fields
        if name.lower() != b"expect"
    )
    return RawRequestMessage(
        head.method,
        head.target,
        HttpVersion11 if head.minor else HttpVersion10,
        CIMultiDictProxy(headers),
        tuple(head.fields),
        head.close,
        None,
        False,
        head.length is None,
        URL.build(path=head.path, query_string=head.query, encoded=True),
    )
