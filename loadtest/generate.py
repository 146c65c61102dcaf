"""A store full of made-up history, made in ClickHouse: `python -m loadtest.generate --data DIR`.

The tables are made by the migrations; the events by INSERT ... SELECT from numbers, so 100 million
take minutes. The same seed gives the same events. Three steps:

1. `draft`: who is sent what, and when they open and click, as (ts, n, i): mail n, its i-th event.
2. Chunk by chunk in the order of time, the rest of each event, and its identity: each of a few
   workers starts a journal each midnight, and counts from 1 in it. Some opens, by chance, are left
   out: a few more than were wanted had been drawn.
3. Each month is merged, as ClickHouse does within two weeks of its end: the older parts are, the
   fewer it merges at a time, and what was made just now would count as new. Also the last one, of
   which a larger store would have more parts only for being made in more batches.

All of it is synthetic. Campaign sizes follow Zipf's law with a flattened head (Mandelbrot), opens
come a log-normal time after the mail (median 5.5 h, sigma 1.9) and seldom at night. Some mails are
recorded twice, sent twice, taken back, or opened without a record; some pixels are asked by HEAD.
"""

import argparse
import csv
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from clickhouse_connect.driver.client import Client

from consumer.embedded import store_path
from consumer.migrate import migrate
from consumer.settings import ConsumerSettings
from consumer.sql.gate import quote
from consumer.store import connect, execute, open_embedded, rows
from consumer.verdicts import STORED, Verdicts
from heliograph import data_dir
from loadtest.traffic import AGENTS
from schemas.words import pieces

#: Ranks are shifted by this many: 0 would be Zipf's law itself, in which the largest of 10,000
#: campaigns has a tenth of all mail.
_HEAD: Final = 20
_WORKERS: Final = 8
#: Each campaign goes to other people of these; a prime, so that nobody is drawn twice.
_PEOPLE: Final = 10_000_019
_CHUNK: Final = 1_000_000
_LANGUAGES: Final = "['', '', '', 'en-US,en;q=0.9', 'de-DE,de;q=0.9,en;q=0.8', 'en-GB']"
_THEMES: Final = "['spring', 'news', 'digest', 'offer', 'welcome', 'event', 'survey', 'member']"

