"""Writing a journal: one process, one journal, one `write` for a group of events.

The seqs of events that could not be written are used up, not given again: a gap in the store is
then a loss that anyone can see, and no seq ever names two events.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

from schemas import event
from schemas.files import make_directory, sync_directory
from schemas.journal import directory, frame

Loss = Literal["cap", "full", "io", "closed"]
LOSSES: Final[tuple[Loss, ...]] = ("cap", "full", "io", "closed")
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_BLOCK_LIMIT: Final = frame.MAX_BLOCK - event.MAX_LINE


class Journal:
    """The journal of this process. Not thread-safe, but for `sync`."""

    def __init__(
        self,
        root: Path,
        journal_id: str,
        clock: Callable[[], float],
        *,
        segment_bytes: int = 64 << 20,
        segment_seconds: float = 3600.0,
        max_bytes: int = 8 << 30,
    ) -> None:
        """Make and lock the journal `journal_id` under `root`; raises OSError.

        On a full disk it begins without a place to write, loses what comes, counts it, and
        `maintain` tries again. `max_bytes` bounds all journals under the root together; `clock`
        gives Unix seconds.
        """
        self.id = journal_id
        self.path = root / journal_id
        self.next_seq = 1
        self.written = 0
        self.lost: dict[Loss, int] = dict.fromkeys(LOSSES, 0)
        self.trouble: Loss | None = None
        self._root = root
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._segment_seconds = segment_seconds
        self._max_bytes = max_bytes
        self._fd = -1
        self._size = 0
        self._opened_at = 0.0
        self._rolled_for = 0.0  # when new segments had been asked for as it was opened
        self.unsure_below = 1  # seqs before it may be lost by a sync that failed
        self._unsynced: list[int] = []  # descriptors of segments that were left
        self._suspect = -1  # the one that `sync`, in its thread, wants left
        self._dirty = False
        self.pending_bytes = 0  # written since the last sync began
        self._sync_fails = False
        self._closed = False
        self._lock = -1
        try:
            self._lock = self._create()
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self.trouble = "full"
        self.used = directory.used_bytes(root)

    def _create(self) -> int:
        """Locked before it is seen under its name, or a reader would take it for sealed."""
        draft = self._root / f".{self.id}"
        make_directory(draft)
        lock = os.open(draft / directory.LOCK, os.O_RDWR | os.O_CREAT, 0o640)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            directory.write_position(draft, 1)
            draft.rename(self.path)
            sync_directory(self._root)
        except OSError:
            os.close(lock)
            raise
        return lock

    def append(self, bodies: Sequence[bytes]) -> bool:
        """Write events, all or none of a block; false if any was lost (counted in `lost`)."""
        whole = True
        at = 0
        while at < len(bodies):
            size, end = len(bodies[at]), at + 1
            while end < len(bodies) and size + len(bodies[end]) + 80 * (end - at) < _BLOCK_LIMIT:
                size += len(bodies[end])
                end += 1
            whole = self._append_block(bodies[at:end]) and whole
            at = end
        return whole

    def _append_block(self, bodies: Sequence[bytes]) -> bool:
        first = self.next_seq
        self.next_seq += len(bodies)
        data = frame.encode(first, len(bodies), event.block(self.id, first, bodies))
        loss = self._write(data, first)
        if loss is None:
            self.written += len(bodies)
        else:
            self.lost[loss] += len(bodies)
            self.trouble = loss  # only `maintain` ends it: a small event may fit on a full disk
        return loss is None

    def _write(self, data: bytes, first_seq: int) -> Loss | None:
        if self._lock < 0:
            return "closed" if self._closed else "full"
        if self.used + len(data) > self._max_bytes:
            return "cap"
        try:
            if self._fd < 0 or self._fd == self._suspect or self._due(len(data)):
                self._roll(first_seq)
            done = os.write(self._fd, data)
        except OSError as error:
            self._abandon()
            return "full" if error.errno in _FULL else "io"
        if done < len(data):  # a full disk takes what fits
            self._abandon()
            return "full"
        self._size += done
        self.used += done
        self.pending_bytes += done
        self._dirty = True
        return None

    def _due(self, coming: int) -> bool:
        age = self._clock() - self._opened_at
        young = 0.0 <= age < self._segment_seconds  # the clock may have gone back
        return self._size > 0 and (self._size + coming > self._segment_bytes or not young)

    def _roll(self, first_seq: int) -> None:
        path = self.path / directory.segment_name(first_seq)
        # Only a probe can have made it before, for the seqs of events are never given again.
        asked = directory.roll_asked(self._root)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        self._leave()
        self._fd, self._size, self._opened_at = fd, os.fstat(fd).st_size, self._clock()
        self._suspect, self._rolled_for = -1, asked

    def _leave(self) -> None:
        if self._fd >= 0:
            self._unsynced.append(self._fd)
            self._fd = -1
            self._dirty = True

    def _abandon(self) -> None:
        """Cut off what a failed write left; where that fails too, leave the segment as it is.

        Once: on a disk that fails on, each event would make a file.
        """
        if self._fd < 0:
            return
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            if self.trouble is None:
                self._leave()
            else:
                with contextlib.suppress(OSError):  # a reader passes over what is no frame
                    self._size = os.fstat(self._fd).st_size

    def maintain(self) -> None:
        """Once a second or so: see what others took of the space, leave a segment that is old, so
        that it can expire, and after a failure try whether writing works again.
        """
        with contextlib.suppress(OSError):
            self.used = directory.used_bytes(self._root)
        if self._lock < 0 and not self._closed:
            with contextlib.suppress(OSError):
                self._lock = self._create()
        asked = self._size > 0 and directory.roll_asked(self._root) != self._rolled_for
        if self._fd >= 0 and (self._due(0) or asked):
            try:  # an empty one: the last of a live journal never expires
                self._roll(self.next_seq)
            except OSError:
                self._leave()
        if self.trouble == "full" and self._size > 0:
            with contextlib.suppress(OSError):  # so that all that is shipped can make room
                self._roll(self.next_seq)
        if self.trouble is not None:
            probe = frame.encode(self.next_seq, 0, b"")
            loss = self._tightness() or self._write(probe, self.next_seq)
            self.trouble = loss or ("io" if self._sync_fails else None)

    def _tightness(self) -> Loss | None:
        """What leaves no room for a group of events, though a probe would fit."""
        room = min(frame.MAX_BLOCK, self._max_bytes // 8)
        if self.used + room > self._max_bytes:
            return "cap"
        try:
            disk = os.statvfs(self._root)
        except OSError:
            return "io"
        return "full" if disk.f_bavail * disk.f_frsize < room else None

    def sync(self) -> None:
        """Make everything written so far durable. May run in a thread beside `append`.

        On failure OSError is raised, and the segment is left for good by what is written next, for
        its pages may be lost: at the first one, and when a sync has worked again.
        """
        if not self._dirty:
            return
        self._dirty = False
        self.pending_bytes = 0
        current = self._fd  # first: what is left meanwhile is then among the others
        left = [self._unsynced.pop() for _ in range(len(self._unsynced))]
        if current in left:
            current = -1
        fds = [*left, *([current] if current >= 0 else [])]
        if not fds:
            return
        failed: OSError | None = None
        for fd in fds:
            try:
                os.fdatasync(fd)
            except OSError as error:
                failed = error
            if fd != current:
                os.close(fd)
        try:
            sync_directory(self.path)
        except OSError as error:
            failed = error
        if (failed is not None) != self._sync_fails:
            self._suspect = current
        self._sync_fails = failed is not None
        if failed:
            self.trouble = "io"
            self.unsure_below = self.next_seq
            raise failed

    def close(self) -> None:
        """Sync and seal. A journal without events leaves nothing behind."""
        self._closed = True
        if self._lock < 0:
            return
        lost = any(self.lost.values())
        if lost:  # so that an audit sees how far the seqs went
            self._write(frame.encode(self.next_seq, 0, b""), self.next_seq)
        self._leave()
        with contextlib.suppress(OSError):
            self.sync()
        if not self.written and not lost:
            directory.remove(self.path)
        os.close(self._lock)
        self._lock = -1
