"""`heliograph networks`: the lists of networks that the rules ask."""

import re
from argparse import ArgumentParser, Namespace
from pathlib import PurePath
from typing import Final

from consumer.settings import ConsumerSettings
from heliograph import lists, options
from heliograph.errors import Failure, UsageError
from heliograph.orders import open_orders
from heliograph.settings import STORE, read

SETTINGS: Final = STORE | {"cluster", "rules"}


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "load FILE: put a list of networks into the store, in the place of the one of that name.\n"
        "A line begins with a network (Apple's egress-ip-ranges.csv will do as it is).\n"
        "drop: take a loaded list back. Then `reclassify` judges what is there already.\n"
        "The rules ask: self (the sender's own), apple-egress, google, yahoo, fastmail,\n"
        "superhuman, seznam, rambler, ukr.net, microsoft, microsoft-defender."
    )
    parser.add_argument("action", choices=("load", "drop"))
    parser.add_argument("file", metavar="FILE", nargs="?", help="networks (-: standard input)")
    parser.add_argument("--list", metavar="NAME", default="",
                        help="of the list (default: the file's name)")  # fmt: skip
    options.add(parser, ConsumerSettings, only=SETTINGS)


def run(args: Namespace) -> int:
    """Load or drop a list."""
    from schemas.rule import RuleError

    if (args.action == "load") != bool(args.file):
        raise UsageError("name a FILE to load" if args.action == "load" else "drop takes no FILE")
    name = args.list or PurePath(args.file or "").stem
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,63}", name):
        raise UsageError(f"{name!r} is no name of a list: --list self, --list apple-egress")
    text = b""
    if args.action == "load":
        with lists.source(args.file) as file:
            text = file.read()
        if not text.strip():
            raise UsageError(f"{args.file} is empty: to take a list back, `networks drop`")
    with open_orders(read(ConsumerSettings, args)) as orders:
        try:
            done = orders.load_networks(name, text)
        except RuleError as error:
            raise Failure(str(error)) from None
    said = f"{done['networks']} networks in {name}" if text else f"{name} is dropped"
    print(f"{said}; hits are judged by ruleset {done['ruleset']} from here on")
    if text and not done["asked"]:
        lists.say(f"warning: no rule asks for a list {name}; see --list")
    return 0
