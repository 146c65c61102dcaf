"""Hygiene mode: of a recipient's hits the date of the last open is kept, and of what shows no
reader the month, by which the entry ends (0023_last_opens.sql, 0026_last_opens_kept.sql).

A date is written before its hits are verified in the store, from what is staged, also of hits that
are too old to be stored. It is the greatest of all, so what comes again changes nothing. What the
verdict was at the insert decides, and is not revised: the hit is gone by then.
"""

from typing import Final

from clickhouse_connect.driver.client import Client

from consumer.store import execute
from schemas.words import pieces

_STAGED: Final = """
INSERT INTO {dates} (recipient, day, seen)
SETTINGS async_insert = 0, short_circuit_function_evaluation = 'disable'
SELECT who, maxIf(date, bitTest({did}, 0)), maxIf(toLastDayOfMonth(date), NOT bitTest({did}, 0))
FROM
(
    WITH {given}
    SELECT
        toDate(fromUnixTimestamp64Milli(toInt64(ts), 'UTC')) AS date, kind, '' AS detail,
        {recipient} AS who, {verdict} AS class
    FROM (SELECT *, {found} FROM {stage} WHERE kind IN ('open', 'click') AND NOT {gone})
)
WHERE who != '' AND bitTest({did}, 6)
    AND who GLOBAL NOT IN (SELECT recipient FROM {database}.optouts)
GROUP BY who
"""
_STORED: Final = """
INSERT INTO {dates} (recipient, day, seen)
SETTINGS async_insert = 0, max_bytes_before_external_group_by = 268435456,
    max_bytes_ratio_before_external_group_by = 0
SELECT
    recipient, maxIf(toDate(ts), bitTest(did, 0)),
    maxIf(toLastDayOfMonth(toDate(ts)), NOT bitTest(did, 0))
FROM {database}.events
WHERE kind IN ('open', 'click') AND recipient != '' AND bitTest(did, 6)
    AND recipient GLOBAL NOT IN (SELECT recipient FROM {database}.optouts)
GROUP BY recipient
"""


def _dates(database: str, cluster: bool) -> str:
    return f"{database}.last_opens{'_local' if cluster else ''}"


def keep(client: Client, database: str, wanted: dict[str, str], *, cluster: bool) -> None:
    """Keep the dates of a stage's opens; `wanted` are the pieces of its insert."""
    names = {"did": pieces()["did"], "dates": _dates(database, cluster), "database": database}
    execute(client, _STAGED.format(**names, **wanted))


def fold(client: Client, database: str, *, cluster: bool) -> None:
    """Keep the dates of all stored opens."""
    execute(client, _STORED.format(database=database, dates=_dates(database, cluster)))
