"""One person's data: by which keys a command finds it."""

from argparse import ArgumentParser, Namespace

from heliograph import lists
from heliograph.errors import UsageError
from heliograph.settings import MintSettings
from schemas import keyring
from schemas.event import clean
from schemas.token import MAX_NAME


def add_options(parser: ArgumentParser) -> None:
    """Declare whom a command is about."""
    parser.add_argument("recipient", metavar="RECIPIENT", help="as it was minted")
    parser.add_argument("--hash-recipients", action="store_true",
                        help="it was minted as a keyed hash of what is given")  # fmt: skip


def keys(args: Namespace, settings: MintSettings) -> list[str]:
    """The recipient's key in events; of an e-mail address, where a key file is at hand, also its
    hash, for it may have been minted either way. Raises UsageError, KeyFileError.
    """
    given = clean(args.recipient.strip(), 4 * MAX_NAME)
    if not 0 < len(given.encode()) <= MAX_NAME:  # cut, it could be another's
        raise UsageError(f"a recipient has 1 to {MAX_NAME} bytes")
    if not args.hash_recipients and ("@" not in given or not settings.key_file.exists()):
        return [given]
    hashed = keyring.load(settings.key_file).hash_recipient(given)
    return [hashed] if args.hash_recipients else [given, hashed]


def tell_if_unknown(args: Namespace, events: int) -> None:
    """Say it where nobody is known by the key: a person's request must not end unseen."""
    if not events and not args.hash_recipients:
        lists.say("no event is stored of this key. It is taken letter by letter; of who was minted "
                  "as a keyed hash, name what was hashed, with --hash-recipients")  # fmt: skip
