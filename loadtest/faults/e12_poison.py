"""One record in a hundred is poison: garbage, a line of 2 MiB, bad UTF-8, fields that nobody knows,
numbers out of range.

All of it is in the dead letter, with a reason, and what stands around it is counted as fast as if
it were not there.
"""

import asyncio
import contextlib
from typing import Final

from loadtest.faults.line import PARTITIONS, Line
from loadtest.faults.trial import Trial
from loadtest.processes import ask, until
from schemas import event
from tests.faults.load import Producer, body, new_journal

_EVENTS: Final = 100  # in a record
_JOURNALS: Final = 4


def poison(number: int) -> bytes:
    """Some line that is no event."""
    good = event.block(new_journal(), 1, [body(number)])
    return (
        b"garbage %d\n" % number,
        good[:-2] + b',"user_agent":"' + b"x" * (2 << 20) + b'"}\n',
        good.replace(b'"open"', b'"op\xff\xfe"'),
        good[:-2] + b',"nobody_knows":1}\n',
        good.replace(b'"seq":', b'"seq":99999999999999999999'),
    )[number % 5]


def run(trial: Trial) -> None:
    """As many records twice: without, and with poison among them."""
    line = trial.line(workers=1)
    line.load()
    records = trial.size("12 records")
    clean, _ = _timed(trial, line, records, every=0)
    dirty, poisoned = _timed(trial, line, records, every=100)
    for _ in range(poisoned):
        trial.fault(True)
    sql = "SELECT count(), countIf(reason = '') FROM {}.dead_letter FINAL"
    with contextlib.suppress(TimeoutError):
        until(lambda: _ask(line, sql)[0] >= poisoned, 90)
    told = _ask(line, sql)
    trial.hold(told == [poisoned, 0], f"{told} dead letters and without a reason, of {poisoned}")
    share = clean / dirty
    trial.hold(share >= 0.9 / trial.patience, f"{share:.0%} as fast")
    trial.row.notes.append(f"{records * _EVENTS / dirty:,.0f} events/s, {share:.0%} of without")
    trial.settle(line)


def _ask(line: Line, sql: str) -> list[int]:
    said = ask(line.site.engine.url, sql.format(line.database) + f" WHERE topic = '{line.topic}'")
    return [int(word) for word in said.split()]


def _timed(trial: Trial, line: Line, records: int, every: int) -> tuple[float, int]:
    """How long the consumer takes from the first event to the last, and how many records were
    poison.
    """
    line.consumer.stop()
    expected, poisoned = asyncio.run(_produce(line, records, every))
    line.consumer.start(wait=False)
    names = ", ".join(f"'{name}'" for name in expected)
    sql = f"SELECT count() FROM {line.database}.events WHERE journal IN ({names})"
    total, url = sum(expected.values()), line.site.engine.url
    line.others += total
    until(lambda: int(ask(url, sql)) > 0, 60)
    took = until(lambda: int(ask(url, sql)) >= total, 240)
    return max(took, 1.0), poisoned  # less is no measure


async def _produce(line: Line, records: int, every: int) -> tuple[dict[str, int], int]:
    names, poisoned = [new_journal() for _ in range(_JOURNALS)], 0
    async with Producer(line.site.broker.bootstrap, line.topic) as producer:
        for number in range(records):
            if every and number % every == every // 2:
                await producer.raw(poison(poisoned), b"poison", partition=poisoned % PARTITIONS)
                poisoned += 1
            await producer.send(names[number % _JOURNALS], _EVENTS)
        return producer.expected, poisoned
