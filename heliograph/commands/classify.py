"""`heliograph classify`: hits from elsewhere, judged by the rules of the store."""

import math
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from consumer.settings import ConsumerSettings
from heliograph import lists, options
from heliograph.errors import Failure, UsageError
from heliograph.settings import read
from schemas.event import announced

_TOGETHER: Final = 50_000


class Record(msgspec.Struct, frozen=True):
    """A line. `ts` and `sent_at` are Unix seconds, milliseconds or text; `delay_s`, their
    difference in seconds, will do as well. `label` and `confidence` are for `accuracy`.
    """

    ua: str | None = None
    ip: str | None = None
    headers: dict[str, Any] | list[tuple[str, Any]] | None = None
    method: str | None = None
    ts: float | str | None = None
    sent_at: float | str | None = None
    delay_s: float | None = None
    label: str = ""
    confidence: Any = ""


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Read JSON lines (ua, ip, headers; optional method, ts and sent_at) and write them back\n"
        "with class, rule and version, as the store would judge them. Networks loaded into the\n"
        "store are not asked: give them with --networks."
    )
    add_options(parser)


def add_options(parser: ArgumentParser) -> None:
    """The file, and by what it is judged."""
    parser.add_argument("file", metavar="FILE", nargs="?", default="-",
                        help="JSON lines (default: standard input)")  # fmt: skip
    parser.add_argument("--networks", metavar="LIST=FILE", action="append", default=[],
                        help="a list as of `networks load`; repeatable")  # fmt: skip
    options.add(parser, ConsumerSettings, only=frozenset(("rules",)))


def run(args: Namespace) -> int:
    """Judge a file."""
    for line, _, verdict in judged(args):
        told: dict[str, Any] = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        told |= {"class": verdict.name, "rule": verdict.rule, "version": verdict.version}
        sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    return 0


def judged(args: Namespace) -> Iterator[tuple[bytes, Record, Any]]:
    """Each line of the file, what it says, and its verdict; raises Failure on one that is none."""
    from consumer.classify import judging

    settings = read(ConsumerSettings, args)
    rules = Path(settings.rules) if settings.rules else None
    with lists.source(args.file) as file, judging(rules, _networks(args.networks)) as judge:
        lines = ((n, line) for n, line in enumerate(file, 1) if line.strip())
        while group := list(islice(lines, _TOGETHER)):
            found = [_read(n, line) for n, line in group]
            records = [record for record, _ in found]
            verdicts = judge([asked for _, asked in found])
            for (_, line), record, verdict in zip(group, records, verdicts, strict=True):
                yield line, record, verdict


def _read(number: int, line: bytes) -> tuple[Record, Any]:
    """A line, and the hit that it tells of; raises Failure."""
    try:
        record = msgspec.json.decode(line, type=Record)
        return record, hit(record)
    except (msgspec.DecodeError, UnicodeDecodeError, Failure) as error:
        raise Failure(f"line {number}: {error}") from None


def hit(record: Record) -> Any:
    """What a line says, as the edge would have recorded it."""
    from consumer.classify import Hit

    given = record.headers or []
    pairs = given.items() if isinstance(given, dict) else given
    headers = {name.lower(): str(value) for name, value in pairs if value is not None}
    since = record.delay_s
    if since is None and record.ts and record.sent_at:
        since = _seconds(record.ts) - _seconds(record.sent_at)
    return Hit(
        headers.get("user-agent") if record.ua is None else record.ua,
        _address(record.ip or ""),
        announced(headers),
        (record.method or "GET").upper(),
        "",
        since,
    )


def _address(text: str) -> str:
    """The first address of a list, without its port or the length of its network."""
    first = text.split(",", 1)[0].strip().split("/", 1)[0]
    found = re.fullmatch(r"\[(.+)\](?::\d+)?|([\d.]+):\d+", first)
    return (found[1] or found[2]) if found else first


def _seconds(moment: float | str) -> float:
    """Unix seconds, of those or of milli- or microseconds; raises Failure."""
    try:
        number = float(moment)
    except ValueError:
        try:
            found = datetime.fromisoformat(str(moment))
        except ValueError:
            try:
                found = parsedate_to_datetime(str(moment))
            except ValueError:
                raise Failure(f"{moment!r} is no Unix time, ISO 8601 or RFC 2822") from None
        return found.replace(tzinfo=found.tzinfo or UTC).timestamp()
    if not math.isfinite(number):
        raise Failure(f"{moment!r} is no time")
    return number / (1e6 if number > 1e14 else 1000 if number > 1e11 else 1)


def _networks(given: list[str]) -> dict[str, list[str]]:
    found = {}
    for one in given:
        name, equals, file = one.partition("=")
        if not equals:
            raise UsageError(f"--networks {one!r} is not LIST=FILE")
        found[name] = Path(file).read_text("utf-8-sig", "replace").splitlines()
    return found
