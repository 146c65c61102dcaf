"""`heliograph retention`: how long the store keeps what."""

import sys
from argparse import ArgumentParser, Namespace

import msgspec

from consumer.settings import KINDS, ConsumerSettings
from heliograph import kept, lists, options, output
from heliograph.access import Answer, open_store
from heliograph.settings import STORE, read


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Show for how many days the store keeps what, by its tables' own definitions (empty: for\n"
        "ever). HELIOGRAPH_RETENTION, HELIOGRAPH_RETENTION_DAYS and HELIOGRAPH_HYGIENE of `up` or\n"
        "`consume` set it. The engine deletes some hours later: docs/privacy.md."
    )
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table")
    options.add(parser, ConsumerSettings, only=STORE)


def run(args: Namespace) -> int:
    """Print it."""
    with open_store(read(ConsumerSettings, args)) as store:
        found = kept.in_force(store)
    days = {name: found.days.get(kinds[0]) for name, kinds in KINDS.items()}
    days |= {"last_open": found.last_open or None, "dead_letter": found.dead_letter or None}
    days["optout"] = None
    lines = [["kind", "days"], *([name, number] for name, number in days.items())]
    body = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    output.write(Answer(output.FORMAT, iter([body])), args.format, sys.stdout)
    lists.say("hygiene mode is " + ("on: hits leave the date of a recipient's last open"
              if found.hygiene else "off"))  # fmt: skip
    return 0
