"""What the listener's own sockets save: `python -m loadtest.bench.transports`.

The same worker with uvloop's transports, and with aiofastnet's if that is installed (`pip install
aiofastnet`; it is no part of the lock), driven as in (a) and (b) of `edge`, in turns.
"""

import argparse
import importlib.util
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final

import pytest
from rich.console import Console
from rich.table import Table

from loadtest.bench import drive, servers
from loadtest.bench.servers import Server
from loadtest.bench.workload import Workload

_SITE: Final = Path(__file__).with_name("transports_site")
_OURS: Final = "the listener's sockets"
_KINDS: Final = ("uvloop", "aiofastnet")
_ROUNDS: Final = 5
_SECONDS: Final = 3.0


def _with(kind: str, home: Path, work: Workload, stack: ExitStack) -> Server:
    """A worker with transports of a kind."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(_SITE))
        environment.setenv("TRANSPORTS", kind)
        started = stack.enter_context(servers.heliograph(home, work.keys))
    return started._replace(name=f"{kind}'s transports")


def main() -> None:
    """Entry point."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    table = Table("us of CPU a request, medians of 5", "keep-alive", "a new connection each")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder)
        stack.enter_context(servers.core(servers.CLIENT_CORE))
        work = Workload.make(home, 500_000, 150_000)
        ours = stack.enter_context(servers.heliograph(home / "ours", work.keys))
        running = [ours._replace(name=_OURS)]
        for kind in _KINDS:
            if importlib.util.find_spec(kind):
                running.append(_with(kind, home / kind, work, stack))
            else:
                print(f"{kind} is left out: it is not installed")
        files = work.keep_alive, work.closing
        turns: dict[tuple[str, Path], list[float]] = {}
        for _ in range(_ROUNDS):
            for file in files:
                for server in running:
                    turn = drive.wrk(server, file, 32, _SECONDS)
                    turns.setdefault((server.name, file), []).append(turn.cpu)
    for server in running:
        table.add_row(server.name, *(f"{median(turns[server.name, f]):.1f}" for f in files))
    Console().print(table)


if __name__ == "__main__":
    main()
