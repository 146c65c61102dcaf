"""`heliograph bounces`: mails that came back, so that rates divide by what was delivered."""

import contextlib
from argparse import ArgumentParser, Namespace

from heliograph import lists, options
from heliograph.commands.mint import record
from heliograph.errors import UsageError
from heliograph.recipients import open_table
from heliograph.recorder import open_recorder
from heliograph.settings import MINT, MintSettings, read


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Record that the mails of the recipients in FILE came back: they leave what rates\n"
        "divide by, unless there is evidence of reading all the same. Name them as they were\n"
        "minted. Running it again changes nothing."
    )
    lists.add_options(parser)
    options.add(parser, MintSettings, only=MINT)


def run(args: Namespace) -> int:
    """Record bounces."""
    if args.file is None:
        raise UsageError("name a file of recipients, or - for standard input")
    tally = lists.Tally()
    with (
        contextlib.closing(open_recorder(read(MintSettings, args))) as recorder,
        lists.source(args.file) as file,
    ):
        requests = lists.Requests(args, open_table(file, args.file, args.format))
        for rows in requests.groups(tally):
            record(recorder, [(r.line, requests.of(r, bounced=True)) for r in rows], tally)
    return tally.report("bounced")
