"""`heliograph mint`: a list of recipients in, the same list with pixel URLs out."""

import contextlib
import itertools
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from typing import Final

from collector.mint import PREVIEW, Minted, SendRequest
from heliograph import lists, options
from heliograph.errors import UsageError
from heliograph.recipients import open_table
from heliograph.recorder import Recorder, Refusal, is_loopback, open_recorder
from heliograph.settings import MINT, MintSettings, read
from schemas.consent import Mode

_ADVICE: Final = (
    "the recipient looks like an e-mail address: --hash-recipients seals a keyed hash of it, "
    "--allow-addresses the address itself; or name another column by --recipient-column"
)


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Write the rows of a list back with pixel_url, pixel_html and optout_url (and COLUMN_url\n"
        "for each --link COLUMN, recipient_key with --hash-recipients), and record the sends.\n"
        "A row that is refused is named on stderr, and the exit code is 1; the others go through.\n"
        "Running it again changes nothing: a send is named by campaign, send and recipient."
    )
    lists.add_options(parser)
    parser.add_argument("-o", "--output", metavar="FILE", default="-", help="where to write; "
                        "appears when it is complete (default: standard output)")  # fmt: skip
    parser.add_argument("--message-id-column", metavar="COLUMN", default="",
                        help="kept beside the send")  # fmt: skip
    parser.add_argument("--segment-column", metavar="COLUMN", default="",
                        help="names a part of the recipients for `report segments`: their mail "
                        "domain, a list, a variant; it is not sealed")  # fmt: skip
    parser.add_argument("--no-pixel", action="store_true", help="record sends of mails without a "
                        "pixel: pixel_url and pixel_html stay empty")  # fmt: skip
    modes = [mode.word for mode in Mode]
    parser.add_argument("--consent", dest="campaign_consent", choices=modes, default="full",
                        help="the most that is kept of this campaign's hits (HELIOGRAPH_CONSENT "
                        "and the recipient's may say less)")  # fmt: skip
    parser.add_argument("--consent-column", metavar="COLUMN", default="", help="each recipient's "
                        "own: off, anonymous, pseudonymous or full")  # fmt: skip
    parser.add_argument("--link", metavar="COLUMN", action="append", default=[],
                        help="a column of target URLs; repeatable")  # fmt: skip
    parser.add_argument("--preview", action="store_true", help="for the sender's own eyes: what is "
                        "opened is of class self, and no send is recorded")  # fmt: skip
    options.add(parser, MintSettings, only=MINT)


def run(args: Namespace) -> int:
    """Mint a list."""
    settings = read(MintSettings, args)
    if args.file is None:
        raise UsageError("name a file of recipients, or - for standard input")
    if args.preview or args.send == PREVIEW:
        if args.send not in ("", PREVIEW):
            raise UsageError("a preview is of no --send")
        args.send, args.preview = PREVIEW, True
    recorder = open_recorder(settings)
    if not settings.remote and is_loopback(recorder.url):
        lists.say(f"warning: {recorder.url} is this machine, and no reader can fetch these "
                  "pixels: set HELIOGRAPH_PUBLIC_URL or --public-url")  # fmt: skip
    tally = lists.Tally()
    with contextlib.closing(recorder), lists.source(args.file) as file:
        table = open_table(file, args.file, args.format)
        more = {"cancelled": args.preview, "no_pixel": args.no_pixel}
        columns = {"message_id": args.message_id_column, "segment": args.segment_column}
        columns |= {"consent": args.campaign_consent, "consent_column": args.consent_column}
        requests = lists.Requests(args, table, links=args.link, **columns)
        with lists.output(args.output) as out, lists.progress(file, "minting") as moved:
            table.start(out, list(_columns(args, Minted("", "", "", {}, b""))))
            for rows in requests.groups(tally):
                answers = recorder.record([requests.of(row, **more) for row in rows], sync=False)
                for row, answer in zip(rows, answers, strict=True):
                    if isinstance(answer, Refusal):
                        tally.refuse(row.line, _explain(answer.reason))
                    else:
                        table.write(row, _columns(args, answer))
                        tally.done += 1
                moved()
            recorder.close()  # durable before the output gets its name
    return tally.report("minted")


def _columns(args: Namespace, minted: Minted) -> dict[str, str]:
    columns = {"recipient_key": minted.recipient} if args.hash_recipients else {}
    columns |= {"pixel_url": minted.pixel_url, "pixel_html": minted.pixel_html}
    columns["optout_url"] = minted.optout_url
    return columns | {f"{name}_url": minted.links.get(name, "") for name in args.link}


def record(
    recorder: Recorder, requests: Iterable[tuple[int, SendRequest]], tally: lists.Tally
) -> None:
    """Record what gives no URLs, some hundred at a time; each with its line."""
    rest = iter(requests)
    while group := list(itertools.islice(rest, lists.GROUP)):
        answers = recorder.record([request for _, request in group], sync=False)
        for (line, _), answer in zip(group, answers, strict=True):
            if isinstance(answer, Refusal):
                tally.refuse(line, _explain(answer.reason))
            else:
                tally.done += 1


def _explain(reason: str) -> str:
    """A refusal in the words of the command line."""
    return _ADVICE if "looks like an e-mail address" in reason else reason
