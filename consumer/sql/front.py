"""ClickHouse's HTTP interface over chDB, for curl and clickhouse-connect.

`read_only` is the SQL port of the embedded store: every request passes the gate (gate.py) on a
connection of its own. Without it, it is a whole ClickHouse over HTTP as the tests need it, and no
more: no users, no sessions, no answer in pieces. As in a server, a statement that has begun goes
on when its client goes away.
"""

import asyncio
import hmac
import json
import logging
import os
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from aiohttp import hdrs, web

from consumer.sql.gate import OWNER_LIMITS, Gate, Limits, Refused, quote

UNKNOWN_SETTING, TIMEOUT, BUSY, TOO_LARGE, NOT_IMPLEMENTED, OTHER = 115, 159, 202, 307, 48, 1002
# The HTTP status that a ClickHouse server gives an error code; 500 is the rule.
_STATUS = {
    **dict.fromkeys((192, 193, 497, 516), 403),
    **dict.fromkeys((6, 25, 26, 27, 36, 38, 41, 44, 53, 62, 72, 117, 167, 168, 321, 427), 400),
    **dict.fromkeys((16, 46, 47, 50, 56, 60, 63, 73, 81, 115), 404),
    NOT_IMPLEMENTED: 501,
    TIMEOUT: 408,
    BUSY: 503,
    TOO_LARGE: 413,
}
_CODE = re.compile(r"Code: (\d+)\.")
_INSERT = re.compile(
    rb"\s*(INSERT\s+INTO\s(?:(?!\bSELECT\b|\bSETTINGS\b)[^;'])*?)"
    rb"(\sSETTINGS\s(?:'(?:[^'\\]|\\.)*'|[^;'])*?)?\s(?:FORMAT\s+(\w+)|VALUES)(?:\s|(?=\()|$)",
    re.IGNORECASE,
)
_ROWS = re.compile(r"[\s(]*(?:SELECT|WITH|SHOW|DESC|DESCRIBE|EXISTS|EXPLAIN)\b", re.IGNORECASE)
_HOST = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?", re.IGNORECASE)
_TYPES = {
    "JSON": "application/json; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8",
    "T": "text/tab-separated-values; charset=UTF-8",  # TSV, TabSeparated and what follows
    **dict.fromkeys(("Native", "Row", "Parquet", "Arrow", "ORC"), "application/octet-stream"),
}
_LOG = logging.getLogger(__name__)
# What belongs to the transport and is no setting of the engine.
_TRANSPORT = """
query database default_format query_id session_id session_timeout session_check user password
quota_key role buffer_size wait_end_of_query client_protocol_version compress decompress
enable_http_compression send_progress_in_http_headers http_headers_progress_interval_ms
cancel_http_readonly_queries_on_client_close
"""

#: Who shows the secret of the data directory in it is its owner.
OWNER_HEADER = "X-Heliograph-Owner"

Connect = Callable[[], Any]


@dataclass(frozen=True)
class _Question:
    """One request: the text, the data of an INSERT that the URL says, and what else that and the
    headers say.
    """

    text: bytes
    data: Sequence[bytes]
    database: str
    format: str
    query_id: str
    get: bool
    settings: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Answer:
    body: bytes
    format: str | None
    summary: Mapping[str, str]


async def _read(request: web.Request, limits: Limits) -> _Question:
    """Take the request apart; ClickHouse joins the text of URL and body.

    The data of an INSERT stays as it came: a batch is large, and each copy takes time.
    """
    values = dict(request.query)
    body: list[bytes] = []
    try:
        async with asyncio.timeout(limits.queue_seconds):
            if request.content_type == "multipart/form-data":
                form = await request.post()
                values |= {k: v for k, v in form.items() if isinstance(v, str)}
            else:
                body = _decode(await _body(request), request.headers.get(hdrs.CONTENT_ENCODING))
    except TimeoutError:
        raise Refused(TIMEOUT, "The request did not arrive in time. (TIMEOUT_EXCEEDED)") from None
    except web.HTTPRequestEntityTooLarge:
        raise Refused(TOO_LARGE, "The request is too large. (QUERY_IS_TOO_LARGE)") from None
    if values.get("compress", "0") != "0" or values.get("decompress", "0") != "0":
        raise Refused(NOT_IMPLEMENTED, "compress and decompress are not spoken. (NOT_IMPLEMENTED)")
    url_text = values.get("query", "").encode()
    insert = _INSERT.match(url_text)
    whole = insert is not None and insert.end() == len(url_text)
    text = [url_text, *([b"\n"] if url_text and body else []), *([] if whole else body)]
    params = {k.removeprefix("param_"): v for k, v in values.items() if k.startswith("param_")}
    other = {k: v for k, v in values.items() if not k.startswith("param_")}
    return _Question(
        text=b"".join(text),
        data=body if whole else [],
        database=values.get("database", ""),
        format=values.get("default_format") or request.headers.get("X-ClickHouse-Format") or "TSV",
        query_id=values.get("query_id") or str(uuid.uuid4()),
        get=request.method == "GET",
        settings={k: v for k, v in other.items() if k not in _TRANSPORT.split()},
        params=params,
    )


