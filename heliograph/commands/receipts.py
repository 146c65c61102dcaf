"""`heliograph receipts`: a read receipt on standard input, as a mail server pipes it."""

import contextlib
import sys
from argparse import ArgumentParser, Namespace

from collector.receipt import MAX_MESSAGE
from heliograph import lists, options
from heliograph.errors import Failure
from heliograph.recorder import open_recorder
from heliograph.settings import MINT, MintSettings, read


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Record a read receipt (a message disposition notification, RFC 8098): one message on\n"
        "standard input. Its send is the one with the message id that it names, so mint with\n"
        "--message-id-column. `heliograph report receipts` shows them. Ends with code 1 where the\n"
        "message is no receipt."
    )
    options.add(parser, MintSettings, only=MINT)


def run(args: Namespace) -> int:
    """Record a receipt."""
    raw = sys.stdin.buffer.read(MAX_MESSAGE + 1)
    with contextlib.closing(open_recorder(read(MintSettings, args))) as recorder:
        try:
            receipt = recorder.receive(raw)
        except ValueError as error:
            raise Failure(f"this is no read receipt: {error}") from None
    lists.say(f"{receipt.disposition}: the mail with the message id {receipt.message_id}")
    return 0
