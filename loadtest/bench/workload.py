"""Files of ready requests, no two alike: each has a client address and a valid token of its own.

A file is a run of requests, each after its length in two bytes, big-endian. The tokens are of 20
campaigns with a skew, one recipient each.
"""

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final

from loadtest.traffic import Agents, request
from schemas import keyring
from schemas.keyring import Keyring
from schemas.token import Sealed

_CAMPAIGNS: Final = [f"newsletter-{n}" for n in range(20)]
_SKEW: Final = list(accumulate(1 / (n + 1) for n in range(20)))
_HOST: Final = "px.example.org"


@dataclass(frozen=True)
class Workload:
    """The request files of a run, and the key file that opens their tokens."""

    keys: Path
    keep_alive: Path
    closing: Path
    unique_agents: Path

    @classmethod
    def make(cls, home: Path, keep_alive: int, closing: int) -> "Workload":
        """Write as many requests of either kind, and a new key file."""
        keys = home / "keys.json"
        keyring.write(keys, keyring.create(os.urandom, int(time.time())), replace=False)
        ring = keyring.load(keys)
        made = cls(keys, home / "alive", home / "closing", home / "unique")
        _write(made.keep_alive, requests(ring, keep_alive, seed=1))
        _write(made.closing, requests(ring, closing, seed=2, close=True))
        _write(made.unique_agents, requests(ring, keep_alive // 3, seed=3, unique_agent=True))
        return made


def paths(ring: Keyring, count: int, chance: random.Random) -> Iterator[str]:
    """Paths of pixels, each minted for another recipient."""
    now = int(time.time())
    for _ in range(count):
        (campaign,) = chance.choices(_CAMPAIGNS, cum_weights=_SKEW)
        recipient = f"reader-{chance.getrandbits(64):016x}"
        sealed = Sealed(campaign, "", recipient, now - chance.randrange(60, 86_400 * 5))
        yield f"/o/{ring.seal('open', sealed)}.gif"


def requests(ring: Keyring, count: int, seed: int, **kind: bool) -> Iterator[bytes]:
    """Raw requests; `kind` is handed to `traffic.request`."""
    chance, agents = random.Random(seed), Agents()
    for path in paths(ring, count, chance):
        yield request(path, _HOST, agents, chance, **kind)


def _write(path: Path, items: Iterator[bytes]) -> None:
    with path.open("wb") as file:
        for item in items:
            file.write(len(item).to_bytes(2, "big") + item)


def read(path: Path, limit: int) -> list[bytes]:
    """The first requests of a file."""
    found: list[bytes] = []
    with path.open("rb") as file:
        while len(found) < limit and (head := file.read(2)):
            found.append(file.read(int.from_bytes(head, "big")))
    return found
