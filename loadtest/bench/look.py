"""What the consumer's look for what is there costs, of a batch that goes to journals of the store.

Both are the product's own: the stage is loaded by its writer, and asked about by it.
"""

import time
from os import urandom
from pathlib import Path
from typing import Final

from clickhouse_connect.driver.client import Client

from consumer.batch import MAX_JOURNALS, Batch, Block
from consumer.store import open_embedded, rows
from consumer.verdicts import Verdicts
from consumer.writer import Writer
from schemas import event

#: Milliseconds, at 100 million events.
GOAL: Final = 25
_RUNS: Final = 9
_NEWEST: Final = """
SELECT journal, max(last_seq) FROM heliograph.taken
GROUP BY journal ORDER BY max(last_ts) DESC, journal LIMIT {count}
"""


def measured(store: Path, size: int) -> dict[str, list[float]]:
    """The times (ms) of each look at a batch of about `size` events; the first run, and the others.

    The events come after the newest of their journals; then they are inserted, and come again.
    """
    client = open_embedded(store)
    verdicts = Verdicts("heliograph")
    verdicts.install(client)
    found = {}
    for count in (8, MAX_JOURNALS):
        writer = Writer(
            client, "heliograph", ("look", count), verdicts, random=urandom, clock=time.time
        )
        batch = _batch(client, count, size)
        for what in ("new", "repeated"):
            staged = writer.load(batch)
            times = []
            for _ in range(1 + _RUNS):
                began = time.perf_counter()
                _, wanted, there = writer.look(staged.ranges)
                times.append((time.perf_counter() - began) * 1000)
            if (wanted, there) != (batch.rows, batch.rows * (what == "repeated")):
                raise RuntimeError(f"{what}: of {batch.rows} events {there} of {wanted} were found")
            writer.insert(staged)
            journals = len(batch.journals)
            found[f"the look for {batch.rows:,} {what} events of {journals} journals"] = times
        writer.stage.drop()
    client.close()
    return found


def _batch(client: Client, count: int, size: int) -> Batch:
    now = int(time.time())
    bodies = [
        event.event(now * 1000, "open", campaign="look", send="look", recipient=f"reader-{n}",
                    sent_at=now - 3600, method="GET", user_agent="a reader", key_id="0a1b2c")
        for n in range(size // count)
    ]  # fmt: skip
    batch = Batch(size, 1 << 28, 1.0)
    for journal, last in rows(client, _NEWEST.format(count=count)):
        data = event.block(journal, last + 1, bodies)
        batch.add(Block("look", count, last + 1, journal, last + 1, len(bodies), data), 0.0)
    return batch
