"""Verdicts: what they cost an insert, and at rest. `python -m loadtest.bench verdicts`.

Batches of hits as people's programs make them (agents of `traffic`, their versions and models
varied, addresses of both families, headers that announce a prefetch) are inserted by the consumer's
writer as it is, and by one that judges nothing, in turn; told is the difference of the process's
CPU time, merges standing still. Then again with as many networks as Apple's list has.
"""

import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

from clickhouse_connect.driver.client import Client

from consumer import networks
from consumer.batch import Batch, Block
from consumer.migrate import migrate
from consumer.store import execute, open_embedded, rows
from consumer.verdicts import Verdicts
from consumer.writer import Writer
from loadtest.bench.figures import Figure, middle
from loadtest.traffic import Agents
from schemas import event
from schemas.ruleset import TOLD, Sql

SECTION: Final = "Verdicts"
_NOW: Final = 1_790_000_000
_NETWORKS: Final = 250_000
#: What differs between people's copies of a program: a version's digits, a phone's model.
_VARIED: Final = re.compile(
    r"(?<=Chrome/)\d+|(?<=Version/)\d+|(?<=rv:)\d+|(?<=SM-)\w+|(?<=OS )\d+_\d"
)
_AT_REST: Final = """
SELECT sum(column_data_compressed_bytes) / max(rows) FROM system.parts_columns
WHERE active AND table = 'events' AND column IN ('class', 'rule', 'ruleset')
"""


class _Silent(Verdicts):
    """Judges nothing."""

    def sql(self, since: str, told: str = TOLD) -> Sql:
        """Nothing, of the types that a verdict has."""
        return Sql({"verdict_told": "1", "verdict_home": "1"}, ("''", "''", "''"))


def figures(home: Path, quick: bool) -> Iterator[Figure]:
    """The section."""
    hits, runs = (2_000, 2) if quick else (100_000, 25)
    client = open_embedded(home / "store")
    migrate(client, "heliograph")
    execute(client, "SYSTEM STOP MERGES heliograph.events")
    batches = [_bodies(random.Random(seed), hits) for seed in range(3)]
    agents = len({re.search(rb'"user_agent":"(.*?)","', body)[1] for body in batches[0]})  # type: ignore[index]
    for listed in (0, _NETWORKS):
        if listed:
            half = range(listed // 2)
            text = "".join(f"{23 + (n >> 16)}.{n >> 8 & 255}.{n & 255}.0/31\n" for n in half)
            text += "".join(f"2a04:4e41:{n >> 16:x}:{n & 65535:x}::/64\n" for n in half)
            found = networks.networks_of(text.encode())
            networks.load(client, "heliograph", "apple-egress", found, time.time())
        costs = _costs(client, batches, runs)
        value, spread = middle(costs, "us", 2)
        what = f"a verdict, {hits:,} hits a batch, {agents:,} agents"
        what += f", {listed:,} networks" if listed else ""
        yield Figure(what, value, spread, "", "<= 1 us", median(costs) <= 1.0)
    execute(client, "SYSTEM START MERGES heliograph.events")
    execute(client, "OPTIMIZE TABLE heliograph.events FINAL")
    size = rows(client, _AT_REST)[0][0]
    yield Figure("a verdict at rest", f"{size:.2f} bytes/hit")
    client.close()


def _costs(client: Client, batches: list[list[bytes]], runs: int) -> list[float]:
    """Microseconds of CPU that a hit's verdict costs, by pairs of inserts."""
    made = []
    for verdicts in (_Silent("heliograph"), Verdicts("heliograph")):
        verdicts.install(client)
        place = "heliograph", ("bench", len(made))
        writer = Writer(client, *place, verdicts, random=random.randbytes, clock=time.time)
        made.append(writer)
    found = []
    for run in range(runs + 1):
        bodies = batches[run % len(batches)]
        silent, judged = [_insert(writer, bodies) for writer in made]
        if run:  # the first loads the dictionaries
            found.append((judged - silent) / len(bodies) * 1e6)
    return found


def _insert(writer: Writer, bodies: list[bytes]) -> float:
    journal = random.randbytes(14).hex()
    batch = Batch(len(bodies), 1 << 28, 1.0)
    data = event.block(journal, 1, bodies)
    batch.add(Block("bench", 0, 1, journal, 1, len(bodies), data), 0.0)
    staged = writer.load(batch)
    began = time.process_time()
    writer.insert(staged)
    return time.process_time() - began


def _bodies(chance: random.Random, count: int) -> list[bytes]:
    agents = Agents()
    found = []
    for n in range(count):
        headers = {name.lower(): value for name, value in agents.draw(chance).items()}
        agent = _VARIED.sub(lambda old: _other(chance, old[0]), headers.get("user-agent", ""))
        found.append(
            event.event(
                _NOW * 1000 + n,
                "click" if chance.random() < 0.1 else "open",
                campaign=f"campaign-{chance.randrange(20)}",
                send="",
                recipient=f"customer-{chance.randrange(10 * count)}",
                key_id="0a1b2c",
                sent_at=_NOW - int(chance.expovariate(1 / 20_000)),
                method="GET",
                address=_address(chance, agent),
                user_agent=agent,
                accept_language=headers.get("accept-language", ""),
                prefetch=event.announced(headers),
            )
        )
    return found


def _other(chance: random.Random, old: str) -> str:
    """A version near the old one, or another model."""
    if old.isdigit():
        return str(max(1, int(old) - int(chance.expovariate(0.3))))
    if "_" in old:
        return f"{chance.randrange(12, 19)}_{chance.randrange(8)}"
    return f"{chance.choice('AGSNF')}{chance.randrange(100, 999)}{chance.choice('BFUN')}"


def _address(chance: random.Random, agent: str) -> str:
    if "ggpht.com" in agent:
        return f"66.249.{chance.randrange(80, 96)}.{chance.randrange(256)}"
    if chance.random() < 0.3:
        a, b, c = (chance.randrange(1, 65536) for _ in range(3))
        return f"2a02:{a:x}:{b:x}::{c:x}"
    return ".".join(str(chance.randrange(1, 224)) for _ in range(4))
