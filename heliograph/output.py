"""Results as people and programs want them: a table, CSV, or one JSON array of objects."""

import csv
import itertools
import sys
from collections.abc import Iterable, Iterator
from typing import IO, Any, Final

import msgspec

from heliograph.access import Answer
from heliograph.errors import Failure, harmless

#: What the store is asked for; the names stand in the first line.
FORMAT: Final = "JSONCompactEachRowWithNames"
Row = list[msgspec.Raw]
_names = msgspec.json.Decoder(list[str])
_row = msgspec.json.Decoder(list[msgspec.Raw])
_value = msgspec.json.Decoder(Any)


def rows(answer: Answer) -> tuple[list[str], Iterator[Row]]:
    """The column names of a result, and its rows with their values as JSON text."""
    lines = _lines(answer.chunks)
    try:
        names = _names.decode(next(lines, b"[]"))
    except msgspec.MsgspecError:
        raise Failure("the store's answer is not what was asked for") from None
    return names, map(_decode, lines)


def objects(answer: Answer) -> Iterator[dict[str, Any]]:
    """The rows of a result as dictionaries."""
    names, found = rows(answer)
    for row in found:
        yield dict(zip(names, map(_value.decode, row), strict=True))


def _decode(line: bytes) -> Row:
    try:
        return _row.decode(line)
    except msgspec.MsgspecError:
        raise Failure("the store's answer broke off") from None


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        yield rest


def write(answer: Answer, format: str, out: IO[str], *, percent: bool = False) -> int:
    """Print a result as table, csv or json; how many rows there were.

    `percent` shows the columns …_rate of a table in percent, with their …_low and …_high.
    """
    names, found = rows(answer)
    if format == "json":
        return _json(names, found, out)
    if format == "csv":
        return _csv(names, found, out)
    return _table(names, found, out, percent=percent)


def _json(names: list[str], found: Iterator[Row], out: IO[str]) -> int:
    """Values pass through as the store wrote them: no number loses a digit."""
    keys = [msgspec.json.encode(name) for name in names]
    count = 0
    out.write("[")
    for count, row in enumerate(found, 1):
        pairs = (key + b":" + bytes(value) for key, value in zip(keys, row, strict=True))
        out.write((",\n" if count > 1 else "\n") + "{" + b",".join(pairs).decode() + "}")
    out.write("\n]\n" if count else "]\n")
    return count


def _csv(names: list[str], found: Iterator[Row], out: IO[str]) -> int:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    count = 0
    for row in found:
        writer.writerow([_cell(value) for value in row])
        count += 1
    return count


def _cell(raw: msgspec.Raw) -> object:
    """A value as CSV: nothing for NULL, and no text that a spreadsheet would run as a formula."""
    value = _value.decode(raw)
    if isinstance(value, str):
        return f"'{value}" if value[:1] in tuple("=+-@\t\r") else value
    return "" if value is None else bytes(raw).decode()


def _table(names: list[str], found: Iterator[Row], out: IO[str], *, percent: bool) -> int:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if percent:
        names, found = _ranges(names, found)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    first = next(found, None)
    for name, raw in itertools.zip_longest(names, first or []):
        number = raw is not None and bytes(raw)[:1] in b"-0123456789n"
        table.add_column(Text(harmless(name)), justify="right" if number else "left",
                         overflow="fold")  # fmt: skip
    shows = [_percent if percent and name.endswith("_rate") else _shown for name in names]
    count = 0
    for row in itertools.chain([first] if first else [], found):
        table.add_row(*(Text(show(raw)) for show, raw in zip(shows, row, strict=True)))
        count += 1
    # Written to a file or a pipe, a table is as wide as it needs to be.
    width = None if out.isatty() else 100_000
    Console(file=out, width=width, highlight=False, color_system=None).print(table)
    return count


def _ranges(names: list[str], found: Iterator[Row]) -> tuple[list[str], Iterator[Row]]:
    """Without the columns …_rate_low and …_rate_high: their values stand beside the rate."""
    at = {name: place for place, name in enumerate(names)}
    kept = [name for name in names if not name.endswith(("_rate_low", "_rate_high"))]

    def shown(row: Row, name: str) -> msgspec.Raw:
        if f"{name}_low" not in at or bytes(row[at[name]]) == b"null":
            return row[at[name]]
        value, low, high = (_value.decode(row[at[name + end]]) for end in ("", "_low", "_high"))
        return msgspec.Raw(msgspec.json.encode(f"{value:.1%} ({low:.1%} to {high:.1%})"))

    return kept, ([shown(row, name) for name in kept] for row in found)


def _shown(raw: msgspec.Raw) -> str:
    value = _value.decode(raw)
    if value is None:
        return "–"
    return harmless(value) if isinstance(value, str) else harmless(bytes(raw).decode())


def _percent(raw: msgspec.Raw) -> str:
    value = _value.decode(raw)
    return f"{value:.1%}" if isinstance(value, float | int) else _shown(raw)


def pass_on(answer: Answer) -> None:
    """Write a result to standard output as it is."""
    sys.stdout.flush()
    for chunk in answer.chunks:
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
