"""`heliograph export`: all that is stored of a recipient, for machines."""

import csv
import json
import sys
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from typing import Any

from consumer.settings import ConsumerSettings
from heliograph import options, optouts, output, persons
from heliograph.access import canned, open_store
from heliograph.settings import KEYS, STORE, MintSettings, read
from schemas.named import pattern


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Write all that the store has of a recipient to standard output: sends, opens, clicks,\n"
        "receipts and bounces with every field kept, lines of the dead letter that name them, in\n"
        "hygiene mode the date of the last open, whether they opted out by the file of this data\n"
        "directory, and whether they were erased.\n"
        "CSV has the events only."
    )
    persons.add_options(parser)
    parser.add_argument("--format", choices=("json", "csv"), default="json")
    options.add(parser, ConsumerSettings, MintSettings, only=STORE | KEYS)


def run(args: Namespace) -> int:
    """Write them."""
    minting = read(MintSettings, args)
    names = persons.keys(args, minting)
    with open_store(read(ConsumerSettings, args)) as store:
        events, dates, erasures = [
            [
                row
                for name in names
                for row in output.objects(
                    store.query(canned(query), {"recipient": name}, output.FORMAT)
                )
            ]
            for query in ("export", "export_last_open", "export_erasures")
        ]
        named = {"pattern": pattern(names)}
        dead = store.query(canned("export_dead_letter"), named, output.FORMAT)
        dead_letter = list(output.objects(dead))
    persons.tell_if_unknown(args, len(events))
    if args.format == "csv":
        if events:
            out = csv.DictWriter(sys.stdout, list(events[0]), lineterminator="\n")
            out.writeheader()
            out.writerows(events)
        return 0
    whole = {
        "keys": names,
        "events": events,
        "dead_letter": dead_letter,
        "last_open": [row["last_open"] for row in dates],
        "opted_out_since": _opted_out(minting, names),
        "erasures": erasures,
    }
    json.dump(whole, sys.stdout, ensure_ascii=False, indent=1)
    print()
    return 0


def _opted_out(settings: MintSettings, names: list[str]) -> Any:
    if not settings.key_file.exists():
        return "not known here"
    found = [at for name in names if (at := optouts.since(settings, name)) is not None]
    return datetime.fromtimestamp(min(found), UTC).isoformat() if found else None
