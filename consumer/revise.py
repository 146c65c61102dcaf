"""Verdicts that change: by rules about several hits, and by other rules than a hit was judged by.

Both are one mutation of `events`. It writes columns of a part anew and puts the part in the place
of the old one, as a merge does: no row is missing or there twice at any time, and what projections
count of the columns comes with the part. Hits that come meanwhile are judged by the current rules
already. What changes is asked first, and where nothing does nothing is done.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from clickhouse_connect.driver.client import Client
from prometheus_client import Counter

from consumer import tallies
from consumer.errors import StoreTrouble
from consumer.store import execute, rows
from consumer.verdicts import STORED, Verdicts
from schemas.rule import Group, quoted
from schemas.ruleset import PART, TOLD

_log: Final = logging.getLogger(__name__)
#: Seconds between two looks at what came lately, and what that is, back from the newest event.
_EVERY: Final = 60.0
_LATELY: Final = 2 * 3600
#: What part of the time is spent at most, so that inserts go first.
_SHARE: Final = 0.2
#: The hits of groups. First how many are in the window that begins with a hit, then the most of all
#: windows that it is in, and the signs of a scanner around it.
_FIND: Final = """
INSERT INTO {revisions} (run, journal, seq, place)
SELECT {run}, journal, seq, {place}
FROM
(
    SELECT journal, seq, campaign, send, base,
        max(n) OVER ({of} ORDER BY at RANGE BETWEEN {ms} PRECEDING AND CURRENT ROW) AS most,
        max(sign) OVER ({of} ORDER BY at RANGE BETWEEN {ms} PRECEDING AND {ms} FOLLOWING) AS signs
    FROM
    (
        SELECT *,
            base = 'scanner' OR (journal, seq) IN (
                SELECT journal, seq FROM {revisions} WHERE run = {run} AND place < {place}
            ) AS sign,
            {count} OVER ({of} ORDER BY at RANGE BETWEEN CURRENT ROW AND {ms} FOLLOWING) AS n
        FROM
        (
            SELECT journal, seq, campaign, send, recipient, address, line, link, kind,
                toUnixTimestamp64Milli(ts) AS at, {base} AS base
            FROM {events}
            WHERE ts >= toDateTime({since} - {within}, 'UTC') AND method = 'GET' AND {whose}
        )
        WHERE base NOT IN ('proxy', 'prefetch', 'self')
    )
) AS found
{join}
WHERE base IN ('human', 'unknown') AND most >= {least} AND {also}
SETTINGS async_insert = 0
"""
_CLICKS: Final = {
    "of": "PARTITION BY campaign, send, recipient",
    "whose": "kind = 'click' AND recipient != ''",
}
#: Many are behind an address that is none of the Internet's, if only a proxy that is not trusted.
#: Of an address its network is kept, and `line` tells those of a network apart.
_ADDRESS: Final = {
    "of": "PARTITION BY campaign, address, line",
    "whose": "kind IN ('open', 'click') AND line > 0 AND position("
    "dictGet('{networks}', 'lists', toIPv6OrDefault(address)), ' private ') = 0",
}
#: The links of a mail: what at least three clicked. Before that, those of whoever is the first
#: would be all there are; and what has a link of its own for each recipient has it beside these.
_KNOWN: Final = """
    SELECT campaign, send, link FROM {all_events}
    WHERE kind = 'click' AND recipient != '' AND campaign IN
        (SELECT campaign FROM {events} WHERE kind = 'click' AND ts >= toDateTime({since}, 'UTC'))
    GROUP BY campaign, send, link HAVING uniqExact(recipient) >= 3
"""
_LINKS: Final = """
INNER JOIN (SELECT campaign, send, count() AS links FROM ({known}) GROUP BY campaign, send) AS mail
USING (campaign, send)
"""
#: What can be judged anew by what was kept of it. In a network of which a list holds a part nobody
#: can say whether a hit was in that; and without a `line` not what else came from its address.
_TO_JUDGE: Final = f"""
(class = '' OR {TOLD} AND NOT (line = 0 AND rule IN ({{shared}}))
    AND position(dictGet('{{lists}}', 'lists', toIPv6OrDefault(address)), ' {PART} ') = 0)
