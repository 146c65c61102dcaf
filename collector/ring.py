"""A journal belongs to one key ring: two of them in one store would be two sets of people."""

import contextlib
from pathlib import Path

from schemas.files import write_whole

RING = "ring"


class RingError(Exception):
    """The journal was written under another key ring; the message says what to do."""


def claim(journal: Path, ring_id: str) -> None:
    """Bind a journal directory to a ring at its first use; raises RingError if it has another."""
    path = journal / RING
    if not path.exists():  # looked at first, for a full disk takes no draft
        with contextlib.suppress(FileExistsError):
            write_whole(path, ring_id.encode() + b"\n", replace=False)
    owner = path.read_text().strip()
    if owner != ring_id:
        raise RingError(
            f"the journal in {journal} belongs to the key ring {owner}, the key file is of ring "
            f"{ring_id}: use that ring's key file, or another data directory"
        )
