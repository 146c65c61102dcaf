"""Who has opted out, as a hit asks: a bitmap that tells nearly all who have not, then digests.

    bits    = at the CRC-32's first bits of each recipient's key a set bit; others may share it
    records = CRC-32 (4 bytes) and the first 12 bytes of the keyed digest of each, sorted

Nobody is taken for another: the bits only spare the look at a dictionary and the records.
"""

from collections.abc import Callable
from typing import Final
from zlib import crc32

RECORD_BYTES: Final = 16
#: Bits of the map: some for each recipient, and not below what those of a few days want.
_LEAST_BITS: Final = 21
_FOR_EACH: Final = 5  # 2^5
#: Recipients that are forgotten together.
_FORGOTTEN: Final = 2000


def record(recipient: str, name: Callable[[str], bytes]) -> bytes:
    """A recipient's record; `name` is its keyed digest."""
    return crc32(recipient.encode()).to_bytes(4, "big") + name(recipient)[: RECORD_BYTES - 4]


def place(records: bytes | bytearray, wanted: bytes) -> int:
    """Where a record is or would be, in bytes."""
    low, high = 0, len(records) // RECORD_BYTES
    while low < high:
        middle = (low + high) // 2
        at = middle * RECORD_BYTES
        if records[at : at + RECORD_BYTES] < wanted:
            low = middle + 1
        else:
            high = middle
    return low * RECORD_BYTES


def merged(records: bytes | bytearray, changes: dict[bytes, bool]) -> bytes:
    """The records with those of some who opted out, and without those of some who did not stay."""
    parts: list[bytes | bytearray] = []
    done = 0
    for wanted in sorted(changes):
        at = place(records, wanted)
        parts.append(records[done:at])
        done = at + RECORD_BYTES if records[at : at + RECORD_BYTES] == wanted else at
        if changes[wanted]:
            parts.append(wanted)
    parts.append(records[done:])
    return b"".join(parts)


def bitmap(records: bytes | bytearray) -> bytearray:
    """The bits of records."""
    count = len(records) // RECORD_BYTES
    size = max(_LEAST_BITS, count.bit_length() + _FOR_EACH)
    bits = bytearray(1 << (size - 3))
    for at in range(0, len(records), RECORD_BYTES):
        bit = int.from_bytes(records[at : at + 4], "big") >> (32 - size)
        bits[bit >> 3] |= 1 << (bit & 7)
    return bits


class OptedOut:
    """The recipients that have opted out: those of an index, and what has changed since."""

    def __init__(self, name: Callable[[str], bytes]) -> None:
        """Nobody yet; `name` gives a recipient's keyed digest."""
        self._name = name
        self.begin(b"", bitmap(b""))

    def begin(self, records: bytes | bytearray, bits: bytearray) -> None:
        """Those of an index, and no others."""
        self._records, self._bits = records, bits
        self._shift = 33 - (len(bits) * 8).bit_length()
        self._news: dict[str, bool] = {}
        self.count = len(records) // RECORD_BYTES

    def become(self, other: "OptedOut") -> None:
        """Know what another knows, which is given up; it gets what was changed here."""
        self._records, self._bits, self._shift = other._records, other._bits, other._shift
        self._news, other._news, self.count = other._news, self._news, other.count

    def forget(self) -> bool:
        """Give some of what has changed up, and its memory; whether there is more. For to give all
        up at once takes a tenth of a second per million.
        """
        for _ in range(min(len(self._news), _FORGOTTEN)):
            self._news.popitem()
        return bool(self._news)

    def has(self, recipient: str) -> bool:
        """Whether a recipient has opted out."""
        bit = crc32(recipient.encode()) >> self._shift
        if not self._bits[bit >> 3] >> (bit & 7) & 1:
            return False
        news = self._news.get(recipient)
        if news is not None:
            return news
        wanted = record(recipient, self._name)
        at = place(self._records, wanted)
        return self._records[at : at + RECORD_BYTES] == wanted

    def put(self, recipient: str, out: bool) -> None:
        """A recipient opts out, or in again."""
        if self.has(recipient) == out:
            return
        self._news[recipient] = out
        self.count += 1 if out else -1
        bit = crc32(recipient.encode()) >> self._shift
        self._bits[bit >> 3] |= 1 << (bit & 7)