"""
_CHANGES: Final = """
SELECT toString(class), toString(rule), {new_class} AS new_class, {new_rule} AS new_rule, count()
FROM {events}
WHERE {scope} AND (toString(class) != new_class OR toString(rule) != new_rule OR {renew})
GROUP BY ALL ORDER BY ALL
"""
_LEFT: Final = """
SELECT count() FROM {events}
WHERE kind IN ('open', 'click') AND ts >= toDateTime({since}, 'UTC') AND {told}
    AND ruleset != '{version}'
"""
_UPDATE: Final = """
ALTER TABLE {events}{on_cluster}
UPDATE class = {new_class}, rule = {new_rule}, ruleset = '{version}'
WHERE {scope} AND (toString(class) != {new_class} OR toString(rule) != {new_rule} OR {renew})
"""
_SYNC: Final = "SYSTEM SYNC REPLICA{on_cluster} {revisions}"
#: One thread, and what does not fit the memory is sorted on the disk.
_GENTLY: Final = {
    "max_threads": 1,
    "max_bytes_before_external_sort": 256 << 20,
    "max_bytes_ratio_before_external_sort": 0,
}
_WAIT: Final = {"mutations_sync": 2, "allow_nondeterministic_mutations": 1}


class Change(NamedTuple):
    """So many hits were of one class by one rule, and are of another now."""

    old_class: str
    old_rule: str
    new_class: str
    new_rule: str
    hits: int


class Reviser:
    """Revises a store's verdicts. Synchronous; raises StoreTrouble."""

    def __init__(
        self, client: Client, database: str, verdicts: Verdicts, *, cluster: str = ""
    ) -> None:
        self._client = client
        self._database = database
        self._verdicts = verdicts
        local = "_local" if cluster else ""
        self._names = {
            "events": f"{database}.events{local}",
            "all_events": f"{database}.events",
            "revisions": f"{database}.revisions{local}",
            "on_cluster": f" ON CLUSTER '{cluster}'" if cluster else "",
        }

    def look(self) -> list[Change]:
        """Revise by groups what came lately, and take back what holds no more; what changed."""
        self._verdicts.refresh(self._client)
        asked = "SELECT toUnixTimestamp(least(max(ts), now64())) FROM {events}".format(
            **self._names
        )
        newest = rows(self._client, asked)
        since = max(0, newest[0][0] - _LATELY)
        if not self._verdicts.ruleset.groups:
            return []
        grouped = f"rule IN ({self._groups}) AND NOT (line = 0 AND rule IN ({self._shared}))"
        by_rules = self._verdicts.sql(STORED, kept=True).alone
        own = (
            f"multiIf(NOT ({grouped}), toString(class), {TOLD}, {by_rules[0]}, 'human')",
            f"multiIf(NOT ({grouped}), toString(rule), {TOLD}, {by_rules[1]}, 'untold')",
        )
        return self._revise(own, self._stored_base, since, grouped)

    @property
    def _groups(self) -> str:
        return ", ".join(quoted(group.id) for group in self._verdicts.ruleset.groups) or "''"

    @property
    def _shared(self) -> str:
        """The groups that ask for addresses."""
        groups = self._verdicts.ruleset.groups
        return ", ".join(quoted(g.id) for g in groups if g.what == "recipients") or "''"

    @property
    def _lists(self) -> str:
        return f"{self._database}.networks_{self._verdicts.ruleset.version}"

    @property
    def _to_judge(self) -> str:
        return _TO_JUDGE.format(shared=self._shared, lists=self._lists)

    @property
    def _stored_base(self) -> str:
        """What group rules take for a hit's own verdict: theirs were of `human` and `unknown`."""
        return f"if(rule IN ({self._groups}), 'human', toString(class))"

    def reclassify(self, since: int = 0) -> list[Change]:
        """Judge hits anew by the current rules, from a time on (Unix seconds); what changed.

        A hit whose inputs were not kept stays as it is.
        """
        self._verdicts.install(self._client)
        new_class, new_rule, _ = self._verdicts.sql(STORED, kept=True).alone
        own = (new_class, new_rule)
        base = f"if({self._to_judge}, {new_class}, {self._stored_base})"
        done = self._revise(own, base, since)
        # What was on its way into the store meanwhile, judged by the rules of before.
        version = self._verdicts.ruleset.version
        told = self._to_judge
        left = _LEFT.format(told=told, version=version, since=since, **self._names)
        if rows(self._client, left)[0][0]:
            done += self._revise(own, base, since)
        return done

    def _revise(
        self, own: tuple[str, str], base: str, since: int, grouped: str = ""
    ) -> list[Change]:
        """`own` is SQL of a hit's verdict where no group has it; `grouped`: only those found, and
        those of which this holds.
        """
        run = quoted(os.urandom(8).hex())
        groups = self._verdicts.ruleset.groups
        for place, group in enumerate(groups, 1):
            self._find(group, place, run, base, since)
        of_run = f"(SELECT journal, seq FROM {self._names['revisions']} WHERE run = {run}"
        cases = [f"(journal, seq) IN {of_run} AND place = {n})" for n in range(1, len(groups) + 1)]
        scope = f"kind IN ('open', 'click') AND ts >= toDateTime({since}, 'UTC') AND "
        scope += f"((journal, seq) IN {of_run}) OR {grouped or self._to_judge})"
        told = {
            "new_class": _first(cases, [group.verdict for group in groups], own[0]),
            "new_rule": _first(cases, [group.id for group in groups], own[1]),
            "scope": scope,
            "version": self._verdicts.ruleset.version,
            "renew": "0" if grouped else f"ruleset != '{self._verdicts.ruleset.version}'",
            **self._names,
        }
        try:
            found = [Change(*row) for row in rows(self._client, _CHANGES.format(**told))]
            if found:
                if self._names["on_cluster"]:  # each replica asks its own rows of the run
                    execute(self._client, _SYNC.format(**self._names))
                execute(self._client, _UPDATE.format(**told), **_WAIT)
        finally:
            drop = "ALTER TABLE {revisions}{on_cluster} DROP PARTITION {run}"
            execute(self._client, drop.format(run=run, **self._names))
        return [change for change in found if change[:2] != change[2:4]]

    def _find(self, group: Group, place: int, run: str, base: str, since: int) -> None:
        known = _KNOWN.format(since=since, **self._names)
        shared = f"uniqExact(if((campaign, send, link) IN ({known}), link, NULL))"
        what = {
            "clicks": {**_CLICKS, "count": "count()", "join": "", "also": "1"},
            "links": {**_CLICKS, "count": shared, "join": _LINKS.format(known=known),
                      "also": "most = links"},
            "recipients": {**_ADDRESS, "count": "uniqExact(recipient)", "join": "",
                           "also": "signs" if group.sign else "1"},
        }[group.what]  # fmt: skip
        what["whose"] = what["whose"].format(networks=self._lists)
        asked = _FIND.format(
            run=run, place=place, base=base, since=since, within=group.within,
            ms=group.within * 1000, least=group.least, **what, **self._names,
        )  # fmt: skip
        execute(self._client, asked, **_GENTLY)