async def _body(request: web.Request) -> list[bytes]:
    """The body in the pieces that it came in."""
    chunks, left = [], request.client_max_size
    async for chunk in request.content.iter_any():
        chunks.append(chunk)
        left -= len(chunk)
        if left < 0:
            raise web.HTTPRequestEntityTooLarge(request.client_max_size, -left)
    return chunks


def _decode(body: list[bytes], encoding: str | None) -> list[bytes]:
    """aiohttp has undone gzip and deflate; lz4 is what clickhouse-connect inserts with."""
    if encoding != "lz4":
        return body
    import lz4.frame  # type: ignore[import-untyped]

    return [lz4.frame.decompress(b"".join(body))]


def _ask(connection: Any, question: _Question, gate: Gate) -> _Answer:
    """Answer a reader."""
    gate.enter(connection, question.database, question.settings)
    if len(question.text) > gate.limits.text_size:
        raise Refused(TOO_LARGE, "The text is too large. (QUERY_IS_TOO_LARGE)")
    text = question.text.decode()
    statement, wanted = gate.admit(connection, text, question.params)
    form = gate.check_format(wanted or question.format)
    result = connection.query(f"{statement} FORMAT {form}", params=dict(question.params))
    return _answer(result, form)


def _run(connection: Any, question: _Question) -> _Answer:
    """Do what a client of the whole engine says."""
    if question.database:
        connection.query(f"USE `{question.database}`")
    for name, value in question.settings.items():
        if not re.fullmatch(r"\w+", name):
            raise Refused(UNKNOWN_SETTING, f"Setting {name!r} is unknown. (UNKNOWN_SETTING)")
        connection.query(f"SET {name} = {quote(value)}")
    if question.get:
        connection.query("SET readonly = 2")  # as a server does: GET changes nothing
    if insert := _INSERT.match(question.text):
        form = (insert[3] or b"Values").decode()
        # Data inside a statement would end at an empty line, and the rest would run as SQL; what
        # send_insert takes is lost without a word where a constraint refuses it.
        with os.fdopen(os.memfd_create("insert"), "wb") as file:
            file.write(memoryview(question.text)[insert.end() :])
            file.writelines(question.data)
            file.flush()
            target, settings = insert[1].decode(), (insert[2] or b"").decode()
            name = quote(f"/proc/self/fd/{file.fileno()}")
            into = f"{target} FROM INFILE {name}{settings} FORMAT {form}"
            done = connection.query(into)
        written = {"written_rows": str(done.rows_read()), "written_bytes": str(done.bytes_read())}
        return _Answer(b"", None, written | {"elapsed_ns": str(int(done.elapsed() * 1e9))})
    text = question.text.decode()
    result = connection.query(text, question.format, params=dict(question.params))
    wanted = re.search(r"\bFORMAT\s+(\w+)\s*;?\s*$", text, re.IGNORECASE)
    form = wanted[1] if wanted else question.format
    return _answer(result, form if _ROWS.match(text) else None)


def _answer(result: Any, form: str | None) -> _Answer:
    summary = {"read_rows": str(result.rows_read()), "read_bytes": str(result.bytes_read())}
    summary |= {"written_rows": "0", "elapsed_ns": str(int(result.elapsed() * 1e9))}
    return _Answer(result.bytes() or b"", form, summary)


