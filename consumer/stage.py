"""Staging: where a batch is parsed, and the fence that keeps zombies out.

A consumer that was taken for dead can still have an insert running in the server, or one on the
way. So every consumer writes through a staging table of its own, and takes a partition over in
this order: create one's stage; confirm that the partition is ours; drop all other stages of the
partition, SYNC. DROP waits for the inserts that read from them; what arrives later finds no table
and fails. Of two that do this at once, at most one stage survives. After any trouble of its own a
consumer fences itself in the same way. Needs an Atomic database.

A consumer has two stages of a partition, whose names share its own prefix: one batch is loaded
while the one before it is inserted. Its fence spares both, everybody else's drops both. What is
only staged is in no table that anybody counts, so a second stage needs no rule of its own: the
inserts of a partition still come one after another, in order (see `loop`).
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from typing import Final

from clickhouse_connect.driver.client import Client

from consumer.batch import Partition
from consumer.errors import StoreTrouble
from consumer.store import execute, reactions, rows
from schemas.event import KINDS, UNNAMED

#: Numbers are decimals because ClickHouse lets integers overflow silently while parsing, with
#: a fraction so that one is seen instead of cut off. `name` is the journal, each once a block: to
#: match and to group by it takes half as long, and to parse it as such would take longer.
_COLUMNS: Final = f"""
    journal String, seq Decimal(18, 2), ts Decimal(18, 2), kind String, campaign String,
    send String, recipient String, message_id String, sent_at Decimal(18, 2), link String,
    method String, address String, user_agent String, accept_language String, referer String,
    prefetch String, key_id String, segment String, detail String, consent String,
    name LowCardinality(String) MATERIALIZED journal,
    CONSTRAINT identity CHECK match(name, '^[0-9a-f]{{28}}$') AND seq > 0,
    CONSTRAINT whole CHECK floor(seq) = seq AND floor(ts) = ts AND floor(sent_at) = sent_at,
    CONSTRAINT ts CHECK ts BETWEEN 946684800000 AND 4102444800000,
    CONSTRAINT sent_at CHECK sent_at BETWEEN 0 AND 4294967295,
    CONSTRAINT kind CHECK kind IN ({str(KINDS)[1:-1]}),
    CONSTRAINT consent CHECK consent IN ('', 'pseudonymous', 'anonymous'),
    CONSTRAINT campaign CHECK campaign != '' OR kind IN ({str(UNNAMED)[1:-1]})
"""
#: Nothing is guessed: a field of the wrong type or an unknown one makes a line poison.
_STRICT: Final = {
    "async_insert": 0,
    "input_format_skip_unknown_fields": 0,
    "input_format_null_as_default": 0,
    "input_format_json_read_objects_as_strings": 0,
    "input_format_json_read_arrays_as_strings": 0,
    "input_format_json_read_numbers_as_strings": 0,
    "input_format_json_read_bools_as_strings": 0,
    # In parallel it takes half as much CPU again, and hardly less time.
    "input_format_parallel_parsing": 0,
    # One block: patterns are tried once an agent and block, and blocks need not be put together.
    "max_block_size": 1_048_448,
}
#: What a fence waits for: dropped stages that are still read, inserts that name another's stage.
#: A drop that a restart of the server cut off is dated ahead, and nothing can read what it drops.
_IN_USE: Final = """
SELECT
    (SELECT count() FROM system.dropped_tables
     WHERE database = '{database}' AND startsWith(table, '{prefix}')
       AND table_dropped_time <= now())
  + (SELECT count() FROM system.processes
     WHERE query_kind = 'Insert' AND position(query, '{prefix}') > 0
       AND position(query, '{own}') = 0)
"""
#: How long a fence waits for what still runs before it is tried again, in seconds.
_FENCE_SECONDS: Final = 20.0


def prefix(database: str, partition: Partition) -> str:
    """What the names of all stages of a partition begin with."""
    topic, number = partition
    digest = hashlib.blake2b(f"{topic}\0{database}".encode(), digest_size=6).hexdigest()
    return f"stage_{digest}_{number}_"


class Stage:
    """A staging table of one's own, made anew by whoever takes a partition over."""

    def __init__(
        self,
        client: Client,
        database: str,
        partition: Partition,
        random: Callable[[int], bytes],
        *,
        loader: Client | None = None,
        own: str = "",
    ) -> None:
        """`loader` is the client that loads (`client` does the rest), `own` a twin's `own`."""
        self._client = client
        self.loader = loader or client
        self._database = database
        self._prefix = prefix(database, partition)
        self.own = own or f"{self._prefix}{random(8).hex()}"
        self.table = f"{database}.{self.own}_{'b' if own else 'a'}"
        execute(client, f"CREATE TABLE {self.table} ({_COLUMNS}) ENGINE = Memory")

    def fence(self) -> int:
        """Drop the partition's other stages and wait for what runs on them; how many there were.

        A stage whose own fence was cut off while it waited is not there by name any more, yet an
        insert may still read from it: hence the second wait.
        """
        others = rows(
            self._client,
            f"SELECT name FROM system.tables WHERE database = '{self._database}' "
            f"AND startsWith(name, '{self._prefix}') AND NOT startsWith(name, '{self.own}')",
        )
        for (name,) in others:
            execute(self._client, f"DROP TABLE IF EXISTS {self._database}.{name} SYNC")
        in_use = _IN_USE.format(database=self._database, prefix=self._prefix, own=self.own)
        deadline = time.monotonic() + _FENCE_SECONDS
        while rows(self._client, in_use)[0][0]:
            if time.monotonic() > deadline:
                raise StoreTrouble("an insert of an earlier consumer is still running")
            time.sleep(0.05)
        return len(others)

    def load(self, data: bytes | Iterator[bytes]) -> None:
        """Parse NDJSON lines into the table, all or none; raises Poison if any is no event."""
        with reactions(parsing=True):
            self.loader.raw_insert(
                self.table, insert_block=data, fmt="JSONEachRow", settings=_STRICT
            )

    def clear(self, client: Client | None = None) -> None:
        """Empty the table, by the client that loads or a given one."""
        execute(client or self.loader, f"TRUNCATE TABLE {self.table}")

    def drop(self) -> None:
        """Give the table up."""
        execute(self._client, f"DROP TABLE IF EXISTS {self.table} SYNC")
