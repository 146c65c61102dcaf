"""Who has opted out: a file of sealed entries that is only added to, and what one knows of it.

Any process may add: it takes the file's lock, ends a line that another was killed in, writes whole
lines and syncs them. Readers take only whole lines, and skip those that are no entry. They read in
steps of a millisecond. What is much, or all of another file, they read beside what they know, from
the index on, while they follow the file's end: so a single entry holds at once all the same.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from collector import optout_index
from collector.opted_out import OptedOut
from schemas.files import sync_directory
from schemas.optout import UNSURE, Entry, Sealer

#: What one look at the file reads: some hundred entries, which take about a millisecond.
STEP_BYTES: Final = 16 << 10
#: More than this is not read into memory entry by entry where there will be an index: some 300,000.
LONG: Final = 16 << 20
#: What follows the file's end begins so far before it: what was added in the last second.
_LAST_BYTES: Final = 1 << 20
#: Longer than any line.
_LINE_BYTES: Final = 1024
_UNREAD: Final = "many opt-outs are new, and not known before their index is made"
#: A file is not added to beyond this: five million entries.
MAX_BYTES: Final = 256 << 20


def append(path: Path, lines: bytes) -> None:
    """Add whole lines; they are on disk when it returns. Raises OSError; the lines may be there all
    the same, but the file is not sure then.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = os.fstat(file).st_size
        if size + len(lines) > MAX_BYTES:
            raise OSError(f"{path} is full ({MAX_BYTES >> 20} MiB)")
        if size and os.pread(file, 1, size - 1) != b"\n":
            lines = b"\n" + lines
        while lines:
            lines = lines[os.write(file, lines) :]
        try:
            os.fsync(file)
            if not size:
                sync_directory(path.parent)
        except OSError:
            path.with_name(UNSURE).write_bytes(_boot())
            raise
    finally:
        os.close(file)


def is_sure(path: Path) -> bool:
    """Whether all that can be read of a file is on disk too: what a sync has failed for may never
    be, though it can be read until the machine stops. Waits for who is adding. Raises OSError.
    """
    unsure = path.with_name(UNSURE)
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.fsync(file)
        return not unsure.exists() or unsure.read_bytes() != _boot()
    finally:
        os.close(file)


