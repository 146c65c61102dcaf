"""Full journals, as the workers leave them when Kafka or the store was away for a while."""

import os
import random
import time
from pathlib import Path
from typing import Final

from collector.journal import Journal
from loadtest.traffic import Agents
from schemas import event
from schemas.journal.directory import journal_id, journals, read_position, write_position

_CAMPAIGNS: Final = 200
_BODIES: Final = 400_000  # different events; the rest repeats them under seqs of their own
_LARGEST_GROUP: Final = 64


def fill(data: Path, events: int, count: int) -> None:
    """Seal `count` journals of opens under a data directory, in groups of 1 to 64 a commit."""
    chance, agents = random.Random(2), Agents()
    now = int(time.time() * 1000)
    root = data / "journal"
    root.mkdir(parents=True, exist_ok=True)
    made = [Journal(root, journal_id(now, os.urandom(8)), time.time) for _ in range(count)]
    bodies = [_open(now + n, chance, agents) for n in range(min(events, _BODIES))]
    left = events
    while left:
        group = chance.choices(bodies, k=min(chance.randint(1, _LARGEST_GROUP), left))
        chance.choice(made).append(group)
        left -= len(group)
    for journal in made:
        journal.close()


def _open(ts: int, chance: random.Random, agents: Agents) -> bytes:
    headers = agents.draw(chance)
    campaign = f"newsletter-{chance.randrange(_CAMPAIGNS)}"
    return event.event(
        ts - 3_600_000,
        "open",
        campaign=campaign,
        send=campaign,
        recipient=f"reader-{chance.getrandbits(32):08x}@example.org",
        sent_at=ts // 1000 - 7200,
        method="GET",
        address=".".join(str(chance.randrange(1, 255)) for _ in range(4)),
        user_agent=headers["User-Agent"],
        accept_language=headers.get("Accept-Language", ""),
        key_id="0a1b2c",
    )


def rewind(data: Path) -> None:
    """Let all journals be taken again."""
    for journal in journals(data / "journal"):
        write_position(journal, 1)


def taken(data: Path) -> int:
    """How many events of all journals are behind their positions."""
    return sum(read_position(journal) - 1 for journal in journals(data / "journal"))
