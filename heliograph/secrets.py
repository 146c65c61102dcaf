"""Making the key file and the API key: `up` and `key new` do, and nothing else."""

import logging
import os
import secrets
import time
from pathlib import Path

from collector.ring import RING
from schemas import keyring
from schemas.files import write_whole
from schemas.keyring import KeyFileError

_TOO_OPEN = 0o027


def make_keys(path: Path, journal: Path) -> bool:
    """Make the key file where there is none; whether it was made.

    Raises KeyFileError where the journal is of a ring: a new one would open none of its tokens.
    """
    if path.exists():
        return False
    if (journal / RING).exists():
        ring = (journal / RING).read_text().strip()
        raise KeyFileError(f"the key file of ring {ring} is missing: restore it with "
                           "`heliograph key import BACKUP`, or name it by --keys")  # fmt: skip
    keyring.write(path, keyring.create(os.urandom, int(time.time())), replace=False)
    return True


def make_api_key(path: Path) -> bool:
    """Make the API key's file, mode 0600, where there is none; whether it was made."""
    if path.exists():
        return False
    write_whole(path, secrets.token_urlsafe(32).encode() + b"\n", mode=0o600, replace=False)
    return True


def warn_of_mode(path: Path) -> None:
    """Say it if others than owner and group may read the key file, or than the owner write it."""
    if path.exists() and (mode := path.stat().st_mode & 0o777) & _TOO_OPEN:
        logging.getLogger("heliograph").warning(
            "the key file %s is open to others (mode %04o): chmod 600", path, mode
        )
