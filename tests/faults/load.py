"""Load for the kill tests, and the question they all end with: is everything there once?"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from schemas import event
from schemas.journal.directory import journal_id
from schemas.kafka import COUNT, FIRST_SEQ

#: The last seq of each journal, of which all from 1 on are expected.
Expected = dict[str, int]


def new_journal() -> str:
    """A journal's name that no other has."""
    return journal_id(time.time_ns() // 1_000_000, os.urandom(8))


def body(number: int = 0) -> bytes:
    """An event without its identity, as a worker makes it."""
    return event.event(
        int(time.time() * 1000), "open", campaign=f"c{number % 7}", send="s",
        recipient=f"r{number}", key_id="abcdef", user_agent="Mozilla/5.0 " * 8,
    )  # fmt: skip


class Producer:
    """Blocks into a topic as the shipper makes them, several journals at a time.

    `records` keeps all that was sent, so that it can be sent again.
    """

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, enable_idempotence=True, max_request_size=4 << 20
        )
        self._topic = topic
        self.expected: Expected = {}
        self.records: list[tuple[bytes, bytes, list[tuple[str, bytes]]]] = []

    async def __aenter__(self) -> "Producer":
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def send(self, journal: str, events: int) -> None:
        """One block of so many events; returns when Kafka has it."""
        first = self.expected.get(journal, 0) + 1
        block = event.block(journal, first, [body(first + n) for n in range(events)])
        headers = [(FIRST_SEQ, b"%d" % first), (COUNT, b"%d" % events)]
        await self.raw(block, journal.encode(), headers)
        self.expected[journal] = first + events - 1

    async def raw(
        self, value: bytes | None, key: bytes | None = None, headers: Any = (), **more: Any
    ) -> None:
        """Any record."""
        self.records.append((key or b"", value or b"", list(headers)))
        await self._producer.send_and_wait(
            self._topic, value, key=key, headers=list(headers), **more
        )

    async def again(self) -> None:
        """All records once more, as `reship` does."""
        for key, value, headers in list(self.records):
            await self._producer.send_and_wait(self._topic, value, key=key, headers=headers)

    async def under_load(self, stop: asyncio.Event, journals: int = 4, pause: float = 0.01) -> None:
        """Blocks of all sizes until told to stop; now and then a journal ends, another begins."""
        names = [new_journal() for _ in range(journals)]
        turn = 0
        while not stop.is_set():
            turn += 1
            await asyncio.gather(*(self.send(name, 1 + turn * 7 % 40) for name in names))
            if turn % 100 == 0:
                names[turn // 100 % journals] = new_journal()
            await asyncio.sleep(pause)


async def make_topic(
    bootstrap: str, name: str, partitions: int = 1, config: dict[str, str] | None = None
) -> None:
    """Make a topic, and wait until it can be used."""
    async with admin(bootstrap) as client:
        answer = await client.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
        assert not answer.topic_errors[0][1], answer
        await until(lambda: _known(client, name, partitions))


async def _known(client: AIOKafkaAdminClient, name: str, partitions: int) -> bool:
    described = await client.describe_topics([name])
    found = described[0]["partitions"]
    return len(found) == partitions and all(p["leader"] >= 0 for p in found)


async def delete_topic(bootstrap: str, name: str) -> None:
    """Delete a topic, and wait until it is gone."""
    async with admin(bootstrap) as client:
        await client.delete_topics([name])

        async def gone() -> bool:
            return name not in await client.list_topics()

        await until(gone)


class admin:
    """`async with admin(bootstrap) as client`, trying until the broker is ready for it."""

    def __init__(self, bootstrap: str) -> None:
        self._client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)

    async def __aenter__(self) -> AIOKafkaAdminClient:
        for _ in range(50):
            try:
                await self._client.start()
                return self._client
            except KafkaError:
                await asyncio.sleep(0.2)
        raise TimeoutError("no admin client")

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()


async def until(
    condition: Callable[[], Awaitable[bool]] | Callable[[], bool], seconds: float = 60.0
) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        assert time.monotonic() < deadline, f"not in {seconds} s"
        await asyncio.sleep(0.05)


def stored(client: Any, database: str = "heliograph") -> dict[str, tuple[int, int, int, int]]:
    """(rows, different seqs, first, last) of each journal in the store."""
    sql = f"SELECT journal, count(), uniqExact(seq), min(seq), max(seq) FROM {database}.events"
    return {row[0]: tuple(row[1:]) for row in client.query(f"{sql} GROUP BY journal").result_rows}


def all_there(client: Any, expected: Expected, database: str = "heliograph") -> bool:
    """Whether nothing that is expected is missing; it may be there twice."""
    found = stored(client, database)
    return all(name in found and found[name][1] >= last for name, last in expected.items())


def assert_once(client: Any, expected: Expected, database: str = "heliograph") -> None:
    """Every event is there once, and nothing else; the counts of the projection say the same."""
    assert stored(client, database) == {n: (last, last, 1, last) for n, last in expected.items()}
    assert_counts(client, database)


def assert_counts(client: Any, database: str = "heliograph") -> None:
    """The count projection has counted every row once."""
    groups = "campaign, kind, toStartOfHour(ts)"
    sql = f"SELECT {groups}, count() FROM {database}.events GROUP BY {groups} ORDER BY {groups}"
    by_rows, by_counts = (
        client.query(sql, settings=settings).result_rows
        for settings in (
            {"optimize_use_projections": 0},
            {"optimize_use_projections": 1, "force_optimize_projection_name": "hours"},
        )
    )
    assert by_rows == by_counts
    total = client.query(f"SELECT count() FROM {database}.events").result_rows[0][0]
    assert sum(row[-1] for row in by_counts) == total
