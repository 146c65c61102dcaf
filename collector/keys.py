"""The live key ring: a key added or retired reaches a running worker within seconds."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from schemas import keyring, token
from schemas.keyring import KeyFileError
from schemas.token import Fields, Purpose, TokenError

log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 1.0
_Stamp = tuple[int, int, int]


class Keys:
    """The ring of a key file that may be replaced at any time. A broken file keeps the old ring."""

    def __init__(self, path: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Load the file; raises KeyFileError."""
        self.trouble = ""
        self._path = path
        self._monotonic = monotonic
        self._stamp = _stamp(path)
        self._asked = monotonic()
        self.ring = keyring.load(path)
        self.openers = self.ring.openers

    def unseal(self, purpose: Purpose, text: bytes) -> tuple[Fields, str]:
        """What a token says and the id of its key; raises TokenError.

        An unknown key may be one that was added a moment ago: the file is looked at, but not more
        than once a second, for anyone can invent key ids.
        """
        try:
            return token.unseal(self.openers, purpose, text)
        except TokenError as error:
            if error.reason != "unknown_key":
                raise
            if self._monotonic() - self._asked < _RETRY_SECONDS or not self.refresh():
                raise
        return token.unseal(self.openers, purpose, text)

    def refresh(self) -> bool:
        """Read the file again if it has changed; whether the ring is a new one now."""
        self._asked = self._monotonic()
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            self.trouble = ""
            return False
        try:
            fresh = keyring.load(self._path)
            if fresh.ring_id != self.ring.ring_id:
                raise KeyFileError("the key file belongs to another ring: restart with its journal")
        except KeyFileError as error:
            if self.trouble != str(error):
                log.error("the keys stay as they are: %s", error)
            self.trouble = str(error)
            return False
        self._stamp, self.ring, self.trouble = stamp, fresh, ""
        self.openers = fresh.openers
        log.info("key file read again: %d keys, %s mints", len(fresh.content.keys),
                 fresh.minting_id)  # fmt: skip
        return True


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
