"""`heliograph report`: the canned questions of schemas/queries."""

import sys
import zoneinfo
from argparse import ArgumentParser, Namespace
from typing import Final

import msgspec

from consumer.settings import ConsumerSettings
from heliograph import kept, lists, options, output
from heliograph.access import Answer, Store, canned, open_store
from heliograph.campaigns import array, number, rates
from heliograph.errors import Failure, UsageError
from heliograph.settings import STORE, read

REPORTS: Final = (
    "campaigns", "compare", "timeline", "segments", "clients", "recipients", "links", "delays",
    "receipts", "unrecorded",
)  # fmt: skip
_TABLE_ROWS: Final = 100
#: What of a campaign a table has room for.
_COLUMNS: Final = (
    "campaign", "sends", "delivered", "hits", "opens", "unique_opens", "open_rate", "open_rate_low",
    "open_rate_high", "apparent_rate", "adjusted_rate", "unique_clicks", "confirmed_rate",
)  # fmt: skip
_CAVEAT: Final = (
    "open_rate is the reliable rate. Neither it nor the apparent one bounds the truth: blocked "
    "images are invisible, and a scanner can pass as a person"
)


def add(parser: ArgumentParser) -> None:
    """Declare the options; the words are defined where the questions are."""
    parser.add_argument("report", metavar="REPORT", nargs="?", choices=REPORTS, default="campaigns",
                        help=f"one of: {', '.join(REPORTS)}")  # fmt: skip
    parser.add_argument("compared", metavar="CAMPAIGN", nargs="*", help="of `report compare`")
    parser.add_argument("--campaign", default="", help="only this one")
    parser.add_argument("--limit", type=int, metavar="N",
                        help=f"rows (default: {_TABLE_ROWS} in a table, else all)")  # fmt: skip
    parser.add_argument("--by", choices=("hour", "day"),
                        help="timeline: rows are hours (the default) or days")  # fmt: skip
    parser.add_argument("--tz", metavar="ZONE", default="UTC",
                        help="time zone of hours, days and times, e.g. Asia/Kolkata")  # fmt: skip
    parser.add_argument("--never", action="store_true", help="recipients: those who never opened")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table",
                        help="rates are percent in tables, fractions in csv and json; in csv, text "
                        "that a spreadsheet would run as a formula is quoted by '")  # fmt: skip
    options.add(parser, ConsumerSettings, only=STORE)
    parser.epilog = "\n".join(_words(name) for name in REPORTS)


def run(args: Namespace) -> int:
    """Print a report."""
    name = _checked(args)
    limit = args.limit or (_TABLE_ROWS if args.format == "table" else 1 << 40)
    params: dict[str, object] = {"campaign": args.campaign, "tz": args.tz, "limit": limit}
    with open_store(read(ConsumerSettings, args)) as store:
        kept.refuse_hygiene(store, f"`report {args.report}`")
        if name == "campaigns":
            answer, unrecorded = _campaigns(store, args.campaign, limit, args.format == "table")
        else:
            if name == "compare":
                params["campaigns"] = array(_known(store, args.compared))
            answer, unrecorded = store.query(canned(name), params, output.FORMAT), ""
        count = output.write(answer, args.format, sys.stdout, percent=True)
        sys.stdout.flush()
        if count == limit and args.limit is None:
            lists.say(f"the first {limit} rows; --limit N shows more")
        if args.campaign and not count and _missing(store, [args.campaign]):
            lists.say(f"there is no campaign {args.campaign!r} in the store")
        if unrecorded:
            lists.say(unrecorded)
        if name in ("campaigns", "compare", "segments") and args.format == "table":
            lists.say(_CAVEAT)
    return 0


def _checked(args: Namespace) -> str:
    """The name of the question; raises UsageError for options that are not its."""
    name = args.report
    if args.never and name != "recipients":
        raise UsageError("--never is for `report recipients`")
    if args.by and name != "timeline":
        raise UsageError("--by is for `report timeline`")
    if bool(args.compared) != (name == "compare") or len({*args.compared}) == 1:
        raise UsageError("`report compare` takes two campaigns or more: report compare A B")
    if args.limit is not None and args.limit < 1:
        raise UsageError(f"--limit {args.limit} is less than 1")
    stem = f"timeline_{args.by or 'hour'}" if name == "timeline" else name
    check_zone(args.tz)
    return "never" if args.never else stem


def _known(store: Store, names: list[str]) -> list[str]:
    """Campaigns as they were named; raises Failure where the store has none of a name."""
    if missing := _missing(store, names):
        raise Failure(f"there is no campaign {min(missing)!r}")
    return names


def _missing(store: Store, names: list[str]) -> set[str]:
    found = store.query(canned("campaigns"), {"campaigns": array(names)}, output.FORMAT)
    return set(names) - {row["campaign"] for row in output.objects(found)}


def check_zone(name: str) -> None:
    """Raise UsageError unless it is a time zone."""
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"--tz {name!r} is no time zone, such as Europe/Berlin") from None


def _campaigns(store: Store, campaign: str, limit: int, brief: bool) -> tuple[Answer, str]:
    """The rates as they are shown, and a word about those who are in none of them."""
    columns, found = rates(store, campaign, limit)
    people, hits = (sum(number(row[at]) for row in found) for at in (-2, -1))
    kept = [columns.index(name) for name in (_COLUMNS if brief else columns[:-2])]
    lines = [msgspec.json.encode([columns[at] for at in kept]) + b"\n"]
    lines += (msgspec.json.encode([row[at] for at in kept]) + b"\n" for row in found)
    told = f"not counted: {people} recipients without a recorded send, with {hits} hits"
    return Answer(output.FORMAT, iter(lines)), f"{told} (`report unrecorded`)" if people else ""


def _words(name: str) -> str:
    lines = canned("timeline_hour" if name == "timeline" else name).splitlines()
    words = [line.removeprefix("--").strip() for line in lines if line.startswith("--")]
    return f"{name}:\n  " + "\n  ".join(words)
