"""The read-only SQL port, attacked.

Each refused text is a way in that was found open under `readonly = 1`, or that looks like one. The
engine has a secret in a file and one in another database; no answer may hold either.
"""

import concurrent.futures
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from consumer.sql.gate import allowed_functions
from schemas.words import questions
from tests.collecting import wait_for
from tests.engine import Engine, client
from tests.sql_statements import NO_QUESTION, NO_STATEMENT, QUESTIONS, REFUSED

SECRET = "s3cr3t"

DANGEROUS = """
file url s3 python executable remote format values merge input eval loop null
sleep sleepEachRow joinGet joinGetOrNull dictGet dictGetOrDefault hasColumnInTable hostName FQDN
getServerSetting getSetting getMacro getOSKernelVersion catboostEvaluate evalMLMethod
filesystemAvailable reverseDNSQuery addressToLine demangle logTrace throwIf lambda arrayMap
arrayFilter arraySort arrayFold mapApply arrayReduce initializeAggregation formatRow formatQuery
repeat space leftPad has indexOf arrayJoin unnest structureToProtobufSchema viewExplain
currentProfiles showCertificate tcpPort serverUUID __getScalar __actionName flameGraph
"""


class Port:
    """The read-only port with what the attacks name."""

    def __init__(self, engine: Engine, directory: Path, listener: socket.socket) -> None:
        self.engine = engine
        self.url = engine.sql_url
        self.directory = directory
        self.listener = listener

    def text(self, template: str) -> str:
        """The attack with its real path and port."""
        names = {
            "BARE": f"{self.directory}/secret.csv",
            "PATH": f"'{self.directory}/secret.csv'",
            "TICK": f"`{self.directory}/secret.csv`",
            "OUT": f"'{self.directory}/out'",
            "PORT": str(self.listener.getsockname()[1]),
            "SECRET": f"'{SECRET}'",
        }
        return re.sub(rf"\b(?:{'|'.join(names)})\b", lambda m: names[m[0]], template)

    def ask(self, text: str, **values: str) -> tuple[int, int, str]:
        """Status, exception code (0: none) and body."""
        fields = {"query": text, **values} if values else None
        body = None if values else text
        answer = urllib3.request(
            "POST", self.url, body=body, fields=fields, retries=False, timeout=60
        )
        code = int(answer.headers.get("X-ClickHouse-Exception-Code", 0))
        return answer.status, code, answer.data.decode(errors="replace")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port]:
    directory = tmp_path_factory.mktemp("sql")
    (directory / "secret.csv").write_text(f"{SECRET},1\n")
    engine = Engine(directory / "engine", seconds=2, queue_seconds=2, concurrency=2, queue=4)
    it = client(engine.url)
    for statement in (
        "CREATE DATABASE heliograph ENGINE = Atomic",
        "CREATE TABLE heliograph.events (campaign LowCardinality(String), kind String,"
        " recipient String, ts DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY campaign",
        "INSERT INTO heliograph.events SELECT 'c' || toString(number % 3),"
        " ['sent', 'open'][number % 2 + 1], toString(number), now64(3) FROM numbers(1000)",
        "CREATE VIEW heliograph.campaigns AS SELECT campaign, count() AS hits,"
        " arrayMap(x -> x + 1, [1]) AS lambdas FROM heliograph.events GROUP BY campaign",
        "CREATE DATABASE other",
        f"CREATE TABLE other.secret ENGINE = Memory AS SELECT '{SECRET}' AS a",
    ):
        it.command(statement)
    # Opened once, a file of the default database is there for readers too.
    assert it.command(f"SELECT * FROM default.`{directory}/secret.csv`") == [SECRET, "1"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Port(engine, directory, listener)
    engine.stop()


@pytest.mark.parametrize("text", QUESTIONS)
def test_questions_are_answered(port: Port, text: str) -> None:
    status, code, body = port.ask(text)
    assert (status, code) == (200, 0), body


def _attack(port: Port, template: str, codes: tuple[int, ...]) -> None:
    status, code, body = port.ask(port.text(template))
    assert code in codes, (status, code, body)
    assert status >= 400
    assert f"{SECRET}," not in body


@pytest.mark.parametrize("template", NO_QUESTION)
def test_only_questions(port: Port, template: str) -> None:
    _attack(port, template, (164,))


@pytest.mark.parametrize("template", NO_STATEMENT)
def test_one_whole_statement(port: Port, template: str) -> None:
    _attack(port, template, (62,))


@pytest.mark.parametrize("template", REFUSED)
def test_refused(port: Port, template: str) -> None:
    _attack(port, template, (497,))


@pytest.mark.parametrize("name", ["Template", "Protobuf", "CapnProto", "MySQLWire", "DataFrame"])
def test_formats_with_a_schema_file_or_a_protocol(port: Port, name: str) -> None:
    assert port.ask(f"SELECT 1 FORMAT {name}")[1] == 73
    assert port.ask("SELECT 1", default_format=name)[1] == 73


@pytest.mark.parametrize(
    "text",
    [
        "SELECT file(PATH)",
        "SELECT * APPLY (file) FROM (SELECT PATH)",
        "SELECT arrayMap(file, [PATH])",
        "SELECT b FROM values('a UInt8, b String ALIAS file(''BARE'')', 1)",
        "SELECT a FROM other.secret",
        "SELECT c1 FROM default.TICK",
    ],
)
def test_the_holes_are_there_without_the_gate(port: Port, text: str) -> None:
    """Else the tests above prove nothing: readonly alone lets all this through."""
    reader = f"{port.engine.url}/?readonly=1&database=heliograph"
    told = urllib3.request("POST", reader, body=port.text(text))
    assert SECRET in told.data.decode(), told.data


def test_parameters_are_looked_at_as_what_they_become(port: Port) -> None:
    assert port.ask("SELECT {x:String}, {n:UInt8}", param_x="a\\nb", param_n="3")[2] == "a\\nb\t3\n"
    table = "SELECT count() FROM {t:Identifier}"
    assert port.ask(table, param_t="events")[2] == "1000\n"
    for name in ("other.secret", "system.tables", "default./x", "a\\nb"):
        assert port.ask(table, param_t=name)[1] in (497, 457), name
    assert port.ask("SELECT * FROM {d:Identifier}.secret", param_d="other")[1] == 497
    assert port.ask("SELECT 'x' IN {t:Identifier}", param_t="other.secret")[1] == 497
    assert port.ask("SELECT length({f:Identifier})", param_f="file")[1] == 497


def test_our_own_questions_pass_to_the_letter_only(port: Port) -> None:
    text, asked = questions()["stirred"], {"param_campaigns": "['c1']", "param_untils": "[1]"}
    assert port.ask(text, **asked)[1] == 47, "it passes, and there is no such column"
    assert port.ask(text.replace("SELECT", "select", 1), **asked)[1] == 497


def test_settings_and_databases(port: Port) -> None:
    assert port.ask("SELECT 1", max_memory_usage="0")[1] == 164
    assert port.ask("SELECT 1", readonly="0")[1] == 164
    assert port.ask("SELECT 1", output_format_schema="/tmp/x")[1] == 164
    assert port.ask("SELECT 1", database="other")[1] == 497
    assert port.ask("SELECT 1", database="heliograph")[0] == 200
    zone = port.ask("SELECT toString(toDateTime(0))", session_timezone="Asia/Kolkata")
    assert zone[2] == "1970-01-01 05:30:00\n"
    assert port.ask("SELECT 1", session_timezone="x', readonly = '0")[0] != 200


def test_clickhouse_connect_and_curl_are_at_home(port: Port) -> None:
    it = client(port.url)
    assert it.query("SELECT campaign, hits FROM campaigns ORDER BY campaign").result_rows == [
        ("c0", 334),
        ("c1", 333),
        ("c2", 333),
    ]
    asked = it.query("SELECT {a:UInt8} + 1 AS x", parameters={"a": 4})
    assert asked.first_row == (5,)
    got = urllib3.request("GET", f"{port.url}/?query=SELECT+count()+AS+n+FROM+events+FORMAT+JSON")
    assert json.loads(got.data)["data"] == [{"n": 1000}]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:{port}"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost@evil.example"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-origin"},
    ],
)
def test_web_pages_get_nothing(port: Port, headers: dict[str, str]) -> None:
    for method, path in (("GET", "/?query=SELECT+77"), ("POST", "/"), ("GET", "/ping")):
        answer = urllib3.request(method, port.url + path, headers=headers)
        assert answer.status == 403
        assert b"77" not in answer.data
    assert urllib3.request("OPTIONS", port.url).status == 405


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("SELECT sum(number) FROM numbers(1e18)", (159,)),
        ("SELECT number FROM numbers(1e18)", (396,)),
        ("SELECT count() FROM numbers(1e9) AS a CROSS JOIN numbers(1e9) AS b", (159, 241)),
        ("SELECT groupArray(number) FROM numbers(1e9)", (241,)),
        ("SELECT uniqExact(number) FROM numbers(1e10)", (159, 241)),
        ("SELECT * FROM numbers(1e9) ORDER BY number DESC LIMIT 900000", (159, 241)),
        ("SELECT range(1000000000)", (69,)),
        (
            "SELECT toInt64(number) AS a FROM numbers(1) ORDER BY a WITH FILL TO 1000000000000000",
            (159, 241),
        ),
        (f"SELECT 1 AS `{'x' * 60000}` FROM numbers(1e6) FORMAT JSONEachRow", (241,)),
        ("SELECT concat(toString(number), '" + "x" * 1000 + "') FROM numbers(900000)", (396, 241)),
        (
            "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n FROM t) SELECT n FROM t",
            (306, 159),
        ),
        ("SELECT " + "(" * 30000 + "1" + ")" * 30000, (306,)),
        ("SELECT 1" + " + 1" * 15000, (167,)),
        ("SELECT " + "f(" * 20000, (62,)),
        (
            "WITH 1 AS a0, "
            + ", ".join(f"a{i} + a{i} AS a{i + 1}" for i in range(60))
            + " SELECT a60",
            (36,),
        ),
        ("SELECT '" + "x" * 70000 + "'", (307,)),
    ],
)
def test_no_question_takes_everything(port: Port, text: str, codes: tuple[int, ...]) -> None:
    status, code, body = port.ask(text)  # which waits for a minute at most
    # On a busy machine the time may end before another bound is reached.
    assert code in (*codes, 159), (status, code, body[:300])
    wait_for(lambda: port.ask("SELECT 1")[2] == "1\n")  # the port is still there


