"""Exactly once: a batch goes into the store so that each of its events is there once.

1. Stage: parse the batch into a table of our own. Lines that are no event go to the dead letter.
2. Insert what is absent: from the stage, what the store does not have by (journal, seq). Whatever
   was inserted before, by us or by another, for this batch or a differently cut one, stays as is.
3. Verify: everything staged is in the store now (or is older than the retention). Only then is
   the ledger written and may the source commit.

The stage may lose everything when the server restarts, hence the counts before and after. Any
trouble means: take the partition over anew (see `stage`) and do the whole batch again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from clickhouse_connect.driver.client import Client

from consumer import dead_letter
from consumer.batch import Batch, Partition
from consumer.errors import Poison, StoreTrouble
from consumer.stage import Stage
from consumer.store import execute, rows

_INSERT: Final = """
INSERT INTO {events}
SELECT
    journal, toUInt64(seq), fromUnixTimestamp64Milli(toInt64(ts), 'UTC'), kind, campaign, send,
    recipient, message_id, toDateTime(toUInt32(sent_at), 'UTC'), link, method, address, user_agent,
    accept_language, referer, prefetch, key_id
FROM {stage}
WHERE {young} AND {here} AND {absent}
LIMIT 1 BY journal, seq
"""
_ABSENT: Final = (
    "(journal, toUInt64(seq)) NOT IN (SELECT journal, seq FROM {all_events} WHERE {ranges})"
)
#: Runs of seqs that one statement looks for, and how wide a run may be: a batch that holds old
#: events shipped again beside new ones must not make the look go over all between them.
_RUNS: Final = 600
_WIDTH: Final = 1_000_000
#: One block, one part: rows and counts appear together.
_ONE_BLOCK: Final = {
    "async_insert": 0,
    "max_insert_threads": 1,
    "max_block_size": 1_048_448,
    "min_insert_block_size_rows": 1_048_448,
    "min_insert_block_size_bytes": 1 << 30,
    "max_partitions_per_insert_block": 0,
}


class Range(NamedTuple):
    """A run of seqs of one journal in a batch; times in Unix milliseconds.

    `expired` of its events are older than the retention.
    """

    journal: str
    first_seq: int
    last_seq: int
    events: int
    first_ts: int
    last_ts: int
    expired: int

    @property
    def sql(self) -> str:
        """The condition of being in this run."""
        return f"(journal = '{self.journal}' AND seq BETWEEN {self.first_seq} AND {self.last_seq})"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch."""

    events: int
    dead: int
    first_ts: int


class Writer:
    """Writes the batches of one partition. Synchronous; raises StoreTrouble or TableGone."""

    def __init__(
        self,
        client: Client,
        database: str,
        partition: Partition,
        *,
        random: Callable[[int], bytes],
        clock: Callable[[], float],
        retention_days: int = 0,
        cluster: bool = False,
    ) -> None:
        self._client = client
        self._clock = clock
        self._retention_days = retention_days
        local = "_local" if cluster else ""
        self._events = f"{database}.events{local}"
        self._all_events = f"{database}.events"
        self._dead_letter = f"{database}.dead_letter{local}"
        self._taken = f"{database}.taken{local}"
        self.stage = Stage(client, database, partition, random)

    def write(self, batch: Batch) -> Outcome:
        """Put a batch into the store. After it returns the source may commit."""
        staged, dead = self._load(batch)
        dead_letter.store(self._client, self._dead_letter, dead, int(self._clock()))
        ranges = self._ranges()
        if sum(found.events for found in ranges) != staged:
            raise StoreTrouble("the staging table does not hold what was loaded")
        if ranges:
            self._insert(ranges)
        self.stage.clear()
        return Outcome(staged, len(dead), min((r.first_ts for r in ranges), default=0))

    def _load(self, batch: Batch) -> tuple[int, list[dead_letter.Dead]]:
        data = b"".join(block.data for block in batch.blocks)
        try:
            _check_text(data)
            self.stage.load(data)
        except Poison:
            pass
        else:
            # Two objects on a line, or an array of them, are no events of ours either.
            if self._staged() == data.count(b"\n") == batch.rows:
                return batch.rows, []
        self.stage.clear()
        return dead_letter.sift(batch.blocks, self.stage.load)

    def _staged(self) -> int:
        return int(rows(self._client, f"SELECT count() FROM {self.stage.table}")[0][0])

    def _ranges(self) -> list[Range]:
        found = rows(
            self._client,
            "SELECT journal, toUInt64(min(seq)), toUInt64(max(seq)), count(), "
            f"toInt64(min(ts)), toInt64(max(ts)), countIf(NOT ({self._young()})) "
            f"FROM {self.stage.table} GROUP BY journal, intDiv(toUInt64(seq), {_WIDTH}) "
            "ORDER BY journal, min(seq)",
        )
        return [Range(*row) for row in found]

    def _insert(self, ranges: list[Range]) -> None:
        for at in range(0, len(ranges), _RUNS):
            runs = " OR ".join(found.sql for found in ranges[at : at + _RUNS])
            self._insert_runs(runs, "1" if len(ranges) <= _RUNS else f"({runs})")
        if self._staged() != sum(found.events for found in ranges):
            raise StoreTrouble("the staging table lost what was loaded")
        self._write_ledger(ranges)

    def _insert_runs(self, runs: str, here: str) -> None:
        """Insert what is absent of some runs; `here` is their condition on the stage."""
        young = self._young()
        absent = _ABSENT.format(all_events=self._all_events, ranges=runs)
        insert = _INSERT.format(
            events=self._events, stage=self.stage.table, young=young, here=here, absent=absent
        )
        execute(self._client, insert, **_ONE_BLOCK)
        look = f"SELECT count() FROM {self.stage.table} WHERE {young} AND {here} AND {absent}"
        if missing := rows(self._client, look)[0][0]:
            raise StoreTrouble(f"{missing} events are not in the store after their insert")

    def _young(self) -> str:
        """Rows that the retention would delete at once are not inserted: they have expired."""
        if not self._retention_days:
            return "1"
        oldest = int((self._clock() - self._retention_days * 86400) * 1000)
        return f"ts > {oldest}"

    def _write_ledger(self, ranges: list[Range]) -> None:
        now = int(self._clock())
        values = ", ".join(
            f"('{r.journal}', {r.first_seq}, {r.last_seq}, {r.events}, "
            f"fromUnixTimestamp64Milli({r.first_ts}, 'UTC'), "
            f"fromUnixTimestamp64Milli({r.last_ts}, 'UTC'), {r.expired}, {now})"
            for r in ranges
        )
        execute(self._client, f"INSERT INTO {self._taken} VALUES {values}", async_insert=0)


def _check_text(data: bytes) -> None:
    """ClickHouse takes any bytes for text."""
    try:
        data.isascii() or data.decode()
    except UnicodeDecodeError:
        raise Poison("not UTF-8") from None
