"""Exactly once: a batch goes into the store so that each of its events is there once.

1. Load: parse the batch into a table of our own. Lines that are no event go to the dead letter.
   This touches nothing that counts, so the next batch may be loaded while this one is inserted.
2. Insert what is absent: from the stage, what the store does not have by (journal, seq). Whatever
   was inserted before, by us or by another, for this batch or a differently cut one, stays as is.
   Nearly always all is absent: that is asked as a whole first, and event by event only where not.
3. Verify: everything staged is in the store now (or older than the retention, or of somebody who
   is erased, and then named so). Only then is
   the ledger written and may the source commit.

The stage may lose everything when the server restarts, hence the counts before and after. Any
trouble means: take the partition over anew (see `stage`) and do the whole batch again.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple

from clickhouse_connect.driver.client import Client

from consumer import dead_letter, hygiene
from consumer.batch import Batch, Block, Partition
from consumer.erasures import Erasures
from consumer.errors import Poison, StoreTrouble
from consumer.retention import Retention
from consumer.stage import Stage
from consumer.store import execute, rows
from consumer.verdicts import STAGED, Verdicts
from schemas.consent import STORED, Mode
from schemas.flaw import is_bounded_text
from schemas.words import pieces

_INSERT: Final = """
INSERT INTO {events}
SETTINGS {one_block}
WITH {given}
SELECT
    name, toUInt64(seq), fromUnixTimestamp64Milli(toInt64(ts), 'UTC'), kind, campaign, send,
    {recipient}, {message_id}, toDateTime(toUInt32({sent_at}), 'UTC'), link, method, {address},
    {user_agent}, {accept_language}, {referer}, prefetch, key_id, {verdict}, {segment}, detail,
    consent, {line}
FROM (SELECT *, name, {found} FROM {stage} WHERE {which} AND NOT {gone} AND {absent})
"""
#: Hits of one address have one number in their network while a salt holds, and nobody can go back.
_LINE: Final = """
if(address = '', 0, toUInt16(1 + sipHash64(address, (
    SELECT argMax(salt, (hour, salt)) FROM {salts})) % 65535))
"""
_SALTED: Final = "SELECT 1 FROM {salts} WHERE hour = toStartOfHour(now()) LIMIT 1"
_SALT: Final = """
INSERT INTO {salts} SETTINGS async_insert = 0
SELECT toStartOfHour(now()), rand64()
WHERE (SELECT count() FROM {salts} WHERE hour = toStartOfHour(now())) = 0
"""
#: So many seqs have one bitmap in the projection `seen`.
_CELL: Final = 65_536
#: What is staged beside what the store has, a bitmap of seqs each: of a whole journal, for to group
#: by two keys takes twice the time. What is read of other cells does no harm; one condition of
#: pairs would be exact, and slow to plan.
_SEQS: Final = f"""
FROM
(
    SELECT name AS journal, count() AS events, groupBitmapState(toUInt64(seq)) AS seqs
    FROM {{stage}}
    WHERE {{which}}
    GROUP BY name
) AS new
LEFT JOIN
(
    SELECT journal, groupBitmapState(seq) AS seqs
    FROM {{all_events}}
    WHERE journal IN ({{journals}}) AND intDiv(seq, {_CELL}) IN ({{cells}})
    GROUP BY journal
) AS old USING (journal)
"""
#: The rule: nothing of it is there, and it holds nothing twice. Asked when the insert begins, so
#: that an insert that comes again is none.
_FRESH: Final = f"""
(
    SELECT sum(bitmapAndCardinality(new.seqs, old.seqs)) = 0
        AND sum(bitmapCardinality(new.seqs)) = sum(events)
    {_SEQS}
)
"""
_ABSENT: Final = f"""
(journal, toUInt64(seq)) IN
(
    SELECT journal, arrayJoin(bitmapToArray(bitmapAndnot(new.seqs, old.seqs)))
    {_SEQS}
)
LIMIT 1 BY journal, seq
"""
#: All that is staged; what of it should be in the store, and what is.
_LOOK: Final = f"""
SELECT
    (SELECT count() FROM {{stage}}), sum(bitmapCardinality(new.seqs)),
    sum(bitmapAndCardinality(new.seqs, old.seqs))
{_SEQS}
"""
#: Runs of seqs that one statement looks for, and how wide a run may be: a batch that holds old
#: events shipped again beside new ones must not make the look go over all between them.
_RUNS: Final = 600
_WIDTH: Final = 1_000_000
#: Cells that one statement names: with the runs (twice) at most 200 KB of max_query_size, 256 KiB.
_NAMED: Final = 4000
#: One block, one part: rows and counts appear together. A verdict's steps are made once for all
#: that asks them, not once a branch.
_ONE_BLOCK: Final = (
    "async_insert = 0, max_insert_threads = 1, max_block_size = 1048448, "
    "min_insert_block_size_rows = 1048448, min_insert_block_size_bytes = 1073741824, "
    "max_partitions_per_insert_block = 0, short_circuit_function_evaluation = 'disable'"
)


class Range(NamedTuple):
    """A run of seqs of one journal in a batch; times in Unix milliseconds. Of its events `expired`
    are older than the retention, and `restricted` may by their consent not be kept whole.
    """

    journal: str
    first_seq: int
    last_seq: int
    events: int
    first_ts: int
    last_ts: int
    expired: int
    restricted: int

    @property
    def sql(self) -> str:
        """The condition of being in this run."""
        return f"(journal = '{self.journal}' AND seq BETWEEN {self.first_seq} AND {self.last_seq})"

    @property
    def cells(self) -> range:
        """The numbers of the bitmaps that it touches."""
        return range(self.first_seq // _CELL, self.last_seq // _CELL + 1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch."""

    events: int
    dead: int
    first_ts: int