def _boot() -> bytes:
    """What another start of the machine has another of."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        return b""


class Tail:
    """Reads a file of entries, and later what was added."""

    def __init__(self, path: Path, sealer: Sealer, at: int = 0, damaged: int = 0) -> None:
        """From a place on, before which so many lines were damaged."""
        self.damaged = damaged
        self.at = at
        self._path = path
        self._sealer = sealer
        self._inode = 0

    def look(self) -> tuple[bool, int]:
        """Whether the file is not the one that was read so far, and the bytes that are not read.
        Raises OSError where it is gone.
        """
        try:
            found = self._path.stat()
        except FileNotFoundError:
            if not self._inode:
                return False, 0
            self._inode = -1  # a new one may have the number of the old one
            raise
        another = self._inode != 0 and (found.st_ino != self._inode or found.st_size < self.at)
        return another, found.st_size - self.at

    def near_end(self) -> "Tail":
        """One that reads what was added last, and what comes. Raises OSError."""
        tail = Tail(self._path, self._sealer, 0, self.damaged)
        file = os.open(self._path, os.O_RDONLY)
        try:
            found = os.fstat(file)
            tail._inode = found.st_ino
            if found.st_size > _LAST_BYTES:
                begin = found.st_size - _LAST_BYTES
                tail.at = begin + os.pread(file, _LINE_BYTES, begin).find(b"\n") + 1
        finally:
            os.close(file)
        return tail

    def read(self, limit: int = STEP_BYTES) -> list[Entry] | None:
        """The entries in up to `limit` bytes more; None if there is no whole line. Raises OSError.

        A file that was not there yet is empty.
        """
        if not self._inode and not self._path.exists():
            return None
        file = os.open(self._path, os.O_RDONLY)
        try:
            self._inode = os.fstat(file).st_ino
            data = os.pread(file, limit, self.at)
        finally:
            os.close(file)
        whole = data[: data.rfind(b"\n") + 1]
        if not whole and len(data) == limit:  # longer than any line
            whole = data
        self.at += len(whole)
        return list(self._entries(whole)) if whole else None

    def _entries(self, lines: bytes) -> Iterator[Entry]:
        for line in lines.splitlines():
            try:
                yield self._sealer.open(line)
            except ValueError:
                self.damaged += bool(line)


class Optouts:
    """The recipients that have opted out, as far as this process has read them."""

    def __init__(
        self, path: Path, hash_secret: bytes, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Nothing is read yet."""
        self.trouble = ""
        self.path = path
        self.sealer = Sealer(hash_secret)
        self.recipients = OptedOut(self.sealer.name)  # stays the same object
        self._monotonic = monotonic
        self._tail = Tail(path, self.sealer)
        self._stamp = (0, 0)  # of the index that was looked at
        self._skipped = False  # the tail has left something out, which is read anew
        self._anew: Iterator[bool] | None = None

    @property
    def damaged(self) -> int:
        """Lines that were no entries."""
        return self._tail.damaged

    def step(self, patience: float = 0.0) -> bool:
        """Read some of what is new; whether there may be more. What cannot be read stays known.

        For an index of what is much and new it waits some seconds, and is in trouble meanwhile.
        """
        try:
            self._begin_anew(patience)
            entries = self._tail.read()
            _apply(entries or [], self.recipients)
            more = next(self._anew, None) if self._anew else None
        except OSError as error:
            self.trouble = f"opt-outs cannot be read: {error.strerror}"
            self._anew, self._stamp = None, (-1, -1)
            return False
        if more is None:
            self._anew = None
        self.trouble = _UNREAD if more is False else ""
        return entries is not None or bool(more)

    def _begin_anew(self, patience: float) -> None:
        """Begin to read anew where there is another file, much of it, or a new index. Raises
        OSError.
        """
        stamp = optout_index.stamp(self.path)
        another, rest = self._tail.look()
        begun = stamp == self._stamp
        if another or rest > LONG or (rest and not (begun or self._tail.at)):
            self._tail, self._skipped = self._tail.near_end(), True
        elif begun:
            return
        self._stamp, self._anew = stamp, self._read_anew(patience)

    def _read_anew(self, patience: float) -> Iterator[bool]:
        """Know what the index says, if it can be used, and the file after it: nobody is in between.
        After each step, whether the next one may be made at once. Raises OSError.
        """
        index = yield from optout_index.loading(self.path, self.sealer.index_key)
        if not (index or self._skipped):
            return
        fresh, tail = OptedOut(self.sealer.name), Tail(self.path, self.sealer)
        if index:
            fresh.begin(index.records, index.bits)
            tail = Tail(self.path, self.sealer, index.at, index.damaged)
        until = self._monotonic() + patience
        while tail.look()[1] > LONG and self._monotonic() < until:
            yield False
        while (entries := tail.read()) is not None:
            _apply(entries, fresh)
            yield True
        self.recipients.become(fresh)
        self._tail, self._skipped = tail, False
        while fresh.forget():
            yield True

    def refresh(self) -> None:
        """Read all that is new."""
        while self.step():
            pass

    def changes(self, recipients: Iterable[str], out: bool) -> Sequence[str]:
        """Who of some is not known as that yet, each once."""
        return [r for r in dict.fromkeys(recipients) if self.recipients.has(r) != out]

    def seal(self, recipients: Iterable[str], out: bool, at: int) -> bytes:
        """The lines of entries of a time in Unix ms; raises ValueError."""
        return b"".join(self.sealer.seal(Entry(recipient, out, at)) for recipient in recipients)

    def is_sure(self) -> bool:
        """Whether what is known is on disk for sure: see `is_sure`."""
        try:
            return is_sure(self.path)
        except OSError:
            return False

    def append(self, lines: bytes) -> None:
        """Add lines, durably; others know them when they have read them. Raises OSError."""
        if lines:
            append(self.path, lines)


def _apply(entries: Iterable[Entry], recipients: OptedOut) -> None:
    for recipient, out, _ in entries:
        recipients.put(recipient, out)
