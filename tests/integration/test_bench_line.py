"""The line's section of `make bench`: it measures what it says, and so does freshness."""

import asyncio
import math
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

from loadtest import client
from loadtest.bench import line
from loadtest.bench.fresh import delays
from loadtest.bench.steady import begun
from tests.kafka_broker import Broker


class Warm(NamedTuple):
    """The broker of all tests, which is not started anew for each figure."""

    bootstrap: str
    pid: int

    def start(self) -> None:
        return

    kill9 = start


def test_a_quick_run_measures_every_part(
    tmp_path: Path, kafka_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm = Warm(kafka_broker.bootstrap, kafka_broker.pid)
    monkeypatch.setattr(line, "broker_in", lambda _: nullcontext(warm))
    monkeypatch.setattr(line, "_WARMING", 0)
    monkeypatch.setattr(line, "_TURNS", 1)
    monkeypatch.setattr(line, "_QUICK", line.Effort(1, 20_000, 20_000, 100, 100, 1))
    found = {figure.what: figure for figure in line.figures(tmp_path, quick=True)}
    assert not [what for what, figure in found.items() if "left out" in figure.measured]
    rates = [figure for figure in found.values() if "events/s" in figure.measured]
    assert len(rates) == 4
    assert all(float(each.measured.split()[0].replace(",", "")) > 0 for each in rates)
    assert sum("p99" in what for what in found) == 2
    shares = [figure.beside for figure in found.values() if "of the line" in figure.beside]
    assert len(shares) >= 4


def test_a_rate_begins_when_a_commit_is_whole() -> None:
    assert begun(iter((0, 0, 100, 150, 190, 190, 900)).__next__, math.inf) == 190
    assert begun(count(1).__next__, math.inf) < 100, "what never stands still"
    with pytest.raises(TimeoutError):
        begun(lambda: 0, 0.0)


async def test_a_connection_that_is_closed_ends_the_paced_client() -> None:
    async def close(_: asyncio.StreamReader, outgoing: asyncio.StreamWriter) -> None:
        outgoing.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(client.keep_pace("127.0.0.1", port, 2, [b"GET"] * 9, 100), 30)


def test_a_delay_counts_from_the_answer_to_the_first_sight() -> None:
    seen = [(0.0, 7), (1.0, 9), (2.5, 10)]
    assert delays([0.5, 0.2, 0.9], seen) == [0.5, 0.8, 1.6]