def test_the_client_is_told_in_time_though_a_function_can_not_be_stopped(port: Port) -> None:
    """A huge constant searched for each row: the engine looks at the clock between blocks only."""
    text = (
        "WITH (SELECT arrayStringConcat(groupArray(toString(number))) FROM numbers(3e6)) AS h"
        " SELECT count() FROM numbers(100000) WHERE position(h, concat('x', toString(number))) > 0"
    )
    began = time.monotonic()
    assert port.ask(text)[1] == 159
    assert time.monotonic() - began < 30
    deadline = time.monotonic() + 90
    while port.ask("SELECT 1")[0] != 200:
        assert time.monotonic() < deadline


def test_many_at_once_wait_or_are_turned_away(port: Port) -> None:
    slow = "SELECT sum(sqrt(number)) FROM numbers(1e12)"
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        began = time.monotonic()
        asked = list(threads.map(lambda _: port.ask(slow)[:2], range(16)))
        assert time.monotonic() - began < 60
    assert set(asked) == {(408, 159), (503, 202)}
    assert asked.count((503, 202)) >= 10, "two run, four wait"
    wait_for(lambda: port.ask("SELECT 1")[2] == "1\n")


def test_a_small_body_that_unpacks_to_much(port: Port) -> None:
    import gzip

    import lz4.frame  # type: ignore[import-untyped]

    text = b"SELECT '" + b"x" * 10_000_000 + b"'"
    for encoding, body in (("gzip", gzip.compress(text)), ("lz4", lz4.frame.compress(text))):
        headers = {"Content-Encoding": encoding}
        answer = urllib3.request("POST", port.url, body=body, headers=headers)
        assert answer.status == 413, encoding