#: Chance by hash: a number from 0 to 1 for a mail or campaign and a purpose.
_CHANCE: Final = "(cityHash64({seed}, {what}) / 18446744073709551616.)"
#: What follows from n, the number of a mail, alone.
_MAIL: Final = """
    toUInt32({head} * (pow(({campaigns} + {head}) / {head}, (n + 0.5) / {mails}) - 1)) AS c,
    {begin} + 86400 * toUInt32({chance_c1} * ({days} - 1)) + 300 * toUInt32(72 + {chance_c2} * 144)
        AS sent,
    if({chance_n1} < 0.3 + 0.3 * {chance_c3},
        1 + least(toUInt8(log({chance_n2}) / log(0.35)), 5), 0) AS opens,
    if(opens > 0 AND {chance_n3} < 0.08, 1 + ({chance_n4} < 0.2), 0) AS clicks,
    {chance_n5} AS odd
"""
_MAKE_DRAFT: Final = """
CREATE TABLE {database}.draft (ts DateTime64(3, 'UTC') CODEC(Delta, LZ4), n UInt32, i UInt8)
ENGINE = MergeTree PARTITION BY toYYYYMM(ts) ORDER BY ts
"""
_DRAFT: Final = """
INSERT INTO {database}.draft
SELECT
    fromUnixTimestamp64Milli(
        multiIf(i = 3, at + 259200000, i < 10, at, toHour(late) < 6 AND {chance_e1} < 0.7,
            late_ms + toInt64((6 - toHour(late) + 3 * {chance_e2}) * 3600000), late_ms),
        'UTC') AS ts,
    n, i
FROM
(
    SELECT
        n, arrayJoin(arrayConcat(
            if(odd BETWEEN 0.003 AND 0.005, [], [0]), if(odd < 0.002, [1], []),
            if(odd BETWEEN 0.002 AND 0.003, [2], []), if(odd BETWEEN 0.005 AND 0.01, [3], []),
            range(10, 10 + opens), range(30, 30 + clicks)))::UInt8 AS i,
        -- Recorded a quarter of an hour before, taken back within the last five minutes.
        toInt64(sent) * 1000 - 900000 + 600000 * (i = 2) + toInt64({chance_e3} * 300000) AS at,
        sqrt(-2 * log({chance_e4})) * cos(2 * pi() * {chance_e5}) AS z,
        toInt64(sent) * 1000 + toInt64({chance_n6} * 1800000)
            + toInt64(exp(log(19800) + 1.9 * least(z, 6)) * 1000) AS late_ms,
        fromUnixTimestamp64Milli(late_ms, 'UTC') AS late
    FROM (SELECT number AS n, {mail} FROM numbers({first}, {count}))
)
WHERE ts < fromUnixTimestamp64Milli({end} * 1000, 'UTC')
"""
_EVENTS: Final = """
INSERT INTO {database}.events
SELECT * EXCEPT ip REPLACE {network} AS address, {verdict}, '', '', '', toUInt16(ip)
FROM
(
SELECT
    lower(concat(leftPad(hex(toUInt64(toUnixTimestamp(day, 'UTC')) * 1000 - worker * 37), 12, '0'),
        leftPad(hex(cityHash64({seed}, day, worker)), 16, '0'))) AS journal,
    row_number() OVER (PARTITION BY day, worker ORDER BY ts, n, i) AS seq,
    ts, kind, campaign,
    if(i = 3, campaign || '/again', campaign) AS send,
    'customer-' || toString(person) AS recipient, '' AS message_id,
    toDateTime(sent + 259200 * (i = 3), 'UTC') AS sent_at,
    if(kind = 'click', concat('https://shop.example/', campaign, '/', toString(pick % 5 + 1)), '')
        AS link,
    multiIf(i < 10, '', kind = 'open' AND {chance_e6} < 0.003, 'HEAD', 'GET') AS method,
    cityHash64({seed}, 'ip', person) AS ip,
    -- Gmail's proxies are seen in 66.249.80.0/20 alone.
    multiIf(i < 10, '', position(user_agent, 'ggpht.com') > 0,
        IPv4NumToString(toUInt32(toIPv4('66.249.80.0') + ip % 4096)),
        IPv4NumToString(toUInt32(ip))) AS address,
    if(i < 10, '', {agents}[agent]) AS user_agent,
    if(i < 10, '', {languages}[pick % 6 + 1]) AS accept_language, '' AS referer, '' AS prefetch,
    '0a1b2c' AS key_id
FROM
(
    SELECT
        ts, n, i, {mail},
        toStartOfDay(ts, 'UTC') AS day,
        cityHash64({seed}, 'pick', n, i) AS pick,
        toInt64(intDiv(pick, 1024) % {workers}) AS worker,
        concat({themes}[c % 8 + 1], '-', toString(c)) AS campaign,
        (n * 48271 + cityHash64({seed}, 'list', c)) % {people} AS person,
        {draws}[cityHash64({seed}, 'agent', person) % {weights} + 1] AS agent,
        multiIf(i = 2, 'cancelled', i < 10, 'sent', i < 30, 'open', 'click') AS kind
    FROM {database}.draft
    WHERE (i < 10 OR {chance} > {spare}) AND ts >= fromUnixTimestamp64Milli({since} * 1000, 'UTC')
        AND ts < fromUnixTimestamp64Milli({until} * 1000, 'UTC')
    ORDER BY ts, n, i
)
)
"""
#: Below which chance opens and clicks are left out, so that there are not too many events.
_SPARE: Final = """
SELECT max(chance) FROM (SELECT {chance} AS chance FROM {database}.draft WHERE i >= 10
ORDER BY chance LIMIT greatest(toInt64((SELECT count() FROM {database}.draft)) - {events}, 0))
"""
_TAKEN: Final = """
INSERT INTO {database}.taken
SELECT journal, min(seq), max(seq), count(), min(ts), max(ts), 0, max(ts) FROM {database}.events
GROUP BY journal
"""
_MONTHS: Final = """
SELECT DISTINCT partition FROM system.parts
WHERE active AND database = '{database}' AND table = 'events'
ORDER BY partition
"""
_WIDE: Final = {
    "max_block_size": 1_048_448,
    "min_insert_block_size_rows": 1_048_448,
    "min_insert_block_size_bytes": 1 << 30,
    "max_insert_threads": 1,
    "max_partitions_per_insert_block": 0,
    "async_insert": 0,
    "max_bytes_before_external_sort": 2 << 30,
}


def _agents() -> tuple[list[str], list[int]]:
    """The user agents, and their numbers, each as often as it has tenths of a weight."""
    with AGENTS.open(newline="", encoding="utf-8") as file:
        found = [(row["user_agent"], float(row["weight"])) for row in csv.DictReader(file)]
    draws = [n for n, (_, weight) in enumerate(found, 1) for _ in range(round(weight * 10))]
    return [agent for agent, _ in found], draws


@dataclass(frozen=True)
class Plan:
    """What to make: `events` in all, over the `days` before `end` (Unix seconds, midnight)."""

    events: int
    campaigns: int = 10_000
    days: int = 365
    seed: int = 1
    end: int = int(datetime(2026, 10, 1, tzinfo=UTC).timestamp())


Say = Callable[[str], None]


