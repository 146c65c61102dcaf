"""Lists of recipients, CSV or JSONL: read row by row, written back with columns of ours.

What a row holds passes through unchanged, also bytes that are no UTF-8. A row that can't be read
is given as a `BadRow`; the next ones are read all the same.
"""

import csv
import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple

import msgspec

from heliograph.errors import UsageError

#: Column names that are taken for the recipient's key, the likeliest group first.
GUESSES: Final = (
    {"recipient", "recipient_id", "recipient_key"},
    {"id", "user_id", "subscriber_id", "contact_id", "customer_id", "member_id", "uuid"},
    {"email", "e_mail", "email_address", "mail"},
)
MAX_LINE: Final = 1 << 20
Raw = msgspec.Raw
_object = msgspec.json.Decoder(dict[str, Raw])
_scalar = msgspec.json.Decoder(str | int | float | bool | None)


class Row(NamedTuple):
    """A row: the line it starts on, and its values by column."""

    line: int
    values: Mapping[str, str]
    source: list[str] | dict[str, Raw]


class BadRow(NamedTuple):
    """A row that is none."""

    line: int
    reason: str


def open_table(source: IO[bytes], name: str, format: str = "") -> "Table":
    """The list in a file; JSONL by its format or suffix, else CSV. Raises UsageError."""
    if (format or Path(name).suffix.lower().lstrip(".")) in ("jsonl", "ndjson"):
        return JsonTable(source, name)
    return CsvTable(source, name)


def guess(columns: Sequence[str]) -> str:
    """The column that holds the recipients' keys; raises UsageError unless it is clear."""
    listed = ", ".join(map(repr, columns))
    for names in GUESSES:
        found = [
            c for c in dict.fromkeys(columns) if re.sub(r"[\s-]+", "_", c.strip().lower()) in names
        ]
        if len(found) == 1:
            return found[0]
        if found:
            break
    raise UsageError(f"which column is the recipient's key? --recipient-column, one of: {listed}")


class CsvTable:
    """CSV with a header; comma, semicolon or tab, as its first line has it."""

    def __init__(self, source: IO[bytes], name: str) -> None:
        """Read the header; raises UsageError."""
        text = io.TextIOWrapper(source, "utf-8", "surrogateescape", newline="")
        first = text.readline(MAX_LINE)
        if first[:2] in ("\udcff\udcfe", "\udcfe\udcff"):
            raise UsageError(f"{name} is UTF-16: save it as CSV in UTF-8")
        self._text = text  # it closes the source when nothing holds it any more
        self._mark = "\ufeff" if first.startswith("\ufeff") else ""
        first = first.removeprefix("\ufeff")
        self._end = "\r\n" if first.endswith("\r\n") else "\n"
        unquoted = re.sub(r'"[^"]*"', "", first)
        self._delimiter = max(",;\t", key=unquoted.count)
        self._reader = csv.reader(
            itertools.chain([first], text), delimiter=self._delimiter, strict=True
        )
        try:
            self.columns = next(self._reader, [])
        except csv.Error as error:
            raise UsageError(f"{name}: the header is no CSV: {error}") from None
        if not any(self.columns):
            raise UsageError(f"{name}: the first line must name the columns")

    def require(self, recipient: str, others: Sequence[str]) -> None:
        """Raise UsageError unless each of these columns is there, once."""
        for column in (recipient, *others):
            if column not in self.columns:
                listed = ", ".join(map(repr, self.columns))
                raise UsageError(f"there is no column {column!r}, but: {listed}")
            if self.columns.count(column) > 1:
                raise UsageError(f"two columns have the name {column!r}")

    def __iter__(self) -> Iterator[Row | BadRow]:
        while True:
            line = self._reader.line_num + 1
            try:
                values = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield BadRow(line, f"no CSV (a quote that is not closed?): {error}")
                continue
            if len(values) == len(self.columns):
                yield Row(line, dict(zip(self.columns, values, strict=True)), values)
            elif values:
                yield BadRow(line, f"{len(values)} fields, the header has {len(self.columns)}")

    def start(self, out: IO[str], added: Sequence[str]) -> None:
        """Write the header. `added` columns replace those of the same name."""
        self._added = added
        self._kept = [i for i, column in enumerate(self.columns) if column not in added]
        self._writer = csv.writer(out, delimiter=self._delimiter, lineterminator=self._end)
        out.write(self._mark)
        self._writer.writerow([*(self.columns[i] for i in self._kept), *added])

    def write(self, row: Row, added: Mapping[str, str]) -> None:
        """Write a row with the added columns' values."""
        kept = (row.source[i] for i in self._kept)  # type: ignore[index]
        self._writer.writerow([*kept, *(added[name] for name in self._added)])


class JsonTable:
    """One JSON object a line. The columns to guess from are those of the first one."""

    def __init__(self, source: IO[bytes], name: str) -> None:
        """Read up to the first object; raises UsageError if there is none."""
        self._rows = self._read(source)
        self._head: list[Row | BadRow] = []
        for row in self._rows:
            self._head.append(row)
            if isinstance(row, Row):
                self.columns = list(row.values)
                return
        raise UsageError(f"no line of {name} is a JSON object")

    def __iter__(self) -> Iterator[Row | BadRow]:
        return itertools.chain(self._head, self._rows)

    def require(self, recipient: str, others: Sequence[str]) -> None:
        """As CsvTable.require; but any row may lack a column: a recipient it needs, no other."""

    def _read(self, file: IO[bytes]) -> Iterator[Row | BadRow]:
        for number in itertools.count(1):
            line = file.readline(MAX_LINE + 1)
            if not line:
                return
            if len(line) > MAX_LINE:
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE)
                yield BadRow(number, f"longer than {MAX_LINE} bytes")
                continue
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not line.strip():
                continue
            try:
                source = _object.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                yield BadRow(number, "no JSON object")
                continue
            yield Row(number, {name: _text(value) for name, value in source.items()}, source)

    def start(self, out: IO[str], added: Sequence[str]) -> None:
        """As CsvTable.start; there is no header."""
        self._out = out

    def write(self, row: Row, added: Mapping[str, str]) -> None:
        """As CsvTable.write."""
        encoded = {name: Raw(msgspec.json.encode(value)) for name, value in added.items()}
        whole = {**dict(row.source), **encoded}  # type: ignore[arg-type]
        self._out.write(msgspec.json.encode(whole).decode() + "\n")


def _text(value: Raw) -> str:
    """A scalar's text; "" for null, and for what no column of ours can be."""
    try:
        scalar = _scalar.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    return "" if scalar is None or isinstance(scalar, bool) else str(scalar)


Table = CsvTable | JsonTable
