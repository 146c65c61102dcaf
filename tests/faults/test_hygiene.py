"""Hygiene mode with Kafka, whose consumers are killed: the dates are right, and no more is kept."""

import asyncio
import random
import time
from datetime import UTC, date, datetime
from typing import Any

import pytest

from consumer.audit import audit
from schemas import event
from schemas.kafka import COUNT, FIRST_SEQ
from tests.engine import clickhouse_url, client, engine
from tests.faults.load import Producer, make_topic, new_journal, until
from tests.faults.test_remote import Consume, consume, database, producer, topic
from tests.kafka_broker import Broker
from tests.store import HUMAN

__all__ = ["clickhouse_url", "consume", "database", "engine", "producer", "topic"]
pytestmark = [pytest.mark.kafka, pytest.mark.kill]
SCANNER = "curl/8.5.0"
DAY = 86_400
NEVER = date(1970, 1, 1)


def day(at: float) -> date:
    return datetime.fromtimestamp(at, UTC).date()


async def fill(producer: Producer, rng: random.Random, now: float) -> tuple[int, dict[str, date]]:
    """Opens of 60 days and of many recipients, in blocks; how many of them are younger than a day,
    and each recipient's date.
    """
    dates: dict[str, date] = {}
    young = 0
    for _ in range(40):
        journal, bodies = new_journal(), []
        for _ in range(50):
            # Far enough from the border that no pause of the test takes one over it.
            at = now - rng.choice([rng.uniform(0, 0.8), rng.uniform(1.1, 60)]) * DAY
            who, human = f"r{rng.randrange(300)}", rng.random() < 0.5
            bodies.append(event.event(
                int(at * 1000), "open", campaign=f"c{rng.randrange(5)}", send="s", recipient=who,
                key_id="abcdef", method="GET", user_agent=HUMAN if human else SCANNER,
            ))  # fmt: skip
            young += at > now - DAY
            dates[who] = max(dates.get(who, NEVER), day(at) if human else NEVER)
        headers = [(FIRST_SEQ, b"1"), (COUNT, b"%d" % len(bodies))]
        await producer.raw(event.block(journal, 1, bodies), journal.encode(), headers)
    return young, dates


async def test_the_dates_are_right_whenever_a_consumer_is_killed(
    kafka_broker: Broker, topic: str, database: tuple[str, str], producer: Producer,
    consume: Consume,
) -> None:  # fmt: skip
    """Each that follows is of another group, so it takes all again, and need not wait for Kafka to
    miss the one before.
    """
    await make_topic(kafka_broker.bootstrap, topic, 2)
    rng, (url, name) = random.Random(17), database
    young, dates = await fill(producer, rng, time.time())
    total = "heliograph_consumer_events_total"
    in_the_middle = 0
    for turn in range(3):
        killed = consume(hygiene=True, batch_rows=100, batch_seconds=0.05, group=f"{topic}-{turn}")
        killed.start()
        await until(lambda killed=killed: killed.metric(total) > 0)
        if turn:  # the first is killed at once
            await asyncio.sleep(rng.uniform(0, 0.5))
        in_the_middle += killed.metric(total) < 2000
        killed.kill9()
    assert in_the_middle
    last = consume(hygiene=True)
    last.start()
    await until(lambda: last.metric(total) >= 2000)
    assert await asyncio.to_thread(last.terminate) == 0

    def told(sql: str) -> Any:
        return client(url).query(sql.format(f"{name}.")).result_rows

    assert dict(told("SELECT recipient, max(day) FROM {}last_opens GROUP BY 1")) == dates
    assert told("SELECT count(), uniqExact(journal, seq) FROM {}events") == [(young, young)]
    assert told("SELECT count() FROM {}events WHERE ts < now() - INTERVAL 1 DAY") == [(0,)]
    assert told("SELECT count() FROM {}dead_letter") == [(0,)]
    assert all(each.sound for each in audit(client(url), name, retention_days=1))
    left = "SELECT count() FROM system.tables WHERE database = '{}' AND name LIKE 'stage%'"
    assert client(url).query(left.format(name)).result_rows == [(0,)]
