"""Reading a journal from a position on, while it is written or after."""

import contextlib
import logging
import os
from pathlib import Path
from typing import Final, Protocol

from schemas.journal.directory import is_sealed, quarantined, segments
from schemas.journal.frame import HEAD_BYTES, MAX_BLOCK, Damage, Frame, scan

_log: Final = logging.getLogger(__name__)
#: What is read of a segment at a time; more than the longest frame, so that one always fits.
CHUNK: Final = 4 * 1024 * 1024
assert CHUNK > 2 * (HEAD_BYTES + MAX_BLOCK)


#: Where a segment stands: its first frame's seq, whether its name says so, the seq that it says.
#: So what is read of two with the same frames is the original's last, which may still grow.
Place = tuple[int, bool, int]


class OnDamage(Protocol):
    """Called with the journal, how many bytes were no frame, and where they were set aside."""

    def __call__(self, journal: Path, size: int, kept: Path) -> None: ...


class Reader:
    """Gives the whole frames of one journal in order, each once, from `next_seq` on.

    `next_seq` moves with what was given. `finished` becomes true when the journal is sealed and
    everything in it has been given: then nothing will ever follow.
    """

    def __init__(self, journal: Path, next_seq: int, on_damage: OnDamage | None = None) -> None:
        """Without `on_damage` this is only a look: damage is passed over and nothing is written."""
        self.journal = journal
        self.next_seq = next_seq
        self.finished = False
        self._on_damage = on_damage
        self._segment: Place | None = None  # the segment being read
        self._path = journal
        self._places: dict[Path, Place] = {}
        self._at = 0
        self._growing = False  # whether the segment might still grow when it was last read
        self._refused = False

    def read(self, max_bytes: int) -> list[Frame]:
        """The next frames, at most about `max_bytes` of them; empty if there is nothing new.

        Raises OSError with nothing given or skipped. Of a journal that may not be read it says so
        once and gives nothing: one must not hold up all.
        """
        frames: list[Frame] = []
        size = 0
        while size < max_bytes and not self.finished:
            # Sealed is asked first: what was written before the writer went is then seen.
            before = self.next_seq
            try:
                sealed = is_sealed(self.journal)
                found = self._read_chunk(sealed)
                # A successor that has come since may not have come alone: the rest is read first.
                if found is None and (self._growing or not self._advance(sealed)):
                    break
            except OSError as error:
                self.next_seq = before
                if not frames:
                    self._failed(error)
                break
            if found is None:
                continue
            frames.extend(found)
            size += sum(len(frame.block) for frame in found)
        return frames

    def _failed(self, error: OSError) -> None:
        if not isinstance(error, PermissionError):
            raise error
        if not self._refused:
            _log.error("journal %s: %s", self.journal.name, error)
        self._refused = True

    def _advance(self, sealed: bool) -> bool:
        """Go to the next segment; false if there is none (yet)."""
        files = self._ordered()
        if self._segment is None:
            behind = [place[0] for place, _ in files if place[0] <= self.next_seq]
            following = [file for file in files if not behind or file[0][0] >= behind[-1]]
        else:
            later = [file for file in files if file[0] > self._segment]
            following = [file for file in later if file[1] != self._path]
        if not following:
            self.finished = sealed
            return False
        self._segment, self._path = following[0]
        self._at = 0
        return True

    def _ordered(self) -> list[tuple[Place, Path]]:
        """The segments as their frames follow each other: a copy may have any name."""
        known, self._places = self._places, {}
        found = []
        for named, path in segments(self.journal):
            place = known.get(path) or _place(named, path)
            if place is not None:
                self._places[path] = place
            found.append((place or (named, True, named), path))
        return sorted(found)

    def _read_chunk(self, sealed: bool) -> list[Frame] | None:
        """Frames of the current segment; None at its end, if nothing new can come in it now."""
        if self._segment is None:
            return None
        # Only the writer's last segment may still grow. Asked before reading: what is read of a
        # segment that has a successor is then all of it.
        self._growing = not sealed and self._path in [path for _, path in self._ordered()[-1:]]
        data = self._bytes()
        at_end = len(data) < CHUNK
        frames: list[Frame] = []
        taken = 0
        for item in scan(data, complete=at_end and not self._growing):
            if isinstance(item, Damage):
                self._set_aside(item)
                taken = item.start + len(item.data)
                continue
            taken = item.end
            if item.next_seq > self.next_seq:
                if item.first_seq > self.next_seq:
                    frames += self._elsewhere(item.first_seq)
                self.next_seq = item.next_seq
                if item.events:
                    frames.append(item)
        if not taken and not at_end:
            taken = self._skip_hopeless(data)
        self._at += taken
        return frames if taken else None

    def _elsewhere(self, end: int) -> list[Frame]:
        """Whole frames before a seq that are missing here, of copies that would be read later."""
        found: dict[int, Frame] = {}
        for place, path in self._ordered():
            if self._segment is None or place <= self._segment or place[0] >= end:
                continue
            with contextlib.suppress(FileNotFoundError):
                for item in scan(path.read_bytes(), complete=True):
                    if isinstance(item, Frame) and self.next_seq <= item.first_seq < end:
                        found[item.first_seq] = item
        return [found[seq] for seq in sorted(found) if found[seq].events]

    def _skip_hopeless(self, data: bytes) -> int:
        """Set aside a whole chunk without a frame, but for what may be a frame's beginning."""
        size = len(data) - HEAD_BYTES - MAX_BLOCK
        self._set_aside(Damage(0, data[:size]))
        return size

    def _bytes(self) -> bytes:
        try:
            with self._path.open("rb", buffering=0) as file:
                return os.pread(file.fileno(), CHUNK, self._at)
        except FileNotFoundError:  # deleted under a reader that starts over
            return b""

    def _set_aside(self, damage: Damage) -> None:
        if self._on_damage is None:
            return
        kept = quarantined(self._path, self._at + damage.start)
        with contextlib.suppress(OSError):  # a full disk: they still are where they were
            kept.parent.mkdir(exist_ok=True)
            kept.write_bytes(damage.data)
        self._on_damage(self.journal, len(damage.data), kept)


def _place(named: int, path: Path) -> Place | None:
    """By the segment's first whole frame, or by its name; None where one may still come."""
    try:
        with path.open("rb", buffering=0) as file:
            data = file.read(HEAD_BYTES + MAX_BLOCK)
    except FileNotFoundError:
        return None
    for item in scan(data, complete=False):
        if isinstance(item, Frame):
            return item.first_seq, item.first_seq == named, named
    return (named, True, named) if len(data) == HEAD_BYTES + MAX_BLOCK else None
