"""What may pass to the store from the SQL port, and under which limits.

chDB knows no users, and `readonly = 1` alone leaves holes: `file('/path')` as a scalar function,
`INTO OUTFILE`, KILL QUERY, s3(), a database that opens paths, several statements in one text. So
the rule is to allow, not to forbid. A text is formatted by ClickHouse itself, as a value that is
not run; this proves that it is exactly one statement, and only its canonical form is used from
here on. The syntax tree of that form, *as a subquery* (so it is a SELECT, and neither FORMAT nor
INTO OUTFILE nor a second statement has a place in it), may then hold only known node types, only
functions of functions.txt, and only tables of our own database. The tree is read line by line and
every line must pass by itself, so a name that holds a line break can add lines to be refused but
can hide none. A tree node that does not show its inside (APPLY) is no known node type.

The questions of schemas/queries, to the letter, were reviewed, and pass.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

from schemas.words import questions

ACCESS_DENIED, READONLY, SYNTAX_ERROR, UNKNOWN_FORMAT = 497, 164, 62, 73

NODES = """
SelectWithUnionQuery SelectIntersectExceptQuery SelectQuery ExpressionList Subquery WithElement
Asterisk QualifiedAsterisk ColumnsRegexpMatcher ColumnsListMatcher ColumnsTransformerList
ColumnsExceptTransformer ColumnsReplaceTransformer ColumnsReplaceTransformer::Replacement
Literal Identifier TableIdentifier Function TablesInSelectQuery TablesInSelectQueryElement
TableExpression TableJoin OrderByElement InterpolateElement WindowDefinition
WindowListElement SampleRatio
"""
# What a reader may set: it shapes the answer and raises no limit.
USER_SETTINGS = """
output_format_json_quote_64bit_integers output_format_json_quote_decimals
output_format_json_quote_denormals output_format_json_named_tuples_as_objects
date_time_output_format session_timezone join_use_nulls
"""
# clickhouse-connect asks this when it connects; no other part of `system` is open.
CLIENT_QUESTION = "SELECT name, value, readonly FROM system.settings LIMIT 10000"
# Encoders that look for a schema file, or speak another protocol.
_REFUSED_FORMAT = re.compile(r"template|protobuf|capnproto|wire|odbc|confluent|dataframe", re.I)
_FORMAT = re.compile(r" FORMAT `?(\w+)`?$")
_NODE = re.compile(r" *([\w:]+)(?: (.*))?")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"})
_SUFFIX = re.compile(r"(?:if|ornull|ordefault|distinct)+$")


@dataclass(frozen=True)
class Limits:
    """Bounds of one query, and of how many run at once; sizes in bytes, times in seconds."""

    seconds: float = 10.0
    memory: int = 512 << 20
    result_rows: int = 1_000_000
    result_size: int = 128 << 20
    text_size: int = 64 << 10
    threads: int = 2
    concurrency: int = 3
    queue: int = 32
    queue_seconds: float = 10.0


#: For one's own questions on one's own machine: the gate, without the port's tight bounds.
OWNER_LIMITS = Limits(seconds=3600, memory=4 << 30, result_rows=1 << 40, result_size=8 << 30)


class Refused(Exception):
    """A request that is not let through, with the ClickHouse error code that says why."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {why}")
        self.code = code


class Admitted(NamedTuple):
    """A statement that may run, without its FORMAT clause, and the format it asked for."""

    statement: str
    format: str | None


