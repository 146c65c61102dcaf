"""Asking the store: the SQL port of a running `up`, the store of a stopped one, or ClickHouse.

Whoever is asked, nothing can be changed by a question: the SQL port and the stopped store have
their gate (consumer.sql.gate), ClickHouse gets `readonly = 1`.
"""

import contextlib
import http.client
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlencode, urlsplit

from consumer.settings import ConsumerSettings
from heliograph import data_dir
from heliograph.errors import Failure, UsageError
from heliograph.http import connect
from schemas.words import questions

_READONLY: Final = "164"
_STARTING_SECONDS: Final = 15.0
_ANSWER_SECONDS: Final = 600.0
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"})


class Answer(NamedTuple):
    """The bytes of a result, and the format they are in: the one asked for, unless the SQL names
    another."""

    format: str
    chunks: Iterator[bytes]


def canned(name: str) -> str:
    """The text of schemas/queries/<name>.sql."""
    return questions()[name]


@contextlib.contextmanager
def open_store(
    settings: ConsumerSettings, *, live: bool = False, seconds: float = _ANSWER_SECONDS
) -> Iterator["Store"]:
    """The store that the settings name; raises UsageError or Failure.

    Where `up` does not run, what its journals still hold is taken in first; with `live`, only a
    store that something writes to will do. One behind HTTP has so many `seconds` for an answer.
    """
    if settings.clickhouse:
        yield HttpStore(settings.clickhouse, settings.database, server=True, seconds=seconds)
        return
    if sql := running_sql(settings.data):
        owner = owner_secret(settings.data)
        yield HttpStore(sql, settings.database, server=False, owner=owner, seconds=seconds)
    elif live:
        raise Failure(f"`heliograph up` does not run on {settings.data}: nothing is counted")
    else:
        with _stopped(settings) as store:
            yield store


def running_sql(data: Path) -> str:
    """The SQL port's URL of the `up` that runs on a directory; "" if none does.

    Waits for one that just starts. Raises UsageError if the directory holds nothing of ours.
    """
    if not any((data / name).exists() for name in ("format", "journal", "store")):
        raise UsageError(f"nothing is in {data}: run `heliograph up`, or name another --data or "
                         "--clickhouse")  # fmt: skip
    data_dir.check_format(data)
    if data_dir.owner(data)[0] == "collect":  # what is counted here would never be shipped
        raise UsageError(f"{data} is shipped to Kafka by `collect`: ask its store, --clickhouse")
    deadline = time.monotonic() + _STARTING_SECONDS
    while data_dir.is_up(data):
        if found := data_dir.running(data):
            return found.sql
        if time.monotonic() > deadline:
            raise Failure(f"`heliograph up` on {data} is starting or stopping: try again")
        time.sleep(0.1)
    return ""


def owner_secret(data: Path) -> str:
    """What lifts the SQL port's bounds; "" where it may not be read."""
    try:
        return (data / "sql.key").read_text("ascii")
    except OSError:  # somebody else's store: the port's own bounds hold
        return ""


def message(text: str) -> str:
    """An engine's error without what is of no use to the one who asked."""
    text = re.sub(r"\s*\(version [^()]*(?:\([^()]*\))?\)\.?", "", text)
    text = re.sub(r"^.*Code: \d+\. (?:DB::Exception: )?", "", text, flags=re.DOTALL)
    return re.sub(r"(\s\([A-Z_]+\))(?:\.?\1)+", r"\1", text).strip()


class HttpStore:
    """A store behind ClickHouse's HTTP interface."""

    def __init__(
        self,
        url: str,
        database: str,
        *,
        server: bool,
        owner: str = "",
        seconds: float = _ANSWER_SECONDS,
    ) -> None:
        """`server`: it is a ClickHouse, not the SQL port of `up`, which `owner` opens wide."""
        self._url = urlsplit(url)
        if self._url.scheme not in ("http", "https") or not self._url.hostname:
            raise UsageError(f"{url!r} is no http or https URL of ClickHouse")
        self._database = database
        self._server = server
        self._seconds = seconds
        self._headers = {"Content-Type": "text/plain; charset=utf-8"}
        if owner:
            self._headers["X-Heliograph-Owner"] = owner
        if self._url.username:
            self._headers["X-ClickHouse-User"] = unquote(self._url.username)
            self._headers["X-ClickHouse-Key"] = unquote(self._url.password or "")

    def query(self, sql: str, params: Mapping[str, object], format: str) -> Answer:
        """One SELECT with its {name:Type} parameters; raises Failure in the engine's words."""
        asked: dict[str, str] = {"database": self._database, "default_format": format}
        asked |= {f"param_{name}": str(v).translate(_ESCAPES) for name, v in params.items()}
        if self._server:  # its errors then come before any byte of an answer
            asked |= {"wait_end_of_query": "1", "readonly": "1"}
        answer = self._send("POST", asked, sql)
        if answer.getheader("X-ClickHouse-Exception-Code") == _READONLY and self._server:
            # A user who is read-only by profile may not even say so. GET never changes anything.
            del asked["readonly"]
            answer = self._send("GET", asked, sql)
        if answer.status != 200:
            raise Failure(message(answer.read().decode("utf-8", "replace")))
        chunks = iter(lambda: answer.read(1 << 16), b"")
        return Answer(answer.getheader("X-ClickHouse-Format") or format, chunks)

    def _send(self, method: str, asked: Mapping[str, str], sql: str) -> http.client.HTTPResponse:
        where = f"{self._url.hostname}:{self._url.port or ''}".rstrip(":")
        body = sql.encode() if method == "POST" else b""
        query = urlencode(asked if method == "POST" else {**asked, "query": sql})
        path = f"{self._url.path or '/'}?{query}"
        try:
            connection = connect(self._url, (8123, 8443), self._seconds)
            connection.request(method, path, body, self._headers)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"the store at {where} does not answer: {error}") from None


@contextlib.contextmanager
def _stopped(settings: ConsumerSettings) -> Iterator["Store"]:
    """The store of a data directory on which no `up` runs."""
    from consumer.embedded import take_in

    logging.basicConfig(level=logging.WARNING, format="heliograph: %(message)s")
    slow = threading.Timer(2.0, print, ["counting what the journals hold …"], {"file": sys.stderr})
    slow.daemon = True
    slow.start()
    with take_in(settings):
        slow.cancel()
        yield StoppedStore(settings)


class StoppedStore:
    """The store that `take_in` holds open in this process, behind the SQL port's gate."""

    def __init__(self, settings: ConsumerSettings) -> None:
        from consumer.embedded import store_path
        from consumer.sql.gate import OWNER_LIMITS, Gate

        self._path = str(store_path(settings.data).resolve())
        self._gate = Gate(settings.database, OWNER_LIMITS)

    def query(self, sql: str, params: Mapping[str, object], format: str) -> Answer:
        """As HttpStore.query."""
        import chdb

        from consumer.sql.gate import Refused

        values = {name: str(value).translate(_ESCAPES) for name, value in params.items()}
        connection: Any = chdb.connect(self._path)
        try:
            self._gate.enter(connection, "", {})
            statement, wanted = self._gate.admit(connection, sql, values)
            chosen = self._gate.check_format(wanted or format)
            body = connection.query(f"{statement} FORMAT {chosen}", params=values).bytes()
        except (Refused, RuntimeError) as error:
            raise Failure(message(str(error))) from None
        finally:
            connection.close()
        return Answer(chosen, iter([body or b""]))


Store = HttpStore | StoppedStore
