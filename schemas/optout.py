"""An opt-out as it is kept, in a file and in a topic, which both show nobody's name.

    line    = base64url(seal), without padding, and a line end
    seal    = AES-SIV (RFC 5297) of the payload under 64 bytes made of the ring's hash secret, with
              the associated data "heliograph/1/optouts"
    payload = 1 (opted out) or 0 (taken back); Unix milliseconds (6 bytes, big-endian); the
              recipient's key, as tokens seal it, in UTF-8

Of a recipient's entries the last one holds.
"""

import hashlib
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from schemas.token import MAX_NAME, decode64, encode64

#: The file's name in a data directory.
FILE: Final = "optouts"
#: Beside it, where there is a topic: the topic has been read to its end once.
READ: Final = "optouts.read"
#: Beside it, where a sync of it has failed since the machine was started.
UNSURE: Final = "optouts.unsure"
_DATA: Final = [b"heliograph/1/optouts"]


class Entry(NamedTuple):
    """Whether a recipient has opted out, since a time in Unix milliseconds."""

    recipient: str
    out: bool
    at: int


class Sealer:
    """Seals and opens entries under the hash secret of a ring, which never rotates."""

    def __init__(self, hash_secret: bytes) -> None:
        self._secret = hash_secret
        key = hashlib.blake2b(b"optouts", key=hash_secret, digest_size=64).digest()
        self._cipher = AESSIV(key)
        self.index_key = hashlib.blake2b(b"optouts.index", key=hash_secret, digest_size=32).digest()

    def seal(self, entry: Entry) -> bytes:
        """An entry's line; raises ValueError where the recipient is none."""
        name = entry.recipient.encode()
        if not 0 < len(name) <= MAX_NAME:
            raise ValueError(f"a recipient has 1 to {MAX_NAME} bytes")
        payload = bytes([entry.out]) + entry.at.to_bytes(6, "big") + name
        return encode64(self._cipher.encrypt(payload, _DATA)).encode() + b"\n"

    def open(self, line: bytes) -> Entry:
        """The inverse of `seal`, with or without the line end; ValueError for what is no entry."""
        try:
            payload = self._cipher.decrypt(decode64(line.rstrip(b"\n")), _DATA)
        except (InvalidTag, ValueError):
            raise ValueError("no entry of this ring") from None
        return Entry(payload[7:].decode(), payload[0] == 1, int.from_bytes(payload[1:7], "big"))

    def name(self, recipient: str) -> bytes:
        """What stands for a recipient as a key: always the same, and nobody's name."""
        return hashlib.blake2b(
            recipient.encode(), key=self._secret, digest_size=16, person=b"optout"
        ).digest()
