"""`heliograph optout`: recipients of whom nothing is recorded, and in again."""

import csv
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from heliograph import lists, options, optouts
from heliograph.errors import UsageError
from heliograph.settings import KEYS, MINT, MintSettings, read
from schemas.kafka import KafkaSettings

_TOPIC: Final = frozenset(KafkaSettings.__struct_fields__) - {"topic"} | {"optout_topic"}


def add(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    parser.description = (
        "Recipients who have opted out: their hits are answered as ever and not recorded, of all\n"
        "mails, also those already sent. Running collectors obey within 5 s."
    )
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    for name, text in (("add", "opt recipients out"), ("remove", "take opt-outs back")):
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        action.add_argument("recipients", metavar="RECIPIENT", nargs="*",
                            help="as it was minted")  # fmt: skip
        action.add_argument("--file", metavar="FILE", help="one recipient a line (-: standard "
                            "input)")  # fmt: skip
        addresses = action.add_mutually_exclusive_group()
        addresses.add_argument("--hash-recipients", action="store_true", help="they were minted "
                               "as keyed hashes of what is given")  # fmt: skip
        addresses.add_argument("--allow-addresses", action="store_true", help="e-mail addresses "
                               "were minted as they are")  # fmt: skip
        options.add(action, MintSettings, only=MINT)
    text = "list who has opted out and since when, as CSV: by a data directory, or by --kafka"
    shown = actions.add_parser("list", help=text, description=f"{text[0].upper()}{text[1:]}.")
    options.add(shown, MintSettings, only=KEYS - {"api_key_file"} | _TOPIC)


def run(args: Namespace) -> int:
    """Opt out or in, or list."""
    if args.action == "list":
        return _list(read(MintSettings, args), args.data is None or args.kafka is not None)
    settings = read(MintSettings, args)
    if not args.recipients and not args.file:
        raise UsageError("name recipients, or a --file of them")
    out = args.action == "add"
    try:
        done = optouts.put(
            settings, _named(args), out,
            hash_recipients=args.hash_recipients, allow_addresses=args.allow_addresses,
        )  # fmt: skip
    except ValueError as error:
        raise UsageError(str(error)) from None
    lists.say(f"{done} opted {'out' if out else 'in again'}")
    return 0


def _named(args: Namespace) -> Iterator[str]:
    yield from filter(None, map(str.strip, args.recipients))
    if args.file:
        with lists.source(args.file) as file:
            for number, line in enumerate(file, 1):
                try:
                    name = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                except UnicodeDecodeError:
                    raise UsageError(f"line {number} of {args.file} is not UTF-8") from None
                if name:
                    yield name


def _list(settings: MintSettings, kafka: bool) -> int:
    if settings.kafka and kafka:
        from heliograph import optout_topic

        found = optout_topic.listed(settings)
    elif settings.remote:
        raise UsageError("opt-outs are listed by a data directory (--data DIR) or by the topic "
                         "(--kafka HOST:PORT), each with the key file")  # fmt: skip
    else:
        found = optouts.listed(settings)
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(("recipient", "since"))
    for entry in sorted(found.values(), key=lambda entry: entry.at):
        when = datetime.fromtimestamp(entry.at / 1000, UTC)
        rows.writerow((entry.recipient, f"{when:%Y-%m-%dT%H:%M:%SZ}"))
    return 0
