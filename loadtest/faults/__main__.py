"""`make faults`: break the line in every way that is promised to do no harm, and see.

Exit code: 0 if every experiment passed, 1 if one failed, 2 if it was asked wrongly.
"""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from heliograph.compiled import stale
from loadtest.faults import guard
from loadtest.faults.run import KEPT, Kept, every, experiments, what
from loadtest.faults.site import Site
from loadtest.faults.sizes import Form
from loadtest.faults.trial import Row

_COLUMNS = (
    "", "experiment", "requests/s", "faults", "answered", "lost", "doubled", "phantom",
    "worst p99", "recovered in", "took", "verdict",
)  # fmt: skip


def _cells(row: Row) -> tuple[str, ...]:
    verdict = "FAILED: " + "; ".join(row.failures) if row.failures else "passed"
    recovery = "–" if row.recovery is None else f"{row.recovery:.1f} s"
    return (
        str(row.number), row.what, f"{row.held:,.0f} of {row.wanted:,.0f}", f"{row.faults}",
        f"{row.answered:,} of {row.asked:,}", f"{row.lost}", f"{row.doubled}", f"{row.phantom}",
        f"{row.worst_p99 * 1000:.0f} ms", recovery, f"{row.seconds:.0f} s",
        "; ".join([verdict, *row.notes]),
    )  # fmt: skip


def _table(rows: list[Row]) -> Table:
    table = Table(*_COLUMNS)
    for row in rows:
        table.add_row(*_cells(row))
    return table


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="make faults")
    parser.add_argument("--only", default="", help="numbers of experiments, separated by commas")
    parser.add_argument("--short", action="store_true", help="minutes instead of hours")
    parser.add_argument("--list", action="store_true", help="show what there is")
    options = parser.parse_args()
    console, found = Console(), experiments()
    if options.list:
        for number, module in found.items():
            console.print(f"{number:3} {what(module)}: {(module.__doc__ or '').splitlines()[0]}")
        return 0
    try:
        wanted = {int(number) for number in options.only.split(",") if number}
        unknown = wanted - found.keys()
        if options.only and not wanted:
            parser.error("--only names no experiment")
    except ValueError as error:
        parser.error(str(error))
    if unknown:
        parser.error(f"there is no experiment {min(unknown)}")
    if older := stale():
        parser.error(f"compiled before these changed, `make install`: {older}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing is left behind
    guard.watch_over()
    form, began = Form.SHORT if options.short else Form.FULL, time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - began:7.1f} s  {text}", highlight=False, markup=False)

    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="faults-") as home:
        try:
            for row in every(wanted, form, lambda: Site(Path(home)), Kept(KEPT, form), say):
                rows.append(row)
                say(f"experiment {row.number}, {row.what}: {_cells(row)[-1]}")
        except pytest.skip.Exception as reason:
            say(str(reason))
            return 2
        except KeyboardInterrupt:
            say("broken off: `make faults` goes on here")
            return 130
    wide = Console(width=max(console.width, 180))
    wide.print(_table(rows))
    return 1 if any(row.failures for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
