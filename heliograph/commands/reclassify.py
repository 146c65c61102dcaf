"""`heliograph reclassify`: stored hits judged anew by the current rules."""

import re
import sys
import time
from argparse import ArgumentParser, Namespace

import msgspec

from collector.mint import unix_seconds
from consumer.settings import ConsumerSettings
from heliograph import lists, options, output
from heliograph.access import Answer
from heliograph.commands.networks import SETTINGS
from heliograph.errors import UsageError
from heliograph.orders import open_orders
from heliograph.settings import read


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Judge what is stored by the current rules and networks, and say what changed. A hit\n"
        "whose address and agent were not kept stays as it was judged. The line may run, and\n"
        "doing it again changes nothing."
    )
    parser.add_argument("--since", metavar="TIME", default="",
                        help="hits from then on: ISO 8601, or 30d, 12h (default: all)")  # fmt: skip
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table")
    options.add(parser, ConsumerSettings, only=SETTINGS)


def run(args: Namespace) -> int:
    """Revise and tell."""
    with open_orders(read(ConsumerSettings, args)) as orders:
        done = orders.reclassify(_since(args.since))
    columns = ["old_class", "old_rule", "new_class", "new_rule", "hits"]
    table = [columns, *([change[name] for name in columns] for change in done["changes"])]
    body = b"".join(msgspec.json.encode(line) + b"\n" for line in table)
    output.write(Answer(output.FORMAT, iter([body])), args.format, sys.stdout)
    hits = sum(change["hits"] for change in done["changes"])
    lists.say(f"{hits} hits changed; judged by ruleset {done['ruleset']}")
    if done["hygiene"]:
        lists.say("hygiene mode: hits older than a day are gone, and the dates of last opens stay "
                  "as the hits were judged when they came")  # fmt: skip
    return 0


def _since(text: str) -> int:
    if not text:
        return 0
    if found := re.fullmatch(r"(\d{1,6})([dh])", text):
        return max(0, int(time.time()) - int(found[1]) * (86400 if found[2] == "d" else 3600))
    try:
        return unix_seconds(text)
    except ValueError:
        raise UsageError(f"--since {text!r} is neither ISO 8601 nor like 30d or 12h") from None