def _first(cases: list[str], values: list[str], otherwise: str) -> str:
    """SQL of the value of the first case that holds."""
    if not cases:
        return otherwise
    pairs = ", ".join(f"{case}, {quoted(value)}" for case, value in zip(cases, values, strict=True))
    return f"multiIf({pairs}, {otherwise})"


async def keep(
    open_client: Callable[[], Client],
    database: str,
    verdicts: Verdicts,
    random: Callable[[], float],
    revised: Counter,
    cluster: str = "",
) -> None:
    """Revise by groups, and take notice of other networks, until cancelled.

    `random` (0 to 1) spreads the consumers' looks; `revised` counts hits by old and new class.
    """
    while True:
        await asyncio.sleep(_EVERY * (0.5 + random()))
        began = time.monotonic()
        try:
            with contextlib.closing(await tallies.finish(open_client)) as client:
                reviser = Reviser(client, database, verdicts, cluster=cluster)
                for change in await tallies.finish(reviser.look):
                    _log.info("%d hits revised: %s by %s, now %s by %s", change.hits, *change[:4])
                    revised.labels(change.old_class, change.new_class).inc(change.hits)
        except StoreTrouble as trouble:
            _log.warning("no verdicts revised: %s", trouble)
        except Exception:  # a fault in what nothing depends on; the next look may go well
            _log.exception("no verdicts revised")
        await asyncio.sleep((time.monotonic() - began) * (1 / _SHARE - 1))
