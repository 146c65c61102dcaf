"""Who has opted out: a file of sealed entries that is only added to, and what one knows of it.

Any process may add: it takes the file's lock, ends a line that another was killed in, writes whole
lines and syncs them. Readers take only whole lines, and skip those that are no entry.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from collector import optout_index
from collector.opted_out import OptedOut
from schemas.files import sync_directory
from schemas.optout import Entry, Sealer

#: What one look at the file reads: some hundred entries, which take about a millisecond.
STEP_BYTES: Final = 16 << 10
#: A file is not added to beyond this: five million entries.
MAX_BYTES: Final = 256 << 20


def append(path: Path, lines: bytes) -> None:
    """Add whole lines; they are on disk when it returns. Raises OSError."""
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
        os.fsync(file)
        if not size:
            sync_directory(path.parent)
    finally:
        os.close(file)


class Tail:
    """Reads a file of entries, and later what was added."""

    def __init__(self, path: Path, sealer: Sealer, at: int = 0, damaged: int = 0) -> None:
        """From a place on, before which so many lines were damaged."""
        self.damaged = damaged
        self.at = at
        self._path = path
        self._sealer = sealer
        self._inode = 0

    def is_another(self) -> bool:
        """Whether the file is not the one that was read so far. Raises OSError where it is gone."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            if not self._inode:
                return False
            self._inode = -1  # a new one may have the number of the old one
            raise
        return self._inode != 0 and (found.st_ino != self._inode or found.st_size < self.at)

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

    def __init__(self, path: Path, hash_secret: bytes) -> None:
        """Nothing is read yet."""
        self.trouble = ""
        self.path = path
        self.sealer = Sealer(hash_secret)
        self.recipients = OptedOut(self.sealer.name)  # stays the same object
        self._tail = Tail(path, self.sealer)
        self._stamp = (0, 0)  # of the index that was looked at

    @property
    def damaged(self) -> int:
        """Lines that were no entries."""
        return self._tail.damaged

    def step(self) -> bool:
        """Read some of what is new; whether there may be more. What cannot be read stays known."""
        try:
            if self._begin_anew():
                return False
            entries = self._tail.read()
        except OSError as error:
            self.trouble = f"opt-outs cannot be read: {error.strerror}"
            return False
        self.trouble = ""
        _apply(entries or [], self.recipients)
        return entries is not None

    def _begin_anew(self) -> bool:
        """Whether there was another file, or a new index. Then begin with the index, if it can be
        used, and read the rest as a whole: nobody is in between. Raises OSError.
        """
        another, stamp = self._tail.is_another(), optout_index.stamp(self.path)
        if not another and stamp == self._stamp:
            return False
        self._stamp = stamp
        index = optout_index.load(self.path, self.sealer.index_key)
        if not (another or index):
            return False
        fresh, tail = OptedOut(self.sealer.name), Tail(self.path, self.sealer)
        if index:
            fresh.begin(index.records, bytearray(index.bits))
            tail = Tail(self.path, self.sealer, index.at, index.damaged)
        while (entries := tail.read()) is not None:
            _apply(entries, fresh)
        self.recipients.become(fresh)
        self._tail, self.trouble = tail, ""
        return True

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

    def append(self, lines: bytes) -> None:
        """Add lines, durably; they are known when they have been read. Raises OSError."""
        if lines:
            append(self.path, lines)


def _apply(entries: Iterable[Entry], recipients: OptedOut) -> None:
    for recipient, out, _ in entries:
        recipients.put(recipient, out)
