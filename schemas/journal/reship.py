"""Shipping again: a request left in the journals' root, obeyed by whoever moves the positions."""

from pathlib import Path
from typing import Final

from schemas.files import write_whole
from schemas.journal.directory import (
    journals,
    read_position,
    segments,
    unless_forbidden,
    write_position,
)

REQUEST: Final = "reship"


def request(root: Path, since: float) -> None:
    """Ask for all kept segments last written at `since` (Unix seconds) or later, once more."""
    write_whole(root / REQUEST, b"%d\n" % int(since))


def requested(root: Path) -> bool:
    """Whether there is a request."""
    return _since(root) is not None


def obey(root: Path) -> bool:
    """Set the positions back as requested; whether there was a request."""
    since = _since(root)
    if since is None:
        return False
    for journal in journals(root):
        with unless_forbidden(journal):
            again = [seq for seq, path in segments(journal) if _written(path) >= since]
            if again and min(again) < read_position(journal):
                write_position(journal, min(again))
    (root / REQUEST).unlink()
    return True


def _since(root: Path) -> float | None:
    """What is asked for; None of a file that says nothing, which must not be asked of for ever."""
    try:
        return float((root / REQUEST).read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _written(segment: Path) -> float:
    try:
        return segment.stat().st_mtime
    except FileNotFoundError:  # it has just expired
        return -1.0
