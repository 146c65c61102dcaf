"""The store: ClickHouse over HTTP, or chDB in this process, through one client interface."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from consumer.errors import Misfit, Poison, StoreTrouble
from consumer.settings import ConsumerSettings
from schemas.rule import quoted

UNKNOWN_TABLE = 60
#: The server's error codes that blame the data, and nothing but the data.
#: https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
POISON_CODES = frozenset(
    {
        6,  # CANNOT_PARSE_TEXT
        25,  # CANNOT_PARSE_ESCAPE_SEQUENCE
        26,  # CANNOT_PARSE_QUOTED_STRING
        27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
        33,  # CANNOT_READ_ALL_DATA: an object without its end
        69,  # ARGUMENT_OUT_OF_BOUND
        72,  # CANNOT_PARSE_NUMBER
        117,  # INCORRECT_DATA: unknown or repeated field
        131,  # TOO_LARGE_STRING_SIZE
        349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
        407,  # DECIMAL_OVERFLOW
        469,  # VIOLATED_CONSTRAINT
    }
)


class TableGone(StoreTrouble):
    """A statement's table does not exist: the staging table was dropped by another consumer."""


@contextmanager
def reactions(*, parsing: bool = False) -> Iterator[None]:
    """Turn the driver's errors into `TableGone`, `StoreTrouble` and, when it parses, `Poison`."""
    try:
        yield
    except ClickHouseError as error:
        code = getattr(error, "code", None)
        if parsing and code in POISON_CODES:
            raise Poison(_reason(error)) from None
        if code == UNKNOWN_TABLE:
            raise TableGone(_reason(error)) from None
        if parsing and isinstance(error.__cause__, UnicodeDecodeError):
            # chDB quotes the data, cut in the middle of a character.
            raise Poison("refused in words that are not UTF-8") from None
        raise StoreTrouble(_reason(error)) from error
    except OSError as error:
        raise StoreTrouble(str(error)) from error


def _reason(error: Exception) -> str:
    """The engine's words on one line, without its place in temporary files."""
    text = " ".join(str(error).split())
    return text.split(": (in file/uri", 1)[0].removeprefix("Code: ")[:500]


def connect(settings: ConsumerSettings) -> Client:
    """A client of the ClickHouse server that the settings name; raises Misfit on a bad URL.

    The driver repeats no statement that changes anything (1.12), but for raw inserts, which only
    go to staging tables, where a repeated row is not counted twice.
    """
    url = urlsplit(settings.clickhouse)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise Misfit(f"HELIOGRAPH_CLICKHOUSE: {settings.clickhouse!r} is no http(s) URL")
    with reactions():
        return clickhouse_connect.get_client(
            interface=url.scheme,
            host=url.hostname,
            port=url.port or (8443 if url.scheme == "https" else 8123),
            username=unquote(url.username or "default"),
            password=unquote(url.password or ""),
            connect_timeout=10,
            send_receive_timeout=settings.clickhouse_timeout,
            query_retries=0,
            autogenerate_session_id=False,
        )


def dictionary_access(settings: ConsumerSettings) -> str:
    """What the source of a dictionary says of who reads it: the user of the settings' URL."""
    url = urlsplit(settings.clickhouse)
    if not url.username:
        return ""
    user, password = (quoted(unquote(text or "")) for text in (url.username, url.password))
    return f" USER {user} PASSWORD {password}"


def open_embedded(path: Path) -> Client:
    """A client of the engine in this process, on the store at a path.

    One process at a time holds a store: raises StoreTrouble while another does.
    """
    path.mkdir(parents=True, exist_ok=True)
    with reactions():
        return clickhouse_connect.get_client(interface="chdb", path=str(path))


def patiently(
    open_store: Callable[[], Client], seconds: float, sleep: Callable[[float], None] = time.sleep
) -> Client:
    """Open a store that another process may be about to let go; raises StoreTrouble at last."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return open_store()
        except StoreTrouble:
            if time.monotonic() >= deadline:
                raise
            sleep(0.2)


def rows(client: Client, sql: str, **settings: Any) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    with reactions():
        return [tuple(row) for row in client.query(sql, settings=settings).result_rows]


def execute(client: Client, sql: str, **settings: Any) -> None:
    """Run one statement."""
    with reactions():
        client.command(sql, settings=settings)
