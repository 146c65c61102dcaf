"""`heliograph audit`: is every event of every journal stored, once?"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import msgspec

from consumer.settings import ConsumerSettings
from heliograph import lists, options, output
from heliograph.access import Answer, running_sql
from heliograph.commands.migrate import greet
from heliograph.settings import STORE, read

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from consumer.audit import JournalAudit


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Compare what each journal took with what is stored. Missing: nowhere, so lost.\n"
        "Waiting: in a journal at hand (--data), not counted yet. The exit code is 1 if an event\n"
        "is missing or stored twice."
    )
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table")
    options.add(parser, ConsumerSettings, only=STORE)


def run(args: Namespace) -> int:
    """Print the audit."""
    from consumer.audit import audit
    from consumer.retention import Retention

    settings = read(ConsumerSettings, args)
    at_hand = settings.data / "journal" if not settings.clickhouse or args.data else None
    with _client(settings) as client:
        kept = Retention.stored(client, settings.database).shortest
        found = audit(client, settings.database, at_hand, kept)
    lines = [["journal", "taken", "stored", "dead", "expired", "erased", "waiting", "repeated",
              "missing", "gaps"]]  # fmt: skip
    rows = [_row(journal, lines[0]) for journal in found]
    body = b"".join(msgspec.json.encode(line) + b"\n" for line in (*lines, *rows))
    output.write(Answer(output.FORMAT, iter([body])), args.format, sys.stdout)
    sound = all(journal.sound for journal in found)
    lists.say(f"{len(found)} journals, " + ("each event once" if sound else "NOT each event once"))
    return 0 if sound else 1


def _row(journal: "JournalAudit", names: list[str]) -> list[object]:
    told = asdict(journal)
    told["gaps"] = ", ".join(f"{a}-{b}" if a != b else str(a) for a, b in journal.gaps)
    return [told[name] for name in names]


@contextmanager
def _client(settings: ConsumerSettings) -> Iterator["Client"]:
    from consumer.embedded import take_in
    from consumer.store import connect

    url = settings.clickhouse or running_sql(settings.data)
    if not url:
        with take_in(settings) as client:
            yield client
        return
    if settings.clickhouse:
        greet(url)
    client = connect(msgspec.structs.replace(settings, clickhouse=url))
    try:
        yield client
    finally:
        client.close()
