"""Whatever is killed, every answered open is counted, once."""

import asyncio
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.line import Lines, Up, ask, rows, run, wait_for
from tests.e2e.readers import Readers
from tests.ports import free_port

pytestmark = pytest.mark.kill

ROUNDS = 4
#: Short batches, so that a kill often hits the consumer between its steps.
BUSY = ("--workers", 2, "--batch-seconds", 0.05)


def minted(data: Path, home: Path, count: int = 50, *words: object) -> list[str]:
    """Pixel URLs of `count` recorded sends."""
    listed = home / "recipients.csv"
    listed.write_text("recipient\n" + "".join(f"r{n}\n" for n in range(count)))
    out = home / "minted.csv"
    ask("mint", "--campaign", "load", listed, "-o", out, *(words or ("--data", data)))
    return [line.split(",")[1] for line in out.read_text().splitlines()[1:]]


def stored(*where: object) -> dict[str, int]:
    """How often each nonce is in the store."""
    found = rows("sql", "SELECT user_agent, count() AS n FROM events WHERE kind = 'open' "
                 "AND campaign = 'load' GROUP BY user_agent", *where)  # fmt: skip
    return {row["user_agent"]: int(row["n"]) for row in found}


async def test_all_processes_at_once(lines: Lines, tmp_path: Path) -> None:
    data, port, chance = tmp_path / "data", free_port(), random.Random(3)
    up: Up = await asyncio.to_thread(lines.up, *BUSY, port=port)
    readers = Readers(port, await asyncio.to_thread(minted, data, tmp_path))
    starts = []
    async with readers.reading():
        for _ in range(ROUNDS):
            before = len(readers.answered)
            await asyncio.sleep(chance.uniform(0.2, 1.5))
            await asyncio.to_thread(wait_for, lambda n=before: len(readers.answered) > n + 100)
            assert await asyncio.to_thread(up.kill9) == 4
            up = await asyncio.to_thread(lines.up, *BUSY, port=port)
            starts.append(up.took)
        await asyncio.sleep(0.5)
    code, drained = await asyncio.to_thread(up.stop)
    print(f"{len(readers.answered)} of {len(readers.sent)} answered; "
          f"up again in {max(starts):.1f} s at most, drained in {drained:.1f} s")  # fmt: skip
    assert code == 0
    readers.check(stored("--data", data))
    (load,) = rows("report", "campaigns", "--data", data, "--campaign", "load")
    assert (load["sends"], load["delivered"], load["apparent_rate"]) == (50, 50, 1)
    assert load["hits"] == len(stored("--data", data))
    audit = run("audit", "--data", data)
    assert audit.returncode == 0, audit.stdout + audit.stderr


async def test_each_kind_of_child(lines: Lines, tmp_path: Path) -> None:
    """A worker or the consumer alone: the supervisor starts it anew, and the line goes on."""
    data, chance = tmp_path / "data", random.Random(4)
    up: Up = await asyncio.to_thread(lines.up, *BUSY)
    readers = Readers(up.port, await asyncio.to_thread(minted, data, tmp_path))
    async with readers.reading():
        for victim in ("collector.worker", "consumer.embedded") * 3:
            await asyncio.sleep(chance.uniform(0.3, 1.0))
            pid = chance.choice(await asyncio.to_thread(up.pids, victim) or [0])
            if pid:
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(1.0)
    await asyncio.to_thread(wait_for, lambda: readers.answered <= stored("--data", data).keys())
    assert up.process.poll() is None
    readers.check(stored("--data", data))
    assert run("audit", "--data", data).returncode == 0
    assert (await asyncio.to_thread(up.stop))[0] == 0
    readers.check(stored("--data", data))


async def test_the_supervisor_alone(lines: Lines, tmp_path: Path) -> None:
    """Its children see that it is gone, finish and go; meanwhile `up` is started again."""
    data, port = tmp_path / "data", free_port()
    up: Up = await asyncio.to_thread(lines.up, port=port)
    readers = Readers(port, await asyncio.to_thread(minted, data, tmp_path))
    async with readers.reading():
        for _ in range(2):
            await asyncio.sleep(0.7)
            children = [pid for pid in up.pids() if pid != up.process.pid]
            assert len(children) == 2
            os.kill(up.process.pid, signal.SIGKILL)
            up.process.wait(60)
            began, last = time.monotonic(), up
            up = await asyncio.to_thread(lines.up, port=port)
            print(f"up again {time.monotonic() - began:.1f} s after the supervisor was killed")
            await asyncio.to_thread(wait_for, lambda last=last: last.pids() == [])
        await asyncio.sleep(0.5)
    assert (await asyncio.to_thread(up.stop))[0] == 0
    readers.check(stored("--data", data))
    assert run("audit", "--data", data).returncode == 0
    assert hits_are_consistent("--data", data)


def hits_are_consistent(*where: object) -> bool:
    """What the count projection says is what the rows say."""
    (found,) = rows("sql", "SELECT (SELECT hits FROM campaigns WHERE campaign = 'load') AS hits, "
                    "(SELECT count() FROM events WHERE kind = 'open' AND campaign = 'load') AS n",
                    *where)  # fmt: skip
    return bool(found["hits"] == found["n"])
