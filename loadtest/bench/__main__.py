"""`make bench`: all figures of the README side by side, and the machine they were measured on.

`python -m loadtest.bench [edge] [line] [store] [verdicts]` prints one table; the exit code is 1
where a bar is missed or a section fails. Progress goes to stderr.
"""

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console

from heliograph.compiled import stale
from loadtest.bench import table
from loadtest.bench.figures import Figure, left_out
from loadtest.bench.servers import LeftOut

SECTIONS: Final = ("edge", "line", "store", "verdicts")


def run(section: str, home: Path, quick: bool) -> Iterator[Figure]:
    """The figures of a section; where it breaks off, a row says why."""
    began = time.monotonic()
    try:
        module = importlib.import_module(f"loadtest.bench.{section}")
        for figure in module.figures(home, quick):
            _tell(f"{time.monotonic() - began:7.1f} s  {figure.what}: {figure.measured}")
            yield figure
    except (LeftOut, pytest.skip.Exception) as reason:
        yield left_out(section, str(reason))
    except pytest.fail.Exception as reason:  # left out where nothing may be
        yield Figure(section, f"failed: {reason}", met=False)
    except Exception as error:  # another section may well be fine
        yield Figure(section, f"failed: {type(error).__name__}: {error}", met=False)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def measure(sections: Sequence[str], scratch: Path | None, quick: bool) -> list[table.Section]:
    """The figures of some sections, each in a folder of its own that is gone afterwards."""
    found = []
    for section in sections:
        _tell(f"{section} …")
        with tempfile.TemporaryDirectory(prefix=f"bench-{section}-", dir=scratch) as folder:
            found.append((section, list(run(section, Path(folder), quick))))
    return found


def main(words: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="loadtest.bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--markdown", type=Path, help="write the table here too")
    parser.add_argument("--scratch", type=Path, help="where journals, logs and stores are put")
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures say little")
    args = parser.parse_args(words)
    if unknown := set(args.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}: {', '.join(SECTIONS)}")
    for folder in (args.scratch, args.markdown and args.markdown.parent):
        if folder and not folder.is_dir():
            parser.error(f"no folder {folder}")
    if old := stale():
        parser.error(f"compiled before their sources changed: {', '.join(old)}: run `make bench`")
    machine = table.machine()  # before the load is our own
    found = measure(args.sections or SECTIONS, args.scratch, args.quick)
    Console(width=None if sys.stdout.isatty() else 150).print(table.render(machine, found))
    if args.markdown:
        args.markdown.write_text(table.markdown(machine, found))
    return int(any(figure.failed for _, figures in found for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
