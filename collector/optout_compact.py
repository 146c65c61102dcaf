"""Makes the index of the opt-outs' file anew when the file has grown, in a process of its own
(`python -m collector.optout_compact`), for it takes some 10 seconds' work per million.
"""

import asyncio
import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import Final

from collector import optout_index
from collector.opted_out import bitmap, merged, record
from collector.optouts import LONG, Tail
from collector.settings import CollectorSettings
from schemas import keyring
from schemas.child import read_settings, start_logging
from schemas.optout import FILE, Sealer
from schemas.settings import encode

log = logging.getLogger(__name__)

#: What a worker reads without an index: some 80,000 entries, a fifth of a second.
_BEHIND: Final = 4 << 20
#: Entries that are merged at once, in bytes of the file: bounds the memory.
_TOGETHER: Final = 4 << 20
_EVERY: Final = 1.0
_AFTER_FAILURE: Final = 300.0


def compact(path: Path, sealer: Sealer) -> None:
    """Bring the index up to the file's end, as the only one that does; raises OSError."""
    for draft in path.parent.glob(f".{optout_index.beside(path).name}.*"):
        draft.unlink()  # of one that was killed
    index = optout_index.load(path, sealer.index_key) or optout_index.Index()
    tail, records = Tail(path, sealer, index.at, index.damaged), index.records
    while (entries := tail.read(_TOGETHER)) is not None:
        changes = {record(entry.recipient, sealer.name): entry.out for entry in entries}
        records = merged(records, changes)
    made = optout_index.Index(tail.at, tail.damaged, records, bitmap(records))
    optout_index.save(path, sealer.index_key, made)


def is_behind(path: Path, most: int = _BEHIND) -> bool:
    """Whether much of the file is in no index."""
    try:
        return path.stat().st_size - optout_index.made_at(path) > most
    except OSError:
        return False


async def begin(settings: CollectorSettings) -> None:
    """Before workers start, make the index where each would have much to read."""
    if is_behind(settings.data / FILE, LONG):
        log.info("making the index of the opt-outs")
        with contextlib.suppress(OSError):
            await _run(settings)


async def keep(settings: CollectorSettings) -> None:
    """Keep the index fresh, until cancelled. Nothing depends on it but the time of a start."""
    path = settings.data / FILE
    while True:
        failed = False
        if is_behind(path):
            failed = True
            with contextlib.suppress(OSError):
                failed = bool(await _run(settings))
        await asyncio.sleep(_AFTER_FAILURE if failed else _EVERY)


async def _run(settings: CollectorSettings) -> int | None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "collector.optout_compact",
        stdin=asyncio.subprocess.PIPE, process_group=0,
    )  # fmt: skip
    try:
        await process.communicate(encode(settings))
        return process.returncode
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def main() -> None:
    """The process."""
    start_logging()
    os.nice(10)
    settings = read_settings(CollectorSettings)
    secret = keyring.load(settings.key_file).content.hash_secret
    compact(settings.data / FILE, Sealer(secret))


if __name__ == "__main__":
    main()
