"""A journal on its way to Kafka: what is read of it, what is sent, what is acknowledged."""

import asyncio
from collections import deque
from pathlib import Path
from typing import Any, Final

from collector.records import Record, coalesce
from schemas.journal import directory
from schemas.journal.reader import OnDamage, Reader

#: Records of one journal on their way at a time. What waits behind them is coalesced meanwhile.
_ON_THE_WAY: Final = 8
_READ_BYTES: Final = 4 << 20


class Track:
    """One journal. Records leave in order, and the position follows what is acknowledged."""

    def __init__(self, journal: Path, on_damage: OnDamage, number: int) -> None:
        self.journal = journal
        self.number = number
        self.acked = directory.read_position(journal)
        self.pending: deque[Record] = deque()
        self._answers: deque[asyncio.Future[Any]] = deque()  # of the first records pending
        self._sending: asyncio.Task[None] | None = None
        self._reader = Reader(journal, self.acked, on_damage)

    @property
    def finished(self) -> bool:
        """Whether everything is acknowledged and nothing will ever follow."""
        return self._reader.finished and not self.pending

    @property
    def pending_bytes(self) -> int:
        """What the records on their way take in memory."""
        return sum(len(record.value) for record in self.pending)

    @property
    def waiting(self) -> list[asyncio.Future[Any]]:
        """What goes on without us: the first answer, and the sending of what is still to go."""
        return [*list(self._answers)[:1], *([self._sending] if self._sending else [])]

    def fill(self) -> bool:
        """Read what is new, if there is room for it; whether something was."""
        if len(self.pending) >= _ON_THE_WAY:
            return False
        before = len(self.pending)
        self.pending.extend(coalesce(self._reader.read(_READ_BYTES)))
        return len(self.pending) > before

    def send(self, producer: Any, topic: str) -> None:
        """Give the producer what it has not been given yet, in a task of its own.

        A producer takes one full record a partition and then waits for its answer: other journals
        must not wait as well.
        """
        if self._sending is None and len(self.pending) > len(self._answers):
            self._sending = asyncio.create_task(self._send(producer, topic))
            self._sending.add_done_callback(_retrieve)

    async def _send(self, producer: Any, topic: str) -> None:
        while len(self.pending) > len(self._answers):
            record = self.pending[len(self._answers)]
            key = self.journal.name.encode()
            answer = await producer.send(topic, record.value, key=key, headers=record.headers)
            answer.add_done_callback(_retrieve)
            self._answers.append(answer)

    def acknowledge(self) -> list[Record]:
        """Move the position over what was acknowledged, in order; raises what a send raised."""
        done: list[Record] = []
        try:
            while self._answers and self._answers[0].done():
                self._answers[0].result()
                self._answers.popleft()
                done.append(self.pending.popleft())
            if self._sending is not None and self._sending.done():
                sending, self._sending = self._sending, None
                sending.result()
        finally:
            if done:
                self.acked = done[-1].next_seq
                directory.write_position(self.journal, self.acked)
        return done

    def rewind(self) -> None:
        """Forget what was sent: the producer is gone, so all that is pending goes again."""
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        self._answers.clear()


def _retrieve(answer: asyncio.Future[Any]) -> None:
    """See the exception of an answer that nobody waits for any more."""
    if not answer.cancelled():
        answer.exception()
