"""Taking events out of segments: each gives way to one that says nothing, as long and of its name.

So seqs stay without a gap, no frame moves under a reader, and all other bytes are what they were.
"""

import contextlib
import os
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from schemas.files import sync_directory
from schemas.journal.directory import ROLL, is_sealed, segments
from schemas.journal.frame import Damage, Frame, encode, scan

_TOMBSTONE: Final = b'{"journal":"%b","seq":%d,"ts":%d,"kind":"erased","campaign":"-"'


class Named(msgspec.Struct):
    """What a line says of whose it is."""

    journal: str
    seq: int
    ts: int
    kind: str
    recipient: str = ""
    message_id: str = ""


class Persons:
    """Whose events go: by their keys, and the message ids of their mails, which receipts name."""

    def __init__(self, recipients: list[str], message_ids: list[str]) -> None:
        self._recipients = set(recipients)
        self._ids = {_bare(text) for text in message_ids} - {""}
        self._needles = [_json(text) for text in recipients]
        self._needles += [_json(text)[1:-1] for text in self._ids]
        self._decode = msgspec.json.Decoder(Named).decode

    def has(self, data: bytes) -> bool:
        """Whether the bytes may hold one of theirs."""
        return any(needle in data for needle in self._needles)

    def tombstone(self, line: bytes) -> bytes | None:
        """What takes the place of a line with its newline; None if it is not theirs."""
        if not self.has(line):
            return None
        try:
            told = self._decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return b" " * (len(line) - 1) + b"\n"  # no event: as empty as can be
        of_mail = told.kind == "receipt" and _bare(told.message_id) in self._ids
        if told.recipient not in self._recipients and not of_mail:
            return None
        head = _TOMBSTONE % (told.journal.encode(), told.seq, told.ts)
        return head + b" " * (len(line) - len(head) - 2) + b"}\n"


def redact(data: bytes, persons: Persons) -> tuple[bytes, int]:
    """A segment's bytes without the persons' events, as long as before; how many events went."""
    if not persons.has(data):
        return data, 0
    parts, count, at = [], 0, 0
    for item in scan(data, complete=True):
        if isinstance(item, Damage):
            at = item.start + len(item.data)
            theirs = persons.has(item.data)
            parts.append(bytes(len(item.data)) if theirs else item.data)
            count += theirs
            continue
        raw, at = data[at : item.end], item.end
        lines = item.block.splitlines(keepends=True)
        told = [persons.tombstone(line) for line in lines] if persons.has(item.block) else []
        if gone := sum(line is not None for line in told):
            raw = _frame(item, [new or old for new, old in zip(told, lines, strict=True)])
        parts.append(raw)
        count += gone
    return b"".join([*parts, data[at:]]), count


def _frame(frame: Frame, lines: list[bytes]) -> bytes:
    return encode(frame.first_seq, frame.events, b"".join(lines))


class Redaction(NamedTuple):
    """Events that went, and journals that are being written and did not begin a new segment."""

    events: int
    busy: list[str]


def redact_journal(journal: Path, persons: Persons, *, dry_run: bool = False) -> Redaction:
    """Redact all segments but one that is being written; each is replaced as a whole."""
    files = segments(journal)
    busy = []
    if files and not is_sealed(journal) and files[-1][1].stat().st_size:
        files, busy = files[:-1], [journal.name]
    return Redaction(sum(_redact_file(path, persons, dry_run) for _, path in files), busy)


def _redact_file(path: Path, persons: Persons, dry_run: bool) -> int:
    try:
        data, times = path.read_bytes(), path.stat()
    except FileNotFoundError:  # it has just expired
        return 0
    found, count = redact(data, persons)
    if not count or dry_run:
        return count
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(found)
            file.flush()
            os.fsync(file.fileno())
        os.utime(draft, ns=(times.st_atime_ns, times.st_mtime_ns))  # it expires as it would have
        draft.chmod(times.st_mode & 0o777)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_directory(path.parent)
    return count


def message_ids(journal: Path, recipients: list[str]) -> set[str]:
    """The message ids of these recipients' sends in a journal."""
    persons, found = Persons(recipients, []), set()
    decode = msgspec.json.Decoder(Named).decode
    for _, path in segments(journal):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        for item in scan(data, complete=True) if persons.has(data) else ():
            for line in item.block.splitlines() if isinstance(item, Frame) else ():
                if not persons.has(line):
                    continue
                with contextlib.suppress(msgspec.MsgspecError):  # no event
                    if (told := decode(line)).recipient in recipients:
                        found.add(told.message_id)
    return found - {""}


def ask_to_roll(root: Path) -> None:
    """Let whoever writes a journal here begin a new segment within seconds."""
    (root / ROLL).touch()


def _bare(message_id: str) -> str:
    return message_id.strip("<>")


def _json(text: str) -> bytes:
    return msgspec.json.encode(text)