class Staged(NamedTuple):
    """A batch that was loaded: its runs, and the lines that are no event."""

    ranges: list[Range]
    dead: list[dead_letter.Dead]


class Writer:
    """Writes batches of one partition. Synchronous; raises StoreTrouble or TableGone.

    One batch at a time is loaded and then inserted; `twin` makes another for the batch after it.
    Loading uses `loader` alone and inserting `client` alone, so that they go on side by side.
    """

    def __init__(
        self,
        client: Client,
        database: str,
        partition: Partition,
        verdicts: Verdicts,
        *,
        random: Callable[[int], bytes],
        clock: Callable[[], float],
        retention: Retention | None = None,
        cluster: bool = False,
        loader: Client | None = None,
        caution: dead_letter.Caution | None = None,
    ) -> None:
        self._client = client
        self._verdicts = verdicts
        self._clock = clock
        self._retention = retention or Retention()
        self._young = "1"
        self._database = database
        self._cluster = cluster
        local = "_local" if cluster else ""
        self._events = f"{database}.events{local}"
        self._all_events = f"{database}.events"
        self._dead_letter = f"{database}.dead_letter{local}"
        self._taken = f"{database}.taken{local}"
        self._erasures = Erasures(client, database, cluster=cluster)
        self._salts = f"{database}.salts{local}"
        self._salted = 0.0
        self.caution = caution or dead_letter.Caution()
        self._stage = partial(Stage, client, database, partition, random, loader=loader)
        self.stage = self._stage()

    def twin(self) -> "Writer":
        """A writer with a second stage, which the first one's fence spares."""
        made = copy.copy(self)
        made.stage = self._stage(own=self.stage.own)
        return made

    def write(self, batch: Batch) -> Outcome:
        """Put a batch into the store. After it returns the source may commit."""
        return self.insert(self.load(batch))

    def load(self, batch: Batch) -> Staged:
        """Parse a batch into the stage; the store's tables are not touched.

        With no caution no line is looked at; with some, those of blocks that do not say what they
        hold are, one by one; and all, block by block, where more is needed.
        """
        staged = None if self.caution.level > 1 else self._load_at_once(batch)
        if staged is None:
            self.stage.clear()
            staged = self._load_all_that_is_good(batch)
        self.caution.learn(staged.dead)
        return staged

    def _load_at_once(self, batch: Batch) -> Staged | None:
        """None where the store refuses it, or counts other events than there are lines: two objects
        on a line, or an array of them, are no events of ours either.
        """
        pieces: Sequence[Block | dead_letter.Line] = batch.blocks
        dead: list[dead_letter.Dead] = []
        events = batch.rows
        if self.caution.level:
            pieces, dead = dead_letter.sift(batch.blocks, dead_letter.says_what_it_holds)
            events = sum(map(dead_letter.count, pieces))
        elif not all(is_bounded_text(block.data) for block in batch.blocks):
            return None
        try:
            if pieces:
                self.stage.load(piece.data for piece in pieces)
        except Poison:
            return None
        ranges = self._ranges()
        return Staged(ranges, dead) if sum(r.events for r in ranges) == events else None

    def _load_all_that_is_good(self, batch: Batch) -> Staged:
        pieces, dead = dead_letter.sift(batch.blocks, dead_letter.has_no_flaw)
        # What stood beside bad lines is likelier to be refused: the rest is not halved for it.
        lines = [piece for piece in pieces if isinstance(piece, dead_letter.Line)]
        blocks = [piece for piece in pieces if isinstance(piece, Block)]
        good = sum(dead_letter.halve(some, self.stage.load, dead) for some in (lines, blocks))
        ranges = self._ranges()
        if sum(found.events for found in ranges) != good:
            raise StoreTrouble("the staging table does not hold what was loaded")
        return Staged(ranges, dead)

    def insert(self, staged: Staged) -> Outcome:
        """Insert what is absent of the loaded batch, verify it, and empty the stage."""
        ranges, dead = staged
        theirs = self._erasures.of(found.names for found in dead) if dead else ()
        dead_letter.store(self._client, self._dead_letter, dead, int(self._clock()), theirs)
        if ranges:
            self._insert(ranges)
        self.stage.clear(self._client)
        events = sum(found.events for found in ranges)
        return Outcome(events, len(dead), min((r.first_ts for r in ranges), default=0))

    def _ranges(self) -> list[Range]:
        """The runs of what is staged; settles what is young for all that follows."""
        self._young = self._retention.young(self._clock())
        found = rows(
            self.stage.loader,
            "SELECT name, toUInt64(min(seq)), toUInt64(max(seq)), count(), "
            f"toInt64(min(ts)), toInt64(max(ts)), countIf(NOT ({self._young})), "
            "countIf(consent != '') "
            f"FROM {self.stage.table} GROUP BY name, intDiv(toUInt64(seq), {_WIDTH}) "
            "ORDER BY name, min(seq)",
        )
        return [Range(*row) for row in found]

    def _insert(self, ranges: list[Range]) -> None:
        events = sum(found.events for found in ranges)
        if self._retention.hygiene:
            self._keep_dates(ranges)
        parts = list(_parts(ranges))
        for part in parts:
            self._insert_runs(part, events, whole=len(parts) == 1)
        self._write_ledger(ranges)

    def _keep_dates(self, ranges: list[Range]) -> None:
        """Before the batch is verified: one that breaks off comes again, and its dates with it."""
        verdict = self._verdicts.sql(STAGED)
        wanted = self._kept(ranges) | {"given": verdict.given, "found": verdict.found}
        wanted["verdict"] = verdict.columns[0]
        wanted |= {"stage": self.stage.table, "gone": self._erasures.gone(self.stage.table)}
        hygiene.keep(self._client, self._database, wanted, cluster=self._cluster)

    def _insert_runs(self, ranges: list[Range], events: int, *, whole: bool) -> None:
        """Insert what is absent of some runs, which are the `whole` stage of `events` or not."""
        wanted = self._wanted(ranges, whole=whole)
        verdict = self._verdicts.sql(STAGED)
        wanted |= self._kept(ranges) | {"given": verdict.given, "found": verdict.found}
        wanted["verdict"] = ", ".join(verdict.columns)
        missing = 0
        for absent in (_FRESH, _ABSENT):
            sql = _INSERT.format(
                events=self._events, one_block=_ONE_BLOCK, absent=absent.format(**wanted), **wanted
            )
            execute(self._client, sql)
            missing = self._missing(ranges, events, whole=whole)
            if not missing:
                return
        raise StoreTrouble(f"{missing} events are not in the store after their insert")

    def _kept(self, ranges: list[Range]) -> dict[str, str]:
        """SQL of each value as far as the recipients' consent lets it be kept."""
        if (hour := self._clock() // 3600) != self._salted:
            if not rows(self._client, _SALTED.format(salts=self._salts)):
                execute(self._client, _SALT.format(salts=self._salts))
            self._salted = hour
        values = {name: name for name in STORED} | {"address": pieces()["network"]}
        values["line"] = _LINE.format(salts=self._salts)
        if not any(found.restricted for found in ranges):
            return values
        kept = {}
        for name, value in values.items():
            least = STORED[name if name in STORED else "address"]
            allowing = ", ".join(f"'{mode.word}'" for mode in Mode if mode >= least)
            none = 0 if name in ("line", "sent_at") else repr("")
            kept[name] = f"if(consent IN ('', {allowing}), {value}, {none})"
        return kept

    def _missing(self, ranges: list[Range], events: int, *, whole: bool) -> int:
        """How many of some runs should be in the store, and are not."""
        staged, different, there = self.look(ranges, whole=whole)
        if staged != events:
            raise StoreTrouble("the staging table lost what was loaded")
        if different > there:
            # Kept out, perhaps. To ask of everything who is erased would double what a look costs.
            wanted = self._wanted(ranges, whole=whole)
            self._erasures.name(self.stage.table, "{gone} AND {here}".format(**wanted))
            _, different, there = self.look(ranges, "NOT {gone}".format(**wanted), whole=whole)
        return different - there

    def look(
        self, ranges: list[Range], only: str = "1", *, whole: bool = True
    ) -> tuple[int, int, int]:
        """How many are staged; how many of some runs should be in the store, and how many are."""
        wanted = self._wanted(ranges, whole=whole)
        wanted["which"] += f" AND {only}"
        staged, different, there = rows(self._client, _LOOK.format(**wanted))[0]
        return staged, different, there

    def _wanted(self, ranges: list[Range], *, whole: bool) -> dict[str, str]:
        here = "1" if whole else f"({' OR '.join(found.sql for found in ranges)})"
        cells = {cell for found in ranges for cell in found.cells}
        journals = ", ".join(sorted({f"'{found.journal}'" for found in ranges}))
        return {
            "stage": self.stage.table,
            "all_events": self._all_events,
            "gone": self._erasures.gone(self.stage.table),
            "here": here,
            "which": f"{self._young} AND {here}",
            "journals": journals,
            "cells": ", ".join(map(str, sorted(cells))),
        }

    def _write_ledger(self, ranges: list[Range]) -> None:
        now = int(self._clock())
        values = ", ".join(
            f"('{r.journal}', {r.first_seq}, {r.last_seq}, {r.events}, "
            f"'{_utc(r.first_ts)}', '{_utc(r.last_ts)}', {r.expired}, {now})"
            for r in ranges
        )
        execute(self._client, f"INSERT INTO {self._taken} VALUES {values}", async_insert=0)


def writers(
    client: Client, database: str, partition: Partition, *, verdicts: Verdicts, **how: Any
) -> tuple[Writer, Writer]:
    """Both writers of a partition that is being taken over; arguments as for one."""
    verdicts.install(client)
    first = Writer(client, database, partition, verdicts, **how)
    return first, first.twin()


def _utc(milliseconds: int) -> str:
    """A time as a literal that ClickHouse reads as it is: it plans each expression among VALUES."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%F %T.%f}"[:-3]


def _parts(ranges: list[Range]) -> Iterator[list[Range]]:
    """The runs in parts that fit one statement."""
    part: list[Range] = []
    cells = 0
    for found in ranges:
        cells += len(found.cells)
        if part and (len(part) == _RUNS or cells > _NAMED):
            yield part
            part, cells = [], len(found.cells)
        part.append(found)
    yield part
