"""Where the edge's time goes: `python -m loadtest.bench.profile`.

A sampled worker is driven as in (a) of `edge`: one that is not compiled, whose lines can be seen.
Each line that took more than its share is shown
with the microseconds of CPU that it (and what it calls in C) took of a request. System time is
in them: it is what `write` and the loop's reads cost.
"""

import argparse
import json
import linecache
import os
import signal
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from loadtest.bench import drive, servers
from loadtest.bench.drive import Turn
from loadtest.bench.workload import Workload

_SAMPLER: Final = Path(__file__).with_name("sampler")
_SHOWN: Final = 0.005  # of all


def sample(home: Path, seconds: float, kind: str) -> tuple[Turn, Counter[str]]:
    """A turn of a sampled worker, and how often it was seen where."""
    work = Workload.make(home, int(100_000 * seconds), int(25_000 * seconds))
    samples = home / "samples"
    os.environ |= {"PYTHONPATH": str(_SAMPLER), "HELIOGRAPH_SAMPLES": str(samples)}
    with (
        servers.core(servers.CLIENT_CORE),
        servers.heliograph(home / "edge", work.keys, compiled=False) as server,
    ):
        os.kill(server.pid, signal.SIGUSR1)
        turn = drive.wrk(server, getattr(work, kind), 32, seconds)
    return turn, Counter(json.loads(samples.read_text()))


def _places(seen: Counter[str]) -> Counter[tuple[str, str]]:
    """Samples by place and code; the loop's own work apart."""
    places: Counter[tuple[str, str]] = Counter()
    for key, count in seen.items():
        file, name, line, loop = key.split("\0")
        code = linecache.getline(file, int(line)).strip()
        path = Path(file)
        _, ours, below = file.partition("/edge/sources/")
        where = below if ours else path.name
        if loop:
            code = "before it the loop: polls, reads, runs callbacks"
        places[f"{where} {name}", code] += count
    return places


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument(
        "--traffic", choices=("keep_alive", "closing", "unique_agents"), default="keep_alive"
    )
    args = parser.parse_args()
    if not args.seconds >= 1:
        parser.error("--seconds is less than 1")
    with tempfile.TemporaryDirectory() as folder:
        turn, seen = sample(Path(folder), args.seconds, args.traffic)
        places = _places(seen)
    total = places.total()
    title = f"{turn.cpu:.1f} us of CPU a request, sampled and not compiled, {turn.rate:,.0f} /s"
    table = Table("us", "where", "what", title=title)
    for (where, code), count in places.most_common():
        if count / total >= _SHOWN:
            table.add_row(f"{turn.cpu * count / total:.2f}", where, code.replace("[", "\\["))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
