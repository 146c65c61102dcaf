"""Journals on disk: their names, which of them are sealed, their positions, and when they go."""

import contextlib
import fcntl
import logging
import os
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from schemas.journal.frame import MAX_BLOCK, frames_backwards

_log: Final = logging.getLogger(__name__)
LOCK: Final = "lock"
POSITION: Final = "position"
#: Touched in the root, it asks all that write a journal there to begin a new segment.
ROLL: Final = "roll"
QUARANTINE: Final = "quarantine"
ID_LENGTH: Final = 28
#: What is kept for shipping again leaves so much of a disk, or a quarter of a small one.
_SPARE_BYTES: Final = 1 << 30
#: How long damaged bytes are kept: as the dead letter is, for they may hold anybody's address.
QUARANTINE_SECONDS: Final = 30 * 86_400.0


def journal_id(now_ms: int, random: bytes) -> str:
    """A journal's name: 12 hex digits of Unix milliseconds, then 8 random bytes; sorts by time."""
    return f"{now_ms:012x}{random[:8].hex()}"


def is_journal_id(name: str) -> bool:
    """Whether a directory's name is a journal's."""
    return len(name) == ID_LENGTH and not set(name) - set("0123456789abcdef")


def journals(root: Path) -> list[Path]:
    """The journals under a root, oldest first."""
    try:
        names = sorted(entry.name for entry in os.scandir(root) if is_journal_id(entry.name))
    except FileNotFoundError:
        return []
    return [root / name for name in names]


