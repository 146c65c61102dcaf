"""Erasure: who is erased leaves every table, and no old copy of their events brings them back.

An erasure is a keyed hash of the recipient. From the moment it is written no insert takes an event
of theirs; then what began before that is waited for, and what is there is deleted. Events that were
deleted, or kept out, are named in `erased`, so that an audit does not miss them. All of it may be
done again, and does what is left.
"""

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from clickhouse_connect.driver.client import Client

from consumer.errors import StoreTrouble
from consumer.store import execute, rows
from schemas.named import pattern
from schemas.rule import quoted
from schemas.token import MAX_NAME

_FOREVER: Final = 2**63
_HASH: Final = (
    "sipHash64Keyed((SELECT (max(key0), max(key1)) FROM {database}.erasure_key{local}), {of})"
)
_LISTED: Final = """
(SELECT (groupArray(hash), groupArray(until)) FROM
    (SELECT hash, until FROM {database}.erasures{local} FINAL UNION ALL SELECT 0, 0))
"""
#: Whether a staged event must be kept out. What asks tables is folded away where these are empty.
_GONE: Final = f"""
(
    kind = 'erased'
    OR (SELECT count() FROM {{database}}.erasures{{local}}) > 0
        AND toUInt64(ts) <= transform({_HASH.replace("{of}", "recipient")},
            tupleElement({_LISTED.strip()}, 1), tupleElement({_LISTED.strip()}, 2), toUInt64(0))
    OR (SELECT count() FROM {{database}}.erased{{local}}) > 0
        AND (journal, toUInt64(seq)) IN (
            SELECT journal, seq FROM {{database}}.erased{{local}}
            WHERE journal IN (SELECT DISTINCT journal FROM {{stage}}))
)
"""
#: Inserts from a stage that began before, by their ids.
_RUNNING: Final = """
SELECT query_id FROM system.processes
WHERE query_kind = 'Insert' AND position(query, '{database}.stage_') > 0
"""
_ADD: Final = """
INSERT INTO {database}.erasures{local} SETTINGS async_insert = 0
SELECT {hash}, {until}, now64(3) FROM (SELECT arrayJoin([{names}]) AS recipient)
"""
#: Who is erased for good, and nobody else: what comes of others is not held up.
_LIFT: Final = """
INSERT INTO {database}.erasures{local} SETTINGS async_insert = 0
SELECT hash, {until}, now64(3) FROM {database}.erasures{local} FINAL
WHERE until >= {forever}
    AND hash IN (SELECT {hash} FROM (SELECT arrayJoin([{names}]) AS recipient))
"""
_THEIRS: Final = "{hash} IN (SELECT {hash} FROM (SELECT arrayJoin([{names}]) AS recipient))"
_IDS: Final = """
SELECT DISTINCT trim(BOTH '<>' FROM message_id) FROM {database}.events
WHERE kind = 'sent' AND message_id != '' AND {theirs}
"""
_NAME: Final = """
INSERT INTO {database}.erased{local} SETTINGS async_insert = 0
SELECT journal, seq FROM {database}.events WHERE {which}
"""
_DELETE: Final = """
ALTER TABLE {database}.events{local}{on_cluster}
DELETE WHERE (journal, seq) IN (SELECT journal, seq FROM {database}.erased{local})
"""
_DEAD: Final = """
SELECT topic, partition, `offset`, line, journal, seq FROM {database}.dead_letter
WHERE match(concat(raw, ' ', reason), {pattern})
"""
_BLANK: Final = """
ALTER TABLE {database}.dead_letter{local}{on_cluster}
UPDATE raw = '', reason = 'erased'
WHERE (topic, partition, `offset`, line, journal, seq) IN ({which})
"""
_FORGET: Final = """
ALTER TABLE {database}.last_opens{local}{on_cluster} DELETE WHERE {hash} IN
    (SELECT hash FROM {database}.erasures{local} FINAL WHERE until >= {forever})
"""
_UNDONE: Final = """
SELECT sum(parts_to_do), max(latest_fail_reason), count() FROM system.mutations
WHERE database = '{database}' AND NOT is_done
    AND table IN ('events{local}', 'dead_letter{local}', 'last_opens{local}')
"""
_OLD_PARTS: Final = """
SELECT table, name FROM system.parts
WHERE database = '{database}' AND NOT active
    AND table IN ('events{local}', 'dead_letter{local}', 'last_opens{local}')
"""
#: Bytes of names that one statement holds, of max_query_size, 256 KiB, and what stands round each.
_NAMED: Final = 200_000
_AROUND: Final = len("unhex(''), ")
_NO_SYNC: Final = {"mutations_sync": 0, "allow_nondeterministic_mutations": 1}
#: How long inserts, and the engine's removal of old parts, are waited for, in seconds.
_WAIT_SECONDS: Final = 120.0
_DEADLINE: Final = 5 * 3600.0


