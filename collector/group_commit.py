"""Group commit: all events of one loop tick go to the journal in one write, then are answered."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal

from collector.journal import Journal

Sync = Literal["interval", "always", "never"]
#: How often is looked what there is to sync, and how much does not wait for its interval: to sync
#: ten megabytes at once keeps a worker from its core for milliseconds.
_STEP_SECONDS: Final = 0.05
_MUCH: Final = 1 << 20


class GroupCommit:
    """Records events in the journal from the event loop.

    `sync` says when written events survive a power loss: after at most `sync_seconds` (interval),
    before they are answered (always), or whenever the kernel likes (never). A killed process
    loses nothing in any case.
    """

    def __init__(self, journal: Journal, sync: Sync, sync_seconds: float) -> None:
        self.journal = journal
        self.sync_failures = 0
        self._sync: Sync = sync
        self._sync_seconds = sync_seconds
        self._bodies: list[bytes] = []
        self._group: asyncio.Future[bool] | None = None
        self._syncing = asyncio.Lock()
        self._syncer = ThreadPoolExecutor(1, "sync", _yield_to_others)
        self._tasks: set[asyncio.Task[None]] = set()

    def record(self, body: bytes) -> asyncio.Future[bool]:
        """Queue an event. The future tells, in the next tick, whether it is in the journal.

        The future is shared by all events of the tick: shield it from cancellation.
        """
        loop = asyncio.get_running_loop()
        if self._group is None:
            self._group = loop.create_future()
            loop.call_soon(self._commit)
        self._bodies.append(body)
        return self._group

    def write(self, bodies: Sequence[bytes]) -> asyncio.Future[bool] | None:
        """Write a group at once; a future where the answer must wait until it is synced."""
        if self._sync != "always":
            self.journal.append(bodies)
            return None
        group = asyncio.get_running_loop().create_future()
        self._write(bodies, group)
        return group

    def _write(self, bodies: Sequence[bytes], group: asyncio.Future[bool]) -> None:
        first_seq = self.journal.next_seq
        stored = self.journal.append(bodies)
        if self._sync == "always" and stored:
            synced = self._answer_synced(group, first_seq)
            task = asyncio.get_running_loop().create_task(synced)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif not group.done():
            group.set_result(stored)

    def _commit(self) -> None:
        group, bodies = self._group, self._bodies
        self._group, self._bodies = None, []
        if group is None:
            return
        self._write(bodies, group)

    async def _answer_synced(self, group: asyncio.Future[bool], first_seq: int) -> None:
        synced = await self._fdatasync()
        # One that covered some of it may have been an earlier group's, and have failed.
        stored = synced and first_seq >= self.journal.unsure_below
        if not group.done():
            group.set_result(stored)

    async def _fdatasync(self) -> bool:
        async with self._syncing:
            try:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._syncer, self.journal.sync)
            except OSError:
                self.sync_failures += 1
                return False
            return True

    async def run(self) -> None:
        """Sync and maintain the journal until cancelled."""
        now = asyncio.get_running_loop().time
        due, maintained = now() + self._sync_seconds, now()
        while True:
            await asyncio.sleep(min(_STEP_SECONDS, max(0.0, due - now())))
            if now() >= due or self.journal.pending_bytes >= _MUCH:
                if self._sync != "never":
                    await self._fdatasync()
                due = now() + self._sync_seconds
            if now() >= maintained + 1.0:
                maintained = now()
                with contextlib.suppress(OSError):
                    self.journal.maintain()

    async def close(self) -> None:
        """Write what is queued, sync, and seal the journal."""
        self._commit()
        if self._tasks:
            await asyncio.wait(self._tasks)
        async with self._syncing:
            await asyncio.to_thread(self.journal.close)
        self._syncer.shutdown()


def _yield_to_others() -> None:
    """A sync hands megabytes to the disk: requests that come meanwhile go first."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
