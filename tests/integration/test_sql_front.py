"""ClickHouse's HTTP interface over chDB, as clickhouse-connect and curl speak it.

With HELIOGRAPH_TEST_CLICKHOUSE the same tests tell whether a real server behaves alike.
"""

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.engine import Engine, client
from tests.engine import clickhouse_url as clickhouse_url
from tests.engine import engine as engine
from tests.services import require

ROWS = b'{"a":1,"b":"one"}\n\n{"a":2,"b":"two\\n\\nlines; DROP TABLE t"}\n'


@pytest.fixture
def database(clickhouse_url: str) -> Iterator[str]:
    made = client(clickhouse_url)
    made.command("CREATE DATABASE front_test ENGINE = Atomic")
    made.command("CREATE TABLE front_test.t (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
    yield clickhouse_url
    made.command("DROP DATABASE front_test SYNC")


def test_a_batch_goes_from_the_stage_to_the_table(database: str) -> None:
    it = client(database)
    it.command("CREATE TABLE front_test.stage (a UInt64, b String) ENGINE = Memory")
    summary = it.raw_insert("front_test.stage", insert_block=ROWS, fmt="JSONEachRow")
    assert summary.written_rows == 2
    it.command("INSERT INTO front_test.t SELECT a, b FROM front_test.stage WHERE a NOT IN (7)")
    it.command("DROP TABLE front_test.stage SYNC")
    found = it.query("SELECT a, b FROM front_test.t ORDER BY a")
    assert found.result_rows == [(1, "one"), (2, "two\n\nlines; DROP TABLE t")]
    assert int(found.summary["read_rows"]) == 2


def test_rows_parameters_settings_and_formats(database: str) -> None:
    it = client(database)
    it.insert("front_test.t", [[i, f"name {i}"] for i in range(1000)], column_names=["a", "b"])
    it.raw_insert("front_test.t", ["a"], b"5000\n", fmt="CSV", compression=None)
    assert it.command("SELECT count() FROM front_test.t") == 1001
    picked = it.query("SELECT b FROM front_test.t WHERE a = {n:UInt64}", parameters={"n": 7})
    assert picked.result_rows == [("name 7",)]
    limited = it.query("SELECT a FROM front_test.t", settings={"limit": 3})
    assert limited.row_count == 3
    assert it.query("SELECT a FROM front_test.t WHERE a > 9000").result_rows == []
    assert it.raw_query("SELECT 1 AS x", fmt="JSONEachRow") == b'{"x":1}\n'
    assert it.command("ALTER TABLE front_test.t ADD COLUMN c UInt8 DEFAULT 3") is not None
    it.command("TRUNCATE TABLE front_test.t")
    assert it.command("SELECT sum(c) FROM front_test.t") == 0
    assert client(database, database="front_test").command("SELECT count() FROM t") == 0


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("SELECT * FROM front_test.nothing", 60),
        ("INSERT INTO front_test.nothing SELECT 1", 60),
        ("SELEC 1", 62),
        ("SELECT nope", 47),
        ("SELECT 1 SETTINGS nope = 1", 115),
        ("CREATE TABLE front_test.t (a UInt64) ENGINE = Memory", 57),
        ("SELECT throwIf(1)", 395),
    ],
)
def test_errors_keep_their_code(database: str, statement: str, code: int) -> None:
    with pytest.raises(DatabaseError) as raised:
        client(database).command(statement)
    assert raised.value.code == code


def test_a_bad_line_is_a_parse_error_and_leaves_nothing(database: str) -> None:
    it = client(database)
    with pytest.raises(DatabaseError) as raised:
        it.raw_insert("front_test.t", insert_block=ROWS + b'{"a":"x"}\n', fmt="JSONEachRow")
    assert raised.value.code in (6, 27, 72)
    with pytest.raises(DatabaseError) as raised:
        it.raw_insert("front_test.nothing", insert_block=ROWS, fmt="JSONEachRow")
    assert raised.value.code == 60
    assert it.command("SELECT count() FROM front_test.t") == 0


def _slow_insert(url: str, seconds: float, done: list[bool]) -> None:
    rows = int(seconds * 10)
    client(url).command(
        "INSERT INTO front_test.t SELECT number, toString(sleepEachRow(0.1))"
        f" FROM front_test.stage LIMIT {rows}",
        settings={"max_block_size": 5, "max_threads": 1},
    )
    done.append(True)


def _await_insert(it: Any) -> None:
    running = "SELECT count() FROM system.processes WHERE query_kind = 'Insert'"
    deadline = time.monotonic() + 60
    while not it.command(running):
        assert time.monotonic() < deadline


def test_a_drop_waits_for_the_insert_that_runs(database: str) -> None:
    it = client(database)
    it.command("CREATE TABLE front_test.stage (number UInt64) ENGINE = Memory")
    it.command("INSERT INTO front_test.stage SELECT number FROM numbers(100)")
    done: list[bool] = []
    insert = threading.Thread(target=_slow_insert, args=(database, 2, done))
    insert.start()
    _await_insert(it)
    assert it.command("SELECT 1") == 1, "others are served meanwhile"
    it.command("DROP TABLE front_test.stage SYNC")
    assert it.command("SELECT count() FROM front_test.t") == 20, "the drop came back after it"
    insert.join()
    assert done, "the insert was not cut off"
    with pytest.raises(DatabaseError) as raised:
        it.command("INSERT INTO front_test.t SELECT number, '' FROM front_test.stage")
    assert raised.value.code == 60, "who comes later finds no table"


