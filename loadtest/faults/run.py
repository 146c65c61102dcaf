"""Runs experiments, one after the other, and remembers which are done.

What an unfinished run has shown is kept in a file, by commit and form: the next run goes on behind
it. A run that has come to its end leaves nothing behind.
"""

import hashlib
import importlib
import pkgutil
import shutil
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

import msgspec
import pytest

import loadtest.faults
from loadtest.faults.site import Site
from loadtest.faults.sizes import Form
from loadtest.faults.trial import Row, Trial

ROOT: Final = Path(__file__).parents[2]
KEPT: Final = ROOT / ".cache" / "faults.json"


def experiments() -> dict[int, ModuleType]:
    """All modules `eNN_what.py`, by number."""
    names = (module.name for module in pkgutil.iter_modules(loadtest.faults.__path__))
    found = (name for name in names if name[0] == "e" and name[1:3].isdigit())
    return {int(n[1:3]): importlib.import_module(f"loadtest.faults.{n}") for n in sorted(found)}


def what(module: ModuleType) -> str:
    """An experiment in a few words: its module's name."""
    return module.__name__.rpartition(".")[2].partition("_")[2].replace("_", " ")


def one(number: int, module: ModuleType, site: Site, form: Form, say: Callable[[str], None]) -> Row:
    """Run an experiment; what goes wrong with it is in its row."""
    began, home = time.monotonic(), Path(tempfile.mkdtemp(prefix="faults-"))
    trial = Trial(number, what(module), site, form, home / "trial", say)
    try:
        module.run(trial)
    except Exception as error:
        trial.hold(False, f"{type(error).__name__}: {error}")
        say(traceback.format_exc())
    finally:
        trial.close()
        if trial.row.failures:
            say(f"the logs of experiment {number} are kept in {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
        site.mend()
    trial.hold(trial.row.faults > 0, "no fault happened")
    trial.row.seconds = time.monotonic() - began
    return trial.row


class Kept:
    """The rows of an unfinished run of this commit and form."""

    def __init__(self, path: Path, form: Form) -> None:
        self._path, self._key = path, f"{_commit()} {form.name}"
        try:
            self._all = msgspec.json.decode(path.read_bytes(), type=dict[str, dict[int, Row]])
        except (OSError, msgspec.MsgspecError):
            self._all = {}
        self.rows = self._all.setdefault(self._key, {})

    def add(self, row: Row) -> None:
        """Keep a row."""
        self.rows[row.number] = row
        commit = self._key.partition(" ")[0]
        self._all = {key: rows for key, rows in self._all.items() if key.startswith(commit)}
        self._write()

    def forget(self) -> None:
        """The run has come to its end."""
        self._all.pop(self._key, None)
        self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(self._all))
        draft.rename(self._path)


def _commit() -> str:
    """The commit, and what has been changed since."""
    told = [["git", "rev-parse", "HEAD"], ["git", "diff", "HEAD"]]
    head, changed = (subprocess.run(each, cwd=ROOT, capture_output=True).stdout for each in told)
    return head.decode().strip() + hashlib.sha256(changed).hexdigest()[:8]


def every(
    wanted: Collection[int], form: Form, site: Callable[[], Site], kept: Kept,
    say: Callable[[str], None], modules: dict[int, ModuleType] | None = None,
) -> Iterator[Row]:  # fmt: skip
    """Run the wanted experiments, or take their kept rows; all by default, and then a run that was
    broken off is gone on with.
    """
    modules = experiments() if modules is None else modules
    started: list[Site] = []
    try:
        for number in sorted(set(wanted) & modules.keys() if wanted else modules):
            if not wanted and number in kept.rows:
                say(f"experiment {number} is done: see below")
                yield kept.rows[number]
                continue
            started = started or [site()]
            try:
                row = one(number, modules[number], started[0], form, say)
            except pytest.skip.Exception as reason:
                named = what(modules[number])
                yield Row(number=number, what=named, failures=[f"left out: {reason}"])
                continue
            if not wanted:
                kept.add(row)
            yield row
    finally:
        for each in started:
            each.close()
    if not wanted:
        kept.forget()
