"""The audit: does the store hold every event of every journal, once?

A journal's seqs run from 1 without a hole, so anyone can check: each is stored once, or in the
dead letter, or has expired, or was erased. What is missing is either lost (the edge could not write
it, or something on the way broke its promise) or, where the journals are at hand, still waiting in
them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clickhouse_connect.driver.client import Client

from consumer.store import rows
from schemas.journal.directory import journals, read_position
from schemas.journal.reader import Reader

#: How many gaps of a journal are listed one by one.
MAX_GAPS: Final = 100

_STORED: Final = """
SELECT journal, count(), groupBitmap(seq), max(seq) FROM {database}.events
GROUP BY journal
"""
_DEAD: Final = """
SELECT journal, groupBitmap(seq), max(seq) FROM {database}.dead_letter
WHERE seq > 0 GROUP BY journal
"""
_ERASED: Final = """
SELECT journal, groupBitmap(seq), max(seq) FROM {database}.erased GROUP BY journal
"""
#: What is stored, buried or erased of a journal, each seq once.
_COVERED: Final = """
SELECT groupBitmap(seq) FROM
(
    SELECT seq FROM {database}.events WHERE journal = '{journal}'
    UNION ALL
    SELECT seq FROM {database}.dead_letter WHERE seq > 0 AND journal = '{journal}'
    UNION ALL
    SELECT seq FROM {database}.erased WHERE journal = '{journal}'
)
"""
#: Ledger ranges overlap where a batch was done again: what each adds to those before is summed.
_TAKEN: Final = """
SELECT journal, sum(greatest(toInt64(last_seq) - greatest(toInt64(first_seq) - 1, before), 0)),
    max(last_seq)
FROM
(
    SELECT journal, first_seq, last_seq, max(toInt64(last_seq)) OVER (
        PARTITION BY journal ORDER BY first_seq, last_seq
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM {database}.taken
)
GROUP BY journal
"""
_GAPS: Final = """
SELECT before + 1, seq - 1
FROM
(
    SELECT seq, lagInFrame(seq, 1, 0) OVER (ORDER BY seq ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
        AS before
    FROM
    (
        SELECT seq FROM {database}.events WHERE journal = '{journal}'
        UNION ALL
        SELECT seq FROM {database}.dead_letter WHERE seq > 0 AND journal = '{journal}'
        UNION ALL
        SELECT seq FROM {database}.erased WHERE journal = '{journal}'
        UNION ALL
        SELECT toUInt64({end} + 1)
    )
)
WHERE seq > before + 1 ORDER BY seq
"""
_OLD: Final = """
SELECT first_seq, last_seq, last_ts < now() - toIntervalDay({days}) AS old, expired
FROM {database}.taken
WHERE journal = '{journal}' AND (old OR expired > 0)
"""

Gap = tuple[int, int]


@dataclass(frozen=True, slots=True)
class JournalAudit:
    """One journal: counts of events, and the seqs that are nowhere, as (first, last) runs.

    `taken` is what the consumer has read and verified; `repeated` what is stored more than once;
    `waiting` what is in the journal at hand and not counted yet (0 where it is not at hand).
    """

    journal: str
    taken: int
    stored: int
    dead: int
    expired: int
    erased: int
    waiting: int
    repeated: int
    missing: int
    gaps: tuple[Gap, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is lost or doubled."""
        return not self.repeated and not self.missing


def audit(
    client: Client, database: str, root: Path | None = None, retention_days: int = 0
) -> list[JournalAudit]:
    """Every journal that the store or the directory `root` knows, oldest first."""
    # Positions are read before the store is asked: what is counted in between is then in both.
    at_hand = {path.name: (read_position(path), _on_disk(path)) for path in _journals(root)}
    stored = {name: rest for name, *rest in rows(client, _STORED.format(database=database))}
    dead = {name: rest for name, *rest in rows(client, _DEAD.format(database=database))}
    taken = {name: rest for name, *rest in rows(client, _TAKEN.format(database=database))}
    erased = {name: rest for name, *rest in rows(client, _ERASED.format(database=database))}
    found = []
    for name in sorted({*stored, *dead, *taken, *erased, *at_hand} - {""}):
        count, unique, last = stored.get(name, (0, 0, 0))
        buried, last_buried = dead.get(name, (0, 0))
        covered, last_taken = taken.get(name, (0, 0))
        gone, last_gone = erased.get(name, (0, 0))
        position, (runs, next_seq) = at_hand.get(name, (1, ([], 1)))
        end = max(last, last_buried, last_taken, last_gone, next_seq - 1)
        whole = unique
        if unique < end and (buried or gone):
            whole = rows(client, _COVERED.format(database=database, journal=name))[0][0]
        gaps = _gaps(client, database, name, end) if whole < end else []
        waiting, gaps = _split(gaps, [(max(a, position), b) for a, b in runs if b >= position])
        expired = 0
        if retention_days and gaps:
            old = rows(client, _OLD.format(database=database, journal=name, days=retention_days))
            for first, until, is_old, at_the_door in old:
                size, rest = _split(gaps, [(first, until)])
                if is_old or size <= at_the_door:
                    expired, gaps = expired + size, rest
        found.append(
            JournalAudit(
                journal=name,
                taken=covered,
                stored=unique,
                dead=buried,
                expired=expired,
                erased=gone,
                waiting=waiting,
                repeated=count - unique,
                missing=_size(gaps),
                gaps=tuple(gaps[:MAX_GAPS]),
            )
        )
    return found


def _gaps(client: Client, database: str, journal: str, end: int) -> list[Gap]:
    found = rows(client, _GAPS.format(database=database, journal=journal, end=end))
    return [(int(first), int(last)) for first, last in found]


def _journals(root: Path | None) -> list[Path]:
    return journals(root) if root else []


def _on_disk(journal: Path) -> tuple[list[Gap], int]:
    """The runs of seqs in whole frames of a journal at hand, and the seq after all it has used."""
    runs: list[Gap] = []
    reader = Reader(journal, 1)
    while frames := reader.read(16 << 20):
        for frame in frames:
            if runs and runs[-1][1] + 1 == frame.first_seq:
                runs[-1] = (runs[-1][0], frame.next_seq - 1)
            else:
                runs.append((frame.first_seq, frame.next_seq - 1))
    return runs, reader.next_seq


def _size(gaps: list[Gap]) -> int:
    return sum(last - first + 1 for first, last in gaps)


def _split(gaps: list[Gap], within: list[Gap]) -> tuple[int, list[Gap]]:
    """How much of the gaps lies within some runs, and the gaps without that."""
    left = gaps
    for start, end in within:
        rest: list[Gap] = []
        for first, last in left:
            if last < start or first > end:
                rest.append((first, last))
                continue
            if first < start:
                rest.append((first, start - 1))
            if last > end:
                rest.append((end + 1, last))
        left = rest
    return _size(gaps) - _size(left), left