class Generator:
    """Fills an empty store by a plan."""

    def __init__(self, client: Client, database: str, plan: Plan, say: Say = print) -> None:
        self._client = client
        self._plan = plan
        self._say = say
        agents, draws = _agents()
        self._names: dict[str, object] = {
            "database": database, "seed": plan.seed, "campaigns": plan.campaigns, "head": _HEAD,
            "days": plan.days, "begin": plan.end - plan.days * 86400, "end": plan.end,
            "people": _PEOPLE, "workers": _WORKERS, "themes": _THEMES, "mails": 1,
            "languages": _LANGUAGES, "events": plan.events,
            "chance": f"cityHash64({plan.seed}, 'spare', n, i)",
            "agents": f"[{', '.join(map(quote, agents))}]", "draws": draws, "weights": len(draws),
        }  # fmt: skip
        for purpose in ("c1", "c2", "c3", *(f"n{k}" for k in range(1, 7)), *_EVENT_CHANCES):
            what = {"c": "c", "n": "n", "e": "n, i"}[purpose[0]]
            self._names[f"chance_{purpose}"] = _CHANCE.format(
                seed=plan.seed, what=f"'{purpose}', {what}"
            )

    def run(self) -> None:
        """Make everything; raises RuntimeError if the store is not empty."""
        database = str(self._names["database"])
        migrate(self._client, database)
        verdicts = Verdicts(database)
        verdicts.install(self._client)
        verdict = verdicts.sql(STORED)
        self._names |= {"verdict": ", ".join(verdict.alone), "network": pieces()["network"]}
        if self._one("SELECT count() FROM {database}.events"):
            raise RuntimeError("the store holds events already")
        self._do("DROP TABLE IF EXISTS {database}.draft SYNC")
        self._do(_MAKE_DRAFT)
        began = time.monotonic()
        self._draft()
        self._say(f"mails and their opens drawn in {time.monotonic() - began:.0f} s")
        self._events(began)
        self._do(_TAKEN)
        self._do("DROP TABLE {database}.draft SYNC")
        began = time.monotonic()
        for (month,) in rows(self._client, _MONTHS.format(**self._names)):
            self._do("OPTIMIZE TABLE {database}.events PARTITION {month} FINAL", month=month)
        self._say(f"months merged in {time.monotonic() - began:.0f} s")

    def _draft(self) -> None:
        """Draw mails until there is enough, and a little more: what comes too late is cut off."""
        sample = min(self._plan.events, 1_000_000)
        self._names["mails"] = sample
        self._draw(0, sample)
        mean = self._one("SELECT count() FROM {database}.draft") / sample
        self._do("TRUNCATE TABLE {database}.draft")
        mails = int(self._plan.events / mean * 1.01) + 100
        self._names["mails"] = mails
        for first in range(0, mails, 8 * _CHUNK):
            self._draw(first, min(8 * _CHUNK, mails - first))
            self._say(f"drawn: {min(first + 8 * _CHUNK, mails):,} of {mails:,} mails")

    def _draw(self, first: int, count: int) -> None:
        self._do(_DRAFT, first=first, count=count)

    def _events(self, began: float) -> None:
        plan, done = self._plan, 0
        self._names["spare"] = self._one(_SPARE)
        step = max(1, round(_CHUNK * plan.days / plan.events)) * 86400
        for since in range(plan.end - plan.days * 86400, plan.end, step):
            # The first recordings are made some minutes before the first day.
            self._do(_EVENTS, since=since, until=since + step)
            done = self._one("SELECT count() FROM {database}.events")
            rate = done / (time.monotonic() - began)
            self._say(f"made: {done:,} of {plan.events:,} events, {rate:,.0f} /s in all")
        if done != plan.events:
            raise RuntimeError(f"only {done:,} events were made")

    def _do(self, sql: str, **more: object) -> None:
        mail = _MAIL.format(**self._names)
        execute(self._client, sql.format(**self._names, **more, mail=mail), **_WIDE)

    def _one(self, sql: str) -> int:
        return int(rows(self._client, sql.format(**self._names))[0][0])


_EVENT_CHANCES: Final = tuple(f"e{k}" for k in range(1, 7))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--data", type=Path, help="data directory, as of `heliograph up`")
    where.add_argument("--clickhouse", default="", help="URL of a ClickHouse server")
    parser.add_argument("--database", default="heliograph")
    parser.add_argument("--events", type=int, default=100_000_000)
    parser.add_argument("--campaigns", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if min(args.events, args.campaigns, args.days) < 1:
        parser.error("--events, --campaigns and --days are 1 at least")
    if args.data:
        data_dir.prepare(args.data)
        client = open_embedded(store_path(args.data))
    else:
        settings = ConsumerSettings(clickhouse=args.clickhouse, database=args.database)
        client = connect(msgspec.structs.replace(settings, clickhouse_timeout=600.0))
    plan = Plan(args.events, args.campaigns, args.days, args.seed)
    try:
        Generator(client, args.database, plan, lambda text: print(text, flush=True)).run()
    except RuntimeError as error:
        parser.error(str(error))
    finally:
        client.close()


if __name__ == "__main__":
    main()
