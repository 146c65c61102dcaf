"""`heliograph sends cancel`: sends that were recorded and never mailed are taken back."""

import contextlib
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Final

from collector.mint import SendRequest
from consumer.settings import ConsumerSettings
from heliograph import lists, options, output
from heliograph.access import canned, open_store
from heliograph.commands.mint import record
from heliograph.errors import UsageError
from heliograph.recipients import open_table
from heliograph.recorder import Recorder, open_recorder
from heliograph.settings import MINT, STORE, MintSettings, read

_PAGE: Final = 100_000


def add(parser: ArgumentParser) -> None:
    """Declare the action and its options."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    text = "take back the sends of the recipients in FILE, or all of that send that are recorded"
    cancel = actions.add_parser("cancel", help=text, description=f"{text[0].upper()}{text[1:]}.")
    lists.add_options(cancel)
    options.add(cancel, MintSettings, ConsumerSettings, only=MINT | STORE)


def run(args: Namespace) -> int:
    """Cancel sends."""
    tally = lists.Tally()
    settings = read(MintSettings, args)
    known = args.file or args.data or read(ConsumerSettings, args).clickhouse
    if settings.remote and not known:
        raise UsageError("whose sends? With --remote, name a FILE of recipients, or the store that "
                         "knows the sends: --clickhouse URL")  # fmt: skip
    with contextlib.closing(open_recorder(settings)) as recorder:
        if args.file:
            with lists.source(args.file) as file:
                _listed(args, file, recorder, tally)
        else:
            record(recorder, enumerate(_recorded(args), 1), tally)
    return tally.report("taken back")


def _listed(args: Namespace, file: object, recorder: Recorder, tally: lists.Tally) -> None:
    table = open_table(file, args.file, args.format)  # type: ignore[arg-type]
    requests = lists.Requests(args, table)
    for rows in requests.groups(tally):
        record(recorder, [(row.line, requests.of(row, cancelled=True)) for row in rows], tally)


def _recorded(args: Namespace) -> Iterator[SendRequest]:
    """What the store knows of the send. Read before the first one is taken back."""
    params = {"campaign": args.campaign, "send": args.send or args.campaign, "limit": _PAGE}
    found: list[dict[str, object]] = []
    with open_store(read(ConsumerSettings, args)) as store:
        after = ""
        while page := list(
            output.objects(
                store.query(canned("recorded"), {**params, "after": after}, output.FORMAT)
            )
        ):
            found += page
            after = str(page[-1]["recipient"])
    for send in found:
        yield SendRequest(
            campaign=args.campaign,
            recipient=str(send["recipient"]),
            send=args.send,
            sent_at=int(str(send["sent_at"])) or None,
            cancelled=True,
            allow_address=True,
        )
