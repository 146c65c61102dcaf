"""Large campaigns are counted ahead, in a consumer's spare time (see 0005_tallies.sql, words.sql).

Nothing depends on it but the time that a report takes. A tally is one row, written by one insert,
and says itself of which events it was made; so a consumer may be killed in the middle, several may
do the same at once, and events may come late: what is not so (any more) is not used.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final, TypeVar

from clickhouse_connect.driver.client import Client

from consumer.errors import StoreTrouble
from consumer.store import execute, rows
from schemas.words import pieces

_T = TypeVar("_T")
_log: Final = logging.getLogger(__name__)
#: Seconds between two looks; what part of the time is spent at most, so that inserts go first.
_EVERY: Final = 60.0
_SHARE: Final = 0.2
#: Events of the last seconds before the store's newest are left out: some are still on their way.
_SETTLED: Final = 60
#: A campaign of fewer events is counted as fast without.
_LARGE: Final = 30_000
#: Events of campaigns that are counted by one statement.
_TOGETHER: Final = 500_000
#: Seconds after which a tally is counted anew: if there are new events, if there are new opt-outs
#: (of all campaigns), and in any case.
_OLD: Final = 600
_ASKED_OLD: Final = 3600
_TOO_OLD: Final = 86_400
#: Campaigns whose tally does not hold, is old, or lacks a twentieth of what there is, or as many
#: opt-outs. One
#: that was large is counted on when it is no more, or its old tally would be in use for ever.
_STALE: Final = """
WITH young AS
(
    SELECT campaign, until FROM {database}.tallies FINAL WHERE until >= {until} - {too_old}
)
SELECT campaign, sum(total)
FROM
(
    SELECT campaign, 0 AS total, 0 AS since, 0 AS asked, events, marks, until
    FROM {database}.tallies FINAL
    UNION ALL
    SELECT
        campaign, count(), 0, 0,
        toUInt64(-count() - (SELECT count() FROM {database}.events WHERE {asked_not})),
        toUInt64(-sum(mark) - (SELECT sum(mark) FROM {database}.events WHERE {asked_not})),
        toDateTime(0, 'UTC')
    FROM {database}.events GROUP BY campaign
    UNION ALL
    SELECT e.campaign, 0, count() AS n, 0, n, sum(mark), toDateTime(0, 'UTC')
    FROM {database}.events AS e
    GLOBAL INNER JOIN young AS t ON t.campaign = e.campaign
    WHERE ts >= until AND ts >= (SELECT min(until) FROM young)
    GROUP BY e.campaign
    UNION ALL
    SELECT t.campaign, 0, 0, a.n, a.n, a.marks, toDateTime(0, 'UTC')
    FROM
    (
        SELECT moment, count() AS n, sum(mark) AS marks
        FROM {database}.events
        ARRAY JOIN (SELECT groupUniqArray(until) FROM young) AS moment
        WHERE {asked_not} AND ts >= moment
        GROUP BY moment
    ) AS a
    GLOBAL INNER JOIN young AS t ON t.until = a.moment
) AS c
GROUP BY campaign
HAVING campaign != '' AND sum(total) > 0 AND (sum(total) >= {large} OR max(c.until) > 0)
    AND (sum(c.events) != 0 OR sum(c.marks) != 0
    OR ((sum(c.since) + sum(c.asked)) * 20 > sum(total) AND max(c.until) < {until})
    OR (sum(c.since) > 0 AND max(c.until) < {until} - {old})
    OR (sum(c.asked) > 0 AND max(c.until) < {until} - {asked_old})
    OR max(c.until) < {until} - {too_old})
ORDER BY sum(total) DESC
"""
#: Names are given in hex, for the embedded engine takes what follows a blank line for statements.
_COUNT: Final = """
INSERT INTO {database}.tallies
SELECT campaign, toDateTime({until}, 'UTC'), events, marks, figures
FROM {database}.tallies_until(until = toDateTime({until}, 'UTC'))
WHERE campaign IN ({names})
"""
#: One thread, and a campaign that does not fit the memory is counted on the disk.
_GENTLY: Final = {
    "async_insert": 0,
    "max_threads": 1,
    "max_bytes_before_external_group_by": 256 << 20,
    "max_bytes_ratio_before_external_group_by": 0,
}


def settled(client: Client, database: str, now: float) -> int:
    """The time (Unix seconds) before which hardly an event is to come, by what the store has."""
    newest = rows(client, f"SELECT toUnixTimestamp(max(ts)) FROM {database}.events")[0][0]
    return max(0, min(int(newest), int(now)) - _SETTLED)


def stale(client: Client, database: str, until: int, large: int = 0) -> list[list[str]]:
    """The campaigns that want a tally as of `until`, the largest first, in what to `count` at once.

    `large` is how many events make a campaign large.
    """
    asked = _STALE.format(
        database=database, until=until, large=large or _LARGE, old=_OLD, too_old=_TOO_OLD,
        asked_old=_ASKED_OLD, asked_not=pieces()["asked_not"],
    )  # fmt: skip
    found: list[list[str]] = []
    room = 0
    for name, total in rows(client, asked, **_GENTLY):
        room -= total
        if room < 0:
            found.append([])
            room = _TOGETHER - total
        found[-1].append(name)
    return found


def count(client: Client, database: str, campaigns: list[str], until: int) -> None:
    """Tally some campaigns."""
    names = ", ".join(f"unhex('{name.encode().hex()}')" for name in campaigns)
    execute(client, _COUNT.format(database=database, until=until, names=names), **_GENTLY)


def _next(client: Client, database: str, until: int, tried: set[str]) -> list[str]:
    """What to count now: another consumer may have counted some of what was stale."""
    for campaigns in stale(client, database, until):
        if left := [name for name in campaigns if name not in tried]:
            return left
    return []


async def keep(
    open_client: Callable[[], Client], database: str, random: Callable[[], float]
) -> None:
    """Keep the tallies fresh until cancelled; `random` (0 to 1) spreads the consumers' looks."""
    while True:
        await asyncio.sleep(_EVERY * (0.5 + random()))
        try:
            with contextlib.closing(await finish(open_client)) as client:
                until = await finish(settled, client, database, time.time())
                tried: set[str] = set()
                began = time.monotonic()
                while campaigns := await finish(_next, client, database, until, tried):
                    tried.update(campaigns)
                    try:
                        await finish(count, client, database, campaigns, until)
                    except StoreTrouble as trouble:
                        _log.warning("%d campaigns not counted ahead: %s", len(campaigns), trouble)
                    await asyncio.sleep((time.monotonic() - began) * (1 / _SHARE - 1))
                    began = time.monotonic()
        except StoreTrouble as trouble:
            _log.warning("no campaigns counted ahead: %s", trouble)
        except Exception:  # a fault in what nothing depends on; the next look may go well
            _log.exception("no campaigns counted ahead")


async def finish(work: Callable[..., _T], *given: object) -> _T:
    """Do it in a thread, and not be cancelled before it is done: it uses a client."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *given))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