class _Front:
    def __init__(
        self, connect: Connect, gates: tuple[Gate, Gate] | None, limits: Limits, owner: str
    ) -> None:
        self._connect = connect
        self._gates = gates  # a stranger's and the owner's
        self._owner = owner.encode()
        self._limits = limits
        self._threads = ThreadPoolExecutor(limits.concurrency, "sql")
        self._slots = asyncio.Semaphore(limits.concurrency)
        self._waiting = 0

    async def query(self, request: web.Request) -> web.Response:
        try:
            question = await _read(request, self._limits)
            if not question.text:
                return web.Response(text="Ok.\n")
            answer = await self._in_turn(question, self._gate(request))
        except ConnectionResetError:  # who asked is gone
            return web.Response()
        except Exception as error:
            return _failure(error)
        headers = {
            "X-ClickHouse-Query-Id": re.sub(r"[^\w.-]", "", question.query_id),
            "X-ClickHouse-Summary": json.dumps(answer.summary),
        }
        form = answer.format
        if form:
            headers["X-ClickHouse-Format"] = form
        kind = next((v for k, v in _TYPES.items() if form and form.startswith(k)), None)
        headers[hdrs.CONTENT_TYPE] = kind or "text/plain; charset=UTF-8"
        return web.Response(body=answer.body, headers=headers)

    def _gate(self, request: web.Request) -> Gate | None:
        if self._gates is None:
            return None
        shown = request.headers.get(OWNER_HEADER, "").encode("utf-8", "surrogateescape")
        return self._gates[bool(self._owner) and hmac.compare_digest(shown, self._owner)]

    async def _in_turn(self, question: _Question, gate: Gate | None) -> _Answer:
        """Wait for a slot, then for the answer, each within its time.

        The slot is given back when the thread ends, not when the client has had its answer: an
        engine that is late in noticing its deadline must not be given more to do.
        """
        if self._waiting >= self._limits.queue:
            raise Refused(BUSY, "Too many queries wait. (TOO_MANY_SIMULTANEOUS_QUERIES)")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._limits.queue_seconds):
                await self._slots.acquire()
        except TimeoutError:
            why = "Too many queries run. (TOO_MANY_SIMULTANEOUS_QUERIES)"
            raise Refused(BUSY, why) from None
        finally:
            self._waiting -= 1
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._work, question, gate)
        work.add_done_callback(self._finished)
        if gate is None:
            return await asyncio.shield(work)
        try:
            async with asyncio.timeout(gate.limits.seconds + 2):
                return await asyncio.shield(work)
        except TimeoutError:
            raise Refused(TIMEOUT, "Timeout exceeded. (TIMEOUT_EXCEEDED)") from None

    def _finished(self, work: asyncio.Future[_Answer]) -> None:
        self._slots.release()
        if not work.cancelled():
            work.exception()  # the client may be gone; nobody else asks for it

    def _work(self, question: _Question, gate: Gate | None) -> _Answer:
        connection = self._connect()
        try:
            if gate is None:
                return _run(connection, question)
            return _ask(connection, question, gate)
        finally:
            connection.close()

    async def close(self, _: web.Application) -> AsyncIterator[None]:
        yield
        self._threads.shutdown(wait=False, cancel_futures=True)


def _failure(error: Exception) -> web.Response:
    """An error as a server words it: status, code in a header, message in the body."""
    message = str(error) or type(error).__name__
    found = _CODE.search(message)
    if found is None:
        _LOG.error("A request failed outside the engine", exc_info=error)
    code = int(found[1]) if found else OTHER
    body = message[found.start() :] if found else f"Code: {OTHER}. DB::Exception: {message}"
    body = body.split(": In scope SELECT formatQuerySingleLine", 1)[0]  # the gate's own question
    headers = {"X-ClickHouse-Exception-Code": str(code)}
    return web.Response(status=_STATUS.get(code, 500), text=body + "\n", headers=headers)


@web.middleware
async def _local_only(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Keep web pages out, also those whose name was rebound to this machine."""
    hosts = request.headers.getall(hdrs.HOST, [])
    from_page = request.headers.get("Sec-Fetch-Site", "none") != "none"
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        return web.Response(status=403, text="This port answers to a loopback name only.\n")
    if hdrs.ORIGIN in request.headers or from_page:
        return web.Response(status=403, text="This port does not answer web pages.\n")
    response = await handler(request)
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


async def _ping(_: web.Request) -> web.Response:
    return web.Response(text="Ok.\n")


def sql_app(
    connect: Connect,
    *,
    read_only: bool,
    limits: Limits | None = None,
    database: str = "heliograph",
    owner: str = "",
) -> web.Application:
    """The HTTP front of an open chDB engine, to be served on a loopback address.

    `connect` opens one more connection to the engine (`chdb.connect` of the path that is open in
    this process); each request gets one and closes it. With `read_only` only questions to the
    tables and views of `database` pass, within `limits`, or wide ones for whoever shows the secret
    `owner`; without it there is no gate at all, and of the limits only `concurrency` and the
    queue hold.
    """
    limits = limits or Limits()
    gates = (Gate(database, limits), Gate(database, OWNER_LIMITS)) if read_only else None
    front = _Front(connect, gates, limits, owner)
    size = limits.text_size if read_only else 1 << 31
    app = web.Application(middlewares=[_local_only], client_max_size=size)
    app.router.add_get("/ping", _ping)
    app.router.add_get("/", front.query, allow_head=False)
    app.router.add_post("/", front.query)
    app.cleanup_ctx.append(front.close)
    return app
