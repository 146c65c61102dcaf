"""`heliograph erase`: all that is stored of a recipient, gone for good."""

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

from consumer.settings import ConsumerSettings
from heliograph import lists, options, optouts, persons
from heliograph.errors import Failure, UsageError
from heliograph.orders import open_orders
from heliograph.settings import MINT, STORE, MintSettings, read
from schemas.journal import redact
from schemas.journal.directory import QUARANTINE, journals

#: How long those who write journals have for beginning new segments, in seconds.
_ROLL_SECONDS: Final = 20.0


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Erase a recipient: from the store's tables and files, and from the journals of this data\n"
        "directory. Old copies of their events (a topic read again, a restored journal, `reship`)\n"
        "do not come back, and hits to come are not stored: they are opted out too, unless\n"
        "--keep-recording. The line may run. Broken off, run it again. What it cannot reach, and\n"
        "how long that is kept: docs/privacy.md."
    )
    persons.add_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what there is, and end")
    parser.add_argument("--keep-recording", action="store_true",
                        help="do not opt them out, and store what comes from now on")  # fmt: skip
    parser.add_argument("--lift", action="store_true", help="store what comes from now on; what "
                        "was erased stays away")  # fmt: skip
    options.add(parser, ConsumerSettings, MintSettings, only=STORE | MINT | {"cluster", "rules"})


def run(args: Namespace) -> int:
    """Opt out, erase in the store, then in the journals."""
    settings, minting = read(ConsumerSettings, args), read(MintSettings, args)
    names = persons.keys(args, minting)
    if not (args.dry_run or args.lift or args.keep_recording):
        _opt_out(minting, names)
    with open_orders(settings) as orders:
        told = orders.erase(names, dry_run=args.dry_run, lift=args.lift)
        if args.lift:
            lists.say("what comes from now on is stored again; an opt-out is taken back by "
                      "`heliograph optout remove`")  # fmt: skip
            return 0
        root = settings.data / "journal"
        told["journal_events"], busy = _redact(root, names, told.pop("message_ids"), args.dry_run)
        told["quarantined_files"] = _quarantined(root.parent / QUARANTINE, names, args.dry_run)
        if args.keep_recording and not args.dry_run:
            orders.erase(names, dry_run=False, lift=True)
    json.dump({"dry_run": args.dry_run, **told}, sys.stdout)
    print()
    persons.tell_if_unknown(args, told["events"])
    if busy:
        raise Failure(f"{len(busy)} journals are being written by what does not begin a new "
                      f"segment ({busy[0]}): end it, and erase again")  # fmt: skip
    return 0


def _opt_out(settings: MintSettings, names: list[str]) -> None:
    if not settings.remote and not settings.key_file.exists():
        lists.say("no key file is here: opt the recipient out where mails are minted, too")
        return
    try:
        optouts.put(settings, names, allow_addresses=True)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _redact(root: Path, names: list[str], ids: list[str], dry_run: bool) -> tuple[int, list[str]]:
    """How many events of the journals are theirs, and which could not be reached."""
    found = set(ids)
    for journal in journals(root):
        found |= redact.message_ids(journal, names)
    whose = redact.Persons(names, sorted(found))
    if not dry_run and root.exists():
        redact.ask_to_roll(root)
    deadline = time.monotonic() + _ROLL_SECONDS
    count = 0
    while True:
        done = [redact.redact_journal(path, whose, dry_run=dry_run) for path in journals(root)]
        count += sum(one.events for one in done)
        busy = [name for one in done for name in one.busy]
        if dry_run or not busy or time.monotonic() > deadline:
            return count, [] if dry_run else busy
        time.sleep(0.5)


def _quarantined(folder: Path, names: list[str], dry_run: bool) -> int:
    """Delete what was set aside as damaged and holds a name; how many files."""
    whose = redact.Persons(names, [])
    theirs = [path for path in folder.glob("*.bin") if whose.has(path.read_bytes())]
    for path in [] if dry_run else theirs:
        path.unlink(missing_ok=True)
    return len(theirs)
