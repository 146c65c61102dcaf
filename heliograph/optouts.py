"""Opt-outs for commands: recipients opted out, and in again, and who has."""

import contextlib
import itertools
from collections.abc import Iterable

from collector.mint import is_address
from collector.optouts import Tail
from heliograph.recorder import open_recorder
from heliograph.settings import MintSettings
from schemas import keyring
from schemas.optout import FILE, Entry, Sealer

#: Recipients that are kept together.
_GROUP = 10_000


def put(
    settings: MintSettings,
    recipients: Iterable[str],
    out: bool = True,
    *,
    hash_recipients: bool = False,
    allow_addresses: bool = False,
) -> int:
    """Opt recipients out or in again, in the data directory or by a remote collector; how many were
    changed, or taken by the remote. They are named as they were minted, or by what is to be hashed;
    an e-mail address is refused unless it is said which. Raises KeyFileError, ValueError, Failure.
    """
    rest = iter(recipients)
    with contextlib.closing(open_recorder(settings)) as recorder:
        done = 0
        while group := list(itertools.islice(rest, _GROUP)):
            address = next(filter(is_address, group), "")
            if address and not (hash_recipients or allow_addresses):
                raise ValueError(
                    f"{address!r} is an e-mail address: say how it was minted, by "
                    "--hash-recipients or --allow-addresses"
                )
            done += recorder.opt_out(group, out, hash_recipients=hash_recipients)
    return done


def listed(settings: MintSettings) -> dict[str, Entry]:
    """Who has opted out by the data directory's file. Raises KeyFileError, OSError."""
    secret = keyring.load(settings.key_file).content.hash_secret
    tail = Tail(settings.data / FILE, Sealer(secret))
    found: dict[str, Entry] = {}
    while (entries := tail.read(1 << 20)) is not None:
        found |= {entry.recipient: entry for entry in entries}
    return {name: entry for name, entry in found.items() if entry.out}


def since(settings: MintSettings, recipient: str) -> int | None:
    """When a recipient opted out, in Unix seconds; None if it has not."""
    entry = listed(settings).get(recipient)
    return entry.at // 1000 if entry else None