def is_sealed(journal: Path) -> bool:
    """Whether no process writes this journal any more (and so none ever will)."""
    try:
        descriptor = os.open(journal / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def segment_name(first_seq: int) -> str:
    """The file name of the segment that starts with a seq."""
    return f"{first_seq:020d}.seg"


def segments(journal: Path) -> list[tuple[int, Path]]:
    """(first seq, path) of a journal's segments in order."""
    found = []
    try:
        for entry in os.scandir(journal):
            stem, _, suffix = entry.name.partition(".")
            if suffix == "seg" and stem.isdigit():
                found.append((int(stem), journal / entry.name))
    except FileNotFoundError:
        return []
    return sorted(found)


@contextlib.contextmanager
def unless_forbidden(journal: Path) -> Iterator[None]:
    """A turn of one of many journals: where it may not be read or changed, the turn ends with a
    word, once, for one must not hold up all.
    """
    try:
        yield
    except PermissionError as error:
        _tell_once(f"journal {journal.name} is passed over: {error.strerror}")


@lru_cache(1000)
def _tell_once(what: str) -> None:
    _log.error("%s", what)


def read_position(journal: Path) -> int:
    """The next seq to ship; 1 if the file is missing or damaged, for repeating is harmless."""
    try:
        number, _, crc = (journal / POSITION).read_bytes().partition(b" ")
    except OSError:
        return 1
    valid = number.isdigit() and crc.strip() == b"%08x" % zlib.crc32(number)
    return int(number) if valid else 1


def write_position(journal: Path, next_seq: int) -> None:
    """Write the position over the last one; raises OSError. A journal that is gone needs none, and
    of one that may not be changed what is shipped comes again, which is harmless.

    In place and always as long, so that it can be written on a disk that is full.
    """
    number = b"%020d" % next_seq
    with unless_forbidden(journal), contextlib.suppress(FileNotFoundError):
        descriptor = os.open(journal / POSITION, os.O_WRONLY | os.O_CREAT, 0o640)
        try:
            os.pwrite(descriptor, b"%b %08x\n" % (number, zlib.crc32(number)), 0)
        finally:
            os.close(descriptor)


def used_bytes(root: Path) -> int:
    """What all segments under a root take on disk, in bytes, as far as they may be read."""
    total = 0
    for journal in journals(root):
        with unless_forbidden(journal):
            for _, path in segments(journal):
                with contextlib.suppress(FileNotFoundError):
                    total += path.stat().st_size
    return total


def expire(root: Path, now: float, keep_seconds: float) -> int:
    """Delete segments that are shipped and older than `keep_seconds`, and empty sealed journals.

    So do damaged bytes of journals that are gone, after their own time. Returns how many segments
    went. Only the process that moves the positions calls this.
    """
    removed = 0
    for journal in journals(root):
        with unless_forbidden(journal):
            sealed = is_sealed(journal)
            for path in _shipped(journal, sealed, now - keep_seconds):
                path.unlink()
                removed += 1
            if sealed and not segments(journal) and _older(journal, now - keep_seconds):
                remove(journal)
    _expire_damaged(root, now - QUARANTINE_SECONDS)
    return removed


def _expire_damaged(root: Path, before: float) -> None:
    for path in (root.parent / QUARANTINE).glob("*.bin"):
        with contextlib.suppress(FileNotFoundError):  # an erasure deletes some
            if _older(path, before) and not (root / path.name[:ID_LENGTH]).exists():
                path.unlink()


def _shipped(journal: Path, sealed: bool, before: float) -> list[Path]:
    """Old segments wholly behind the position. Of a live journal the last one always stays."""
    position = read_position(journal)
    files = segments(journal)
    following = [first for first, _ in files[1:]]
    gone = [
        path
        for (_, path), after in zip(files, following, strict=False)
        if _older(path, before) and _is_behind(position, path, after)
    ]
    if files and sealed and _older(files[-1][1], before) and _is_behind(position, files[-1][1]):
        gone.append(files[-1][1])
    return gone


def _is_behind(position: int, segment: Path, after: int | None = None) -> bool:
    """Whether all events of a segment are shipped. One without a frame must have been set aside,
    or followed by a segment that begins at a shipped one: by names alone, for a copy may have any.
    """
    end = _end_of(segment)
    if end is None:
        empty = segment.exists() and not segment.stat().st_size
        followed = after is not None and after <= position
        return empty or followed or quarantined(segment, 0).exists()
    return end <= position


def quarantined(segment: Path, at: int) -> Path:
    """Where the bytes from `at` on are kept that a reader found to be no frame."""
    folder = segment.parent.parent.parent / QUARANTINE
    return folder / f"{segment.parent.name}-{segment.stem}-{at}.bin"


def make_room(root: Path, now: float, keep_seconds: float, max_bytes: int) -> int:
    """`expire`, but keep shorter than wanted where what is kept would fill the journals' cap, or
    has a part in filling the disk.
    """
    removed = expire(root, now, keep_seconds)
    while keep_seconds > 1.0 and (used_bytes(root) > 0.75 * max_bytes or _is_tight(root)):
        keep_seconds /= 4
        removed += expire(root, now, keep_seconds)
    return removed


def _is_tight(root: Path) -> bool:
    """Whether the disk has less left than the journals may soon need."""
    try:
        disk = os.statvfs(root)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < min(_SPARE_BYTES, disk.f_blocks * disk.f_frsize // 4)


def end_seq(journal: Path) -> int:
    """The seq after the last event on disk; 1 if there is none that may be read."""
    with unless_forbidden(journal):
        for _, path in reversed(segments(journal)):
            if end := _end_of(path):
                return end
    return 1


def _end_of(segment: Path) -> int | None:
    """The seq after a segment's last event: 0 without an event, None without any whole frame."""
    try:
        size = segment.stat().st_size
        with segment.open("rb") as file:
            found = None
            for start in (size - (64 << 10), size - 2 * MAX_BLOCK, 0):  # nearly always the first
                file.seek(max(0, start))
                for frame in frames_backwards(file.read()):
                    if frame.events:
                        return frame.next_seq
                    found = 0
    except FileNotFoundError:
        return None
    return found


def roll_asked(root: Path) -> float:
    """When new segments were asked for last, in Unix seconds; 0 if never."""
    try:
        return (root / ROLL).stat().st_mtime
    except OSError:
        return 0.0


def _older(path: Path, before: float) -> bool:
    return path.stat().st_mtime < before


def remove(journal: Path) -> None:
    """Delete a sealed journal without segments; what else lies in it keeps it alive."""
    for name in (POSITION, f".{POSITION}", LOCK):
        (journal / name).unlink(missing_ok=True)
    try:
        journal.rmdir()
    except OSError:
        return
