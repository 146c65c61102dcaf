"""Making the key file and the API key: `up` and `key new` do, and nothing else."""

import os
import secrets
import time
from pathlib import Path

from schemas import keyring
from schemas.files import write_whole


def make_keys(path: Path) -> bool:
    """Make the key file where there is none; whether it was made."""
    if path.exists():
        return False
    keyring.write(path, keyring.create(os.urandom, int(time.time())), replace=False)
    return True


def make_api_key(path: Path) -> bool:
    """Make the API key's file, mode 0600, where there is none; whether it was made."""
    if path.exists():
        return False
    write_whole(path, secrets.token_urlsafe(32).encode() + b"\n", mode=0o600, replace=False)
    return True