def allowed_functions() -> frozenset[str]:
    """The reviewed functions of functions.txt, in lower case."""
    text = (resources.files("consumer.sql") / "functions.txt").read_text("utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return frozenset(name.lower() for line in lines for name in line.split())


class Gate:
    """Decides on one text at a time; holds nothing of a request, so threads may share it."""

    def __init__(self, database: str, limits: Limits) -> None:
        self._database = database
        self.limits = limits
        self._allowed = allowed_functions()
        self._ours = frozenset(questions().values())
        self._nodes = frozenset(NODES.split())
        self._engine: tuple[frozenset[str], frozenset[str]] | None = None
        name = rf"(?:{database}\.)?[A-Za-z_]\w*"
        self._table = re.compile(name)
        self._about = re.compile(
            rf"SHOW TABLES(?: FROM {database})?|(?:DESCRIBE|EXISTS|SHOW CREATE) TABLE {name}"
        )

    def enter(self, connection: Any, database: str, settings: Mapping[str, str]) -> None:
        """Make a fresh connection a reader: our database, the limits, then readonly."""
        if database not in ("", self._database):
            raise Refused(ACCESS_DENIED, f"No access to database {database!r}. (ACCESS_DENIED)")
        if unknown := sorted(settings.keys() - set(USER_SETTINGS.split())):
            raise Refused(READONLY, f"The settings {unknown} cannot be changed here. (READONLY)")
        bounds = self.limits
        values: dict[str, object] = {
            "max_execution_time": bounds.seconds,
            "timeout_overflow_mode": "throw",
            "max_memory_usage": bounds.memory,
            "max_result_rows": bounds.result_rows,
            "max_result_bytes": bounds.result_size,
            "result_overflow_mode": "throw",
            "max_threads": bounds.threads,
            # A function is not interrupted within a block, so a block must soon be done.
            "max_block_size": 8192,
            "max_joined_block_size_rows": 8192,
            "max_query_size": 4 * bounds.text_size,
            "function_range_max_elements_in_block": 1_000_000,
            # Nothing may spill to the disk.
            "max_bytes_before_external_group_by": 0,
            "max_bytes_ratio_before_external_group_by": 0,
            "max_bytes_before_external_sort": 0,
            "max_bytes_ratio_before_external_sort": 0,
            "allow_ddl": 0,
            "allow_introspection_functions": 0,
            **settings,
            "readonly": 1,
        }
        connection.query(f"USE {self._database}")
        connection.query("SET " + ", ".join(f"{k} = {quote(v)}" for k, v in values.items()))

    def admit(self, connection: Any, text: str, params: Mapping[str, str]) -> Admitted:
        """The statement to run for a text.

        Raises:
            Refused: it is not a question to our own tables.
            ChdbError: ClickHouse can't parse it.
        """
        if _CONTROL.search(text) or any(_CONTROL.search(value) for value in params.values()):
            raise Refused(SYNTAX_ERROR, "Control characters are not accepted. (SYNTAX_ERROR)")
        if text in self._ours:
            return Admitted(text, None)
        one = "SELECT formatQuerySingleLine({q:String})"
        values = {"q": text.translate(_ESCAPES)}
        canonical = connection.query(one, "RawBLOB", params=values).bytes().decode()
        clause = _FORMAT.search(canonical)
        statement = canonical[: clause.start()] if clause else canonical
        admitted = Admitted(statement, clause and clause[1])
        if statement == CLIENT_QUESTION or self._about.fullmatch(statement):
            return admitted
        if not statement.startswith(("SELECT ", "WITH ", "(")):
            raise Refused(READONLY, "Only SELECT can be run here. (READONLY)")
        self._inspect(connection, statement, params)
        return admitted

    def check_format(self, name: str) -> str:
        """An output format that needs no file and is no other protocol's, or `Refused`."""
        if not re.fullmatch(r"\w+", name, re.ASCII) or _REFUSED_FORMAT.search(name):
            raise Refused(UNKNOWN_FORMAT, f"Format {name!r} is not offered. (UNKNOWN_FORMAT)")
        return name

    def _inspect(self, connection: Any, statement: str, params: Mapping[str, str]) -> None:
        tree = f"EXPLAIN AST SELECT * FROM ({statement})"
        lines = connection.query(tree, "TSVRaw", params=dict(params)).bytes().decode()
        for line in lines.removesuffix("\n").split("\n"):
            node = _NODE.fullmatch(line)
            kind, name = (node[1], (node[2] or "").split(" (")[0]) if node else ("", "")
            if kind not in self._nodes:
                raise Refused(ACCESS_DENIED, f"{line.strip()!r} is not offered. (ACCESS_DENIED)")
            if kind == "Function" and not self._offers(name):
                raise Refused(ACCESS_DENIED, f"Function {name!r} is not offered. (ACCESS_DENIED)")
            if kind == "TableIdentifier" and not self._table.fullmatch(name):
                raise Refused(ACCESS_DENIED, f"No access to table {name!r}. (ACCESS_DENIED)")
            if kind == "Identifier":
                self._check_identifier(connection, name)

    def _offers(self, function: str) -> bool:
        name = function.lower()
        return name in self._allowed or _SUFFIX.sub("", name) in self._allowed

    def _check_identifier(self, connection: Any, name: str) -> None:
        """A bare name can be a table (after IN) or a function (in place of a lambda)."""
        if self._engine is None:
            self._engine = _names(connection, "functions"), _names(connection, "databases")
        functions, databases = self._engine
        database, dot, _ = name.lower().partition(".")
        if dot and database in databases - {self._database}:
            raise Refused(ACCESS_DENIED, f"No access to {name!r}. (ACCESS_DENIED)")
        if not dot and database in functions and not self._offers(database):
            raise Refused(ACCESS_DENIED, f"{name!r} names a function. (ACCESS_DENIED)")


def quote(value: object) -> str:
    """A value as an SQL string."""
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _names(connection: Any, table: str) -> frozenset[str]:
    sql = f"SELECT DISTINCT lower(name) FROM system.{table}"
    return frozenset(connection.query(sql, "TSVRaw").bytes().decode().split())