def test_a_body_that_never_ends_is_not_waited_for(port: Port) -> None:
    address = ("127.0.0.1", int(port.url.rsplit(":", 1)[1]))
    with socket.create_connection(address, timeout=60) as slow:
        slow.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nSELECT")
        assert b" 408 " in slow.recv(1000)


def test_afterwards_nothing_was_changed_written_or_called(port: Port) -> None:
    it = client(port.engine.url)
    assert it.command("SELECT count() FROM heliograph.events") == 1000
    assert it.query("SHOW TABLES FROM heliograph").result_columns == [["campaigns", "events"]]
    assert it.command("SELECT count() FROM system.databases") == 6
    assert it.command("SELECT count() FROM system.functions WHERE origin != 'System'") == 0
    assert it.command("SELECT count() FROM system.backups") == 0
    assert sorted(p.name for p in port.directory.iterdir()) == ["engine", "secret.csv"]
    port.listener.settimeout(0.2)
    with pytest.raises(TimeoutError):
        port.listener.accept()


def test_the_list_of_functions_is_of_this_engine_and_harmless(port: Port) -> None:
    it = client(port.engine.url)
    known = {name.lower() for (name,) in it.query("SELECT name FROM system.functions").result_rows}
    tables = {
        name.lower() for (name,) in it.query("SELECT name FROM system.table_functions").result_rows
    }
    ours = {"numbers", "generateseries", "generate_series", "view"}
    syntax = {"exists", "grouping", "untuple"}  # what the parser makes, not the function factory
    allowed = allowed_functions()
    assert allowed - known == ours | syntax
    assert allowed & tables == ours
    assert not allowed & {name.lower() for name in DANGEROUS.split()}
    assert not {name for name in allowed if name.startswith(("ai", "dictget", "__", "pg"))}
    columns = it.query("SELECT DISTINCT name FROM system.columns WHERE database = 'heliograph'")
    taken = {name for (name,) in columns.result_rows} & (known - allowed)
    assert not taken, "a column named like a refused function could not be asked for"
