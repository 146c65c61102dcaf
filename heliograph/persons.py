"""One person's data: by which keys a command finds it."""

from argparse import ArgumentParser, Namespace

from heliograph.settings import MintSettings
from schemas import keyring
from schemas.event import clean


def add_options(parser: ArgumentParser) -> None:
    """Declare whom a command is about."""
    parser.add_argument("recipient", metavar="RECIPIENT", help="as it was minted")
    parser.add_argument("--hash-recipients", action="store_true",
                        help="it was minted as a keyed hash of what is given")  # fmt: skip


def keys(args: Namespace, settings: MintSettings) -> list[str]:
    """The recipient's key in events; of an e-mail address, where a key file is at hand, also its
    hash, for it may have been minted either way. Raises KeyFileError.
    """
    given = clean(args.recipient.strip(), 255)
    if not args.hash_recipients and ("@" not in given or not settings.key_file.exists()):
        return [given]
    hashed = keyring.load(settings.key_file).hash_recipient(given)
    return [hashed] if args.hash_recipients else [given, hashed]
