"""`heliograph inactive`: recipients of many mails without any evidence of reading."""

import re
import sys
import time
from argparse import ArgumentParser, Namespace
from typing import Final

from consumer.settings import ConsumerSettings
from heliograph import kept, lists, options, output
from heliograph.access import canned, open_store
from heliograph.errors import UsageError
from heliograph.settings import STORE, read

_DAY: Final = 86400
#: A mail counts when it is so old: most who open one do within some days.
_SETTLED_DAYS: Final = 7


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "List the recipients with at least --min-sends sends that are inside the window and older\n"
        f"than {_SETTLED_DAYS} days, and no evidence of reading inside it: no open of class human\n"
        "or proxy, no click, no read receipt. Without -o it only counts them. The list holds\n"
        "those whose images nothing loaded; they may be blocked: ask before you delete. Those of\n"
        "whom only prefetches, scanners and unknown programs were seen, or hits from before the\n"
        "window, cannot be told from readers: --include-undecidable lists them too. Bounced\n"
        "mails, mails without a pixel and recipients without a name (anonymous) are no sends."
    )
    parser.add_argument("--min-sends", type=int, default=6, metavar="N", help="default: 6")
    parser.add_argument("--since", default="180d", metavar="Nd",
                        help="the window in days (default: 180d)")  # fmt: skip
    parser.add_argument("--include-undecidable", action="store_true",
                        help="also those with prefetch or unknown hits only")  # fmt: skip
    parser.add_argument("-o", "--output", metavar="FILE",
                        help="write the list as CSV (-: standard output)")  # fmt: skip
    options.add(parser, ConsumerSettings, only=STORE)


def run(args: Namespace) -> int:
    """Count and list them."""
    found = re.fullmatch(r"(\d{1,5})d", args.since)
    if not found or int(found[1]) <= _SETTLED_DAYS:
        raise UsageError(f"--since {args.since!r} is no number of days above {_SETTLED_DAYS}, "
                         "such as 180d")  # fmt: skip
    if args.min_sends < 1:
        raise UsageError(f"--min-sends {args.min_sends} is less than 1")
    days, now = int(found[1]), int(time.time())
    with open_store(read(ConsumerSettings, args)) as store:
        retention = kept.in_force(store)
        if 0 < retention.window < days:
            raise UsageError(
                f"--since {args.since} is longer than the {retention.window} days that "
                "events are kept: who read before would be listed"
            )
        if retention.hygiene:
            lists.say("hygiene mode: by the date of each recipient's last open; who only clicks is "
                      "undecidable after a day, and receipts are not known")  # fmt: skip
        params = {
            "min_sends": args.min_sends, "since": now - days * _DAY,
            "settled": now - _SETTLED_DAYS * _DAY, "undecidable": int(args.include_undecidable),
        }  # fmt: skip
        counts = store.query(canned("inactive_counts"), params, output.FORMAT)
        output.write(counts, "table", sys.stderr if args.output else sys.stdout)
        if args.output is None:
            lists.say("these are the counts only; -o FILE writes the list")
            return 0
        with lists.output(args.output) as out:
            count = output.write(store.query(canned("inactive"), params, output.FORMAT), "csv", out)
        lists.say(f"{count} listed")
    return 0