def test_an_insert_goes_on_when_its_client_is_gone(database: str) -> None:
    it = client(database)
    statement = (
        b"INSERT INTO front_test.t SELECT number, toString(sleepEachRow(0.1)) FROM numbers(30)"
    )
    head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(statement)}\r\n\r\n"
    parts = urlsplit(database)
    with socket.create_connection((parts.hostname, parts.port)) as gone:
        gone.sendall(head.encode() + statement)
        _await_insert(it)
    deadline = time.monotonic() + 60
    while it.command("SELECT count() FROM front_test.t") != 30:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_what_was_answered_outlives_kill_9(engine: Engine) -> None:
    it = client(engine.url)
    it.command("CREATE DATABASE d ENGINE = Atomic")
    it.command("CREATE TABLE d.t (a UInt64) ENGINE = MergeTree ORDER BY a")
    it.command("CREATE TABLE d.stage (a UInt64) ENGINE = Memory")
    it.raw_insert("d.stage", insert_block=b'{"a":1}\n', fmt="JSONEachRow")
    it.command("INSERT INTO d.t SELECT * FROM d.stage")
    before, pid = engine.url, engine.pid
    engine.restart()
    assert (engine.url, engine.pid != pid) == (before, True)
    again = client(engine.url)
    assert again.command("SELECT sum(a) FROM d.t") == 1
    assert again.command("SELECT count() FROM d.stage") == 0, "a Memory table starts empty"


def _get(url: str, **options: Any) -> urllib3.BaseHTTPResponse:
    return urllib3.request("GET", url, retries=False, **options)


def test_curl_and_the_headers(engine: Engine) -> None:
    url = f"{engine.url}/?query=SELECT+number+AS+n+FROM+numbers(2)"
    require(shutil.which("curl"), "curl is not installed")
    told = subprocess.run(["curl", "-sS", url], capture_output=True, check=True, timeout=60)
    assert told.stdout == b"0\n1\n"
    answer = _get(url + "&default_format=JSON&query_id=q1")
    assert answer.json()["data"] == [{"n": 0}, {"n": 1}]
    assert answer.headers["X-ClickHouse-Format"] == "JSON"
    assert answer.headers["X-ClickHouse-Query-Id"] == "q1"
    assert answer.headers["Content-Type"] == "application/json; charset=UTF-8"
    assert json.loads(answer.headers["X-ClickHouse-Summary"])["read_rows"] == "2"
    named = _get(url, headers={"X-ClickHouse-Format": "CSVWithNames"})
    assert named.data == b'"n"\n0\n1\n'
    assert _get(f"{url}+FORMAT+Parquet").data[:4] == b"PAR1"
    assert _get(f"{engine.url}/ping").data == b"Ok.\n"
    assert _get(engine.url).data == b"Ok.\n"


def test_errors_have_the_status_of_a_server(engine: Engine) -> None:
    def status(text: str, method: str = "POST") -> tuple[int, str | None]:
        url = f"{engine.url}/" + (f"?query={text}" if method == "GET" else "")
        answer = urllib3.request(method, url, body=text if method == "POST" else None)
        return answer.status, answer.headers.get("X-ClickHouse-Exception-Code")

    assert status("SELEC 1") == (400, "62")
    assert status("SELECT * FROM nothing") == (404, "60")
    assert status("SELECT throwIf(1)") == (500, "395")
    assert status("CREATE+DATABASE+x", "GET") == (500, "164"), "GET changes nothing"
    compressed = _get(f"{engine.url}/?query=SELECT+1&compress=1")
    assert compressed.status == 501, "refused, not answered in the wrong form"


def test_the_text_may_be_split_between_url_and_body(engine: Engine) -> None:
    it = client(engine.url)
    it.command("CREATE TABLE default.v (a UInt64) ENGINE = Memory")
    url = f"{engine.url}/?query=INSERT+INTO+default.v+FORMAT+TSV"
    assert urllib3.request("POST", url, body=b"1\n2\n").status == 200
    assert urllib3.request("POST", engine.url, body="INSERT INTO v VALUES (3), (4)").status == 200
    quoted = "INSERT INTO v SETTINGS log_comment = 'it''s FORMAT x' FORMAT TSV\n5\n\n6\n"
    assert urllib3.request("POST", engine.url, body=quoted).status == 200
    rows = it.command("SELECT groupArray(a) FROM (SELECT a FROM default.v ORDER BY a)")
    assert rows == "[0,1,2,3,4,5,6]", "an empty line is data, not the end of it"
    form = {"query": "SELECT {x:String}", "param_x": "a\\tb"}
    assert urllib3.request("POST", engine.url, fields=form).data == b"a\\tb\n"
