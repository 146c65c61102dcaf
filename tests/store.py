"""The real engine in this process, and batches of made-up events for it."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from consumer.batch import Batch, Block, Partition
from consumer.migrate import migrate
from consumer.retention import Retention
from consumer.settings import ConsumerSettings
from consumer.store import open_embedded
from consumer.verdicts import Verdicts
from consumer.writer import Writer
from schemas import event
from tests.engine import Engine
from tests.engine import client as connect_to
from tests.migrated import migrated

JOURNAL = "01a20c263890da65296bb9b00a84"
OTHER = "01a20c2637daa209640f18545050"
NOW = 1_790_000_000
#: A program that people read mail with.
HUMAN = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
PARTITION: Partition = ("t", 0)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """An empty migrated store."""
    migrated(tmp_path / "store")
    found = open_embedded(tmp_path / "store")
    yield found
    found.close()


@pytest.fixture(scope="session")
def engine_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The engine behind HTTP, in a process of its own."""
    engine = Engine(tmp_path_factory.mktemp("engine"))
    yield engine.url
    engine.stop()


@pytest.fixture(params=["embedded", "http"])
def either_client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """An empty migrated store, once in this process and once behind HTTP."""
    if request.param == "embedded":
        yield request.getfixturevalue("embedded_client")
        return
    found = connect_to(request.getfixturevalue("engine_url"))
    migrate(found, "heliograph")
    for table in ("events", "dead_letter", "taken", "salts"):
        found.command(f"TRUNCATE TABLE heliograph.{table}")
    stages = "SELECT name FROM system.tables WHERE database = 'heliograph' AND name LIKE 'stage%'"
    for (stage,) in found.query(stages).result_rows:
        found.command(f"DROP TABLE heliograph.{stage} SYNC")
    yield found
    found.close()


def body(kind: str = "open", *, ts: int = NOW * 1000, **fields: object) -> bytes:
    """An event without identity; `recipient`, `method` and so on as given."""
    given = {"campaign": "spring", "send": "spring", "recipient": "r1", "key_id": "abcdef"}
    given |= {"method": "GET", "user_agent": HUMAN} if kind in ("open", "click") else {}
    given |= {"sent_at": NOW - 3600}
    return event.event(ts, kind, **{**given, **fields})  # type: ignore[arg-type]


def block(bodies: Sequence[bytes], first_seq: int = 1, journal: str = JOURNAL) -> Block:
    """A block as the shipper makes it."""
    data = event.block(journal, first_seq, bodies)
    return Block("t", 0, first_seq, journal, first_seq, len(bodies), data)


def raw(data: bytes, offset: int = 7) -> Block:
    """A block of a stranger: nothing is said about it."""
    return Block("t", 0, offset, "", 0, 0, data)


def batch(*blocks: Block) -> Batch:
    """A batch of blocks."""
    found = Batch(1_000_000, 1 << 28, 1.0)
    for one in blocks:
        found.add(one, 0.0)
    return found


def writer(
    client: Client,
    partition: Partition = PARTITION,
    *,
    clock: Callable[[], float] = lambda: float(NOW),
    **options: object,
) -> Writer:
    """A writer that has taken its partition over."""
    verdicts = Verdicts("heliograph")
    verdicts.install(client)
    made = Writer(
        client,
        "heliograph",
        partition,
        verdicts,
        random=os.urandom,
        clock=clock,
        **options,  # type: ignore[arg-type]
    )
    made.stage.fence()
    return made


def kept(days: int) -> Retention:
    """All events for so many days."""
    return Retention.of(ConsumerSettings(retention_days=days))


def identities(client: Client) -> list[tuple[str, int]]:
    """All (journal, seq) of the store, sorted, repetitions included."""
    found = client.query("SELECT journal, seq FROM heliograph.events ORDER BY journal, seq")
    return [(journal, seq) for journal, seq in found.result_rows]
