"""The rig of `make faults`: what it goes on with, and that it sees what is wrong."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from loadtest.faults import check, run
from loadtest.faults.client import RECORD
from loadtest.faults.load import Load
from loadtest.faults.run import Kept, every
from loadtest.faults.sizes import Form
from loadtest.faults.trial import Row
from loadtest.processes import ask
from tests.collecting import ROOT, alive, wait_for
from tests.engine import Engine, engine

__all__ = ["engine"]


class Runs:
    """Experiments that only note that they ran; one of them is interrupted the first time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self.ran: list[int] = []
        self.interrupted: set[int] = set()
        self.missing: set[int] = set()
        self.modules = {n: ModuleType(f"loadtest.faults.e{n:02}_it") for n in (1, 2, 3)}
        self._path = path
        monkeypatch.setattr(run, "one", self._one)

    def _one(self, number: int, *_: Any) -> Row:
        if number in self.interrupted:
            raise KeyboardInterrupt
        if number in self.missing:
            pytest.skip("no tool")
        self.ran.append(number)
        return Row(number=number, what="it", lost=number)

    def go(self, *wanted: int, form: Form = Form.FULL) -> list[Row]:
        site = type("Site", (), {"close": lambda self: None})
        kept = Kept(self._path, form)
        return list(every(wanted, form, site, kept, lambda _: None, self.modules))  # type: ignore[arg-type]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runs:
    return Runs(monkeypatch, tmp_path / "cache" / "faults.json")


def test_a_run_that_was_broken_off_goes_on(runs: Runs) -> None:
    runs.interrupted = {3}
    with pytest.raises(KeyboardInterrupt):
        runs.go()
    runs.interrupted = set()
    assert [row.number for row in runs.go(2)] == [2]  # asked for, so run anew
    assert [row.lost for row in runs.go()] == [1, 2, 3]
    assert runs.ran == [1, 2, 2, 3]
    runs.go()  # the last run came to its end
    assert runs.ran == [1, 2, 2, 3, 1, 2, 3]


def test_another_commit_or_form_begins_anew(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.interrupted = {2}
    with pytest.raises(KeyboardInterrupt):
        runs.go()
    with pytest.raises(KeyboardInterrupt):
        runs.go(form=Form.SHORT)
    with pytest.raises(KeyboardInterrupt):
        runs.go()  # a short run takes nothing from the long one
    monkeypatch.setattr(run, "_commit", lambda: "another")
    with pytest.raises(KeyboardInterrupt):
        runs.go(form=Form.SHORT)
    assert runs.ran == [1, 1, 1]


def test_what_cannot_run_here_is_told_and_the_others_run(runs: Runs) -> None:
    """And is tried again, for it may be possible then."""
    runs.missing = {2}
    rows = runs.go()
    assert [row.failures for row in rows] == [[], ["left out: no tool"], []]
    assert runs.ran == [1, 3]


class Logged(Load):
    """The log of a client that was answered these requests."""

    def __init__(self, home: Path, *numbers: int, sent: int) -> None:
        self.first, self.told, self.log = 0, {"sent": float(sent)}, home / "log"
        self.log.write_bytes(b"".join(RECORD.pack(n, 0.0, 0.0) for n in numbers))


def test_the_table_is_held_against_the_answers(engine: Engine, tmp_path: Path) -> None:
    ask(engine.url, "CREATE DATABASE d")
    columns = "journal String, seq UInt64, kind String, campaign String, recipient String"
    ask(
        engine.url,
        f"CREATE TABLE d.events ({columns}, user_agent String) ENGINE = MergeTree ORDER BY seq",
    )

    def insert(seq: int, number: object, recipient: int) -> None:
        agent = f"Mozilla/5.0 (faults) {number}"
        row = f"('j', {seq}, 'open', 'c', 'r{recipient}', '{agent}')"
        ask(engine.url, f"INSERT INTO d.events VALUES {row}")

    log = Logged(tmp_path, 0, 1, 2, 5, 12, sent=20)
    for seq, number in enumerate((0, 1, 5, 12)):
        insert(seq, number, number % 10)
    insert(10, 1, 1)  # a second event of one request
    insert(11, 17, 7)  # sent, not answered
    insert(12, 20, 0)  # never sent
    insert(13, 5, 6)  # another one's token
    insert(13, "x", 0)  # no request of ours, under an identity that is taken
    ask(engine.url, "INSERT INTO d.events VALUES ('j', 14, 'open', 'e', 'r0', ''), "
                    "('j', 15, 'sent', 'c', 'r0', '')")  # fmt: skip
    assert check.others(engine.url, "d", "c") == 2
    found = check.compare(engine.url, "d", [log], 10, "c")
    assert (found.answered, found.lost, found.doubled) == (5, 1, 1)
    assert (found.phantom, found.unanswered) == (3, 1)
    assert check.repeated(engine.url, "d") == 1


def test_what_it_has_started_ends_with_it() -> None:
    """However it ends."""
    code = (
        "import subprocess, time; from loadtest.faults import guard; guard.watch_over(); "
        "started = subprocess.Popen(['sleep', '60'], start_new_session=True); "
        "print(started.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        started = int(parent.stdout.readline())
        assert alive(started)
        parent.kill()
    wait_for(lambda: not alive(started), 50)