class Found(NamedTuple):
    """What there is of a recipient: events, lines of the dead letter, message ids of mails, and
    whether hygiene mode keeps the date of an open."""

    events: int
    dead: int
    message_ids: list[str]
    last_open: bool


class Erasures:
    """The erasures of a store. Synchronous; raises StoreTrouble."""

    def __init__(self, client: Client, database: str, cluster: str | bool = "") -> None:
        """`cluster` is its name, or, for what alters no table, whether there is one."""
        self._client = client
        self._cluster = cluster
        self._names = {
            "database": database,
            "local": "_local" if cluster else "",
            "on_cluster": f" ON CLUSTER '{cluster}'" if cluster else "",
        }

    def gone(self, stage: str) -> str:
        """SQL of whether an event of a stage must be kept out."""
        return _GONE.format(stage=stage, **self._names)

    def name(self, stage: str, which: str) -> None:
        """Name events of a stage that are kept out."""
        sql = "INSERT INTO {database}.erased{local} SETTINGS async_insert = 0 "
        sql += "SELECT journal, toUInt64(seq) FROM {stage} WHERE {which}"
        execute(self._client, sql.format(stage=stage, which=which, **self._names))

    def of(self, lines: Iterable[Collection[str]]) -> set[str]:
        """Whoever of those that some lines name was ever erased."""
        if not self._ask("SELECT count() FROM {database}.erasures{local}")[0][0]:
            return set()
        asked = "SELECT recipient FROM (SELECT arrayJoin([{names}]) AS recipient) WHERE {hash} IN ("
        asked += "SELECT hash FROM {database}.erasures{local} FINAL)"
        return {
            name
            for some in _groups({name for names in lines for name in names})
            for (name,) in self._ask(asked, **self._whose(some))
        }

    def find(self, recipients: Sequence[str]) -> Found:
        """What there is of them."""
        whose = self._whose(recipients)
        ids = [text for (text,) in self._ask(_IDS, **whose)]
        (events,) = self._ask(
            "SELECT count() FROM {database}.events WHERE {which}", which=_which(whose, ids)
        )[0]
        ((dated,),) = self._ask("SELECT count() FROM {database}.last_opens WHERE {theirs}", **whose)
        return Found(events, len(self._dead(recipients)), ids, dated > 0)

    def lift(self, recipients: Sequence[str]) -> None:
        """Take what comes of those who are erased from now on; what is older stays out."""
        now = int(time.time() * 1000)
        self._do(_LIFT, until=now, forever=_FOREVER, **self._whose(recipients))

    def erase(self, recipients: Sequence[str], say: Callable[[str], None]) -> Found:
        """Erase them; what there was. It can be broken off and done again."""
        whose = self._whose(recipients)
        self._do(_ADD, until=_FOREVER, **whose)
        self._outwait()
        found = self.find(recipients)
        self._do(_NAME, which=_which(whose, found.message_ids))
        if self._cluster:
            self._do("SYSTEM SYNC REPLICA{on_cluster} {database}.erased{local}")
        say(f"{found.events} events are named as erased; rewriting the parts that hold them")
        self._do(_DELETE, **_NO_SYNC)
        if found.last_open:
            self._do(_FORGET, forever=_FOREVER, **whose, **_NO_SYNC)
        dead = self._dead(recipients)
        for at in range(0, len(dead), 1000):
            which = ", ".join(dead[at : at + 1000])
            self._do(_BLANK, which=which, **_NO_SYNC)
        self._mutated(say)
        self._forget_parts(say)
        return found

    def _outwait(self) -> None:
        """What began before the erasure was written may still bring an event of theirs."""
        began = {i for (i,) in self._ask(_RUNNING)}
        deadline = time.monotonic() + _WAIT_SECONDS
        while began & {i for (i,) in self._ask(_RUNNING)}:
            if time.monotonic() > deadline:
                raise StoreTrouble("an insert of before is still running: erase again")
            time.sleep(0.05)

    def _dead(self, recipients: Sequence[str]) -> list[str]:
        """The keys of lines of the dead letter that hold a name by itself."""
        found = self._ask(_DEAD, pattern=quoted(pattern(recipients)))
        return [
            f"({quoted(topic)}, {', '.join(map(str, numbers))}, {quoted(journal)}, {seq})"
            for topic, *numbers, journal, seq in found
        ]

    def _mutated(self, say: Callable[[str], None]) -> None:
        deadline, told = time.monotonic() + _DEADLINE, -1
        while (left := self._ask(_UNDONE)[0])[2]:
            if left[1]:
                raise StoreTrouble(f"the deletion fails: {left[1]}")
            if time.monotonic() > deadline:
                raise StoreTrouble("the deletion takes too long; it goes on in the store")
            if left[0] != told:
                say(f"{left[0]} parts to go")
            told = left[0]
            time.sleep(0.1)

    def _forget_parts(self, say: Callable[[str], None]) -> None:
        """See the parts of before off the disk, which the engine keeps for eight minutes.

        It keeps them for the case of a power failure: what is new is made durable first, where
        the disk is ours.
        """
        say("waiting for the engine to remove the parts of before from the disk")
        if not self._cluster:
            os.sync()
        tables = ("events", "dead_letter", "last_opens")
        for table in tables:
            self._set(table, "MODIFY SETTING old_parts_lifetime = 1")
        try:
            old = set(self._ask(_OLD_PARTS))
            deadline = time.monotonic() + _WAIT_SECONDS
            while old & set(self._ask(_OLD_PARTS)):
                if time.monotonic() > deadline:
                    say("they are still there: the engine removes them when no query reads them")
                    break
                time.sleep(0.5)
        finally:
            for table in tables:
                self._set(table, "RESET SETTING old_parts_lifetime")

    def _set(self, table: str, what: str) -> None:
        execute(
            self._client,
            "ALTER TABLE {database}.{table}{local}{on_cluster} {what}".format(
                table=table, what=what, **self._names
            ),
        )

    def _whose(self, recipients: Sequence[str]) -> dict[str, str]:
        names = ", ".join(f"unhex('{name.encode().hex()}')" for name in recipients)
        given = {"names": names, "hash": _HASH.format(of="recipient", **self._names)}
        return given | {"theirs": _THEIRS.format(**given)}

    def _ask(self, sql: str, **more: Any) -> list[tuple[Any, ...]]:
        return rows(self._client, sql.format(**self._names, **more))

    def _do(self, sql: str, **more: Any) -> None:
        settings = {name: more.pop(name) for name in _NO_SYNC if name in more}
        execute(self._client, sql.format(**self._names, **more), **settings)


def _groups(recipients: Iterable[str]) -> Iterator[list[str]]:
    """Names in groups, each of which a statement can hold; without those that are too long."""
    some: list[str] = []
    size = 0
    for name in recipients:
        length = 2 * len(name.encode())
        if length > 2 * MAX_NAME:
            continue
        if size + length + _AROUND > _NAMED:
            yield some
            some, size = [], 0
        some.append(name)
        size += length + _AROUND
    if some:
        yield some


def _which(whose: dict[str, str], ids: Sequence[str]) -> str:
    if not ids:
        return whose["theirs"]
    listed = ", ".join(map(quoted, ids))
    receipts = f"kind = 'receipt' AND trim(BOTH '<>' FROM message_id) IN ({listed})"
    return f"({whose['theirs']} OR {receipts})"
