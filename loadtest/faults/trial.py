"""One experiment under way: what it may use, and what it has shown."""

import contextlib
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import msgspec

from loadtest.faults import check
from loadtest.faults.line import TOKENS, Line
from loadtest.faults.site import Site
from loadtest.faults.sizes import SIZES, Form
from tests.e2e.line import run

_DRAIN_SECONDS: Final = 10.0


class Row(msgspec.Struct, kw_only=True):
    """What the table tells of an experiment; times in seconds, the rate in requests a second."""

    number: int
    what: str
    held: float = 0.0
    wanted: float = 0.0
    faults: int = 0
    answered: int = 0
    asked: int = 0
    lost: int = 0
    doubled: int = 0
    phantom: int = 0
    unanswered: int = 0
    worst_p99: float = 0.0
    recovery: float | None = None
    failures: list[str] = []
    notes: list[str] = []
    seconds: float = 0.0


class Closable(Protocol):
    """Something that ends."""

    def close(self) -> None: ...


C = TypeVar("C")


class Trial:
    """Given to an experiment's `run`."""

    def __init__(
        self, number: int, what: str, site: Site, form: Form, home: Path, say: Callable[[str], None]
    ) -> None:
        self.site, self.form, self.home, self.say = site, form, home, say
        self.row = Row(number=number, what=what)
        self.chance = random.Random(number)
        self._stack = contextlib.ExitStack()
        self._counted = 0  # events that the edge says it has lost
        home.mkdir(parents=True)

    def size(self, name: str) -> int:
        """A number of `sizes.SIZES` in the form of this run."""
        return int(SIZES[name][self.form])

    @property
    def patience(self) -> float:
        """What promised times are multiplied with."""
        return SIZES["patience"][self.form]

    def keep(self, what: C) -> C:
        """Have something ended with the trial: by `kill()`, or else `close()`."""
        self._stack.callback(getattr(what, "kill", None) or what.close)  # type: ignore[attr-defined]
        return what

    def line(self, **how: Any) -> Line:
        """A started line: see `Line.start`."""
        quick = self.form is Form.CI
        line = Line(self.home, self.site, self.size("rate"), self.keep, quick=quick)
        return line.start(**how)

    def sleep(self, least: float, most: float) -> None:
        """For a random time."""
        time.sleep(self.chance.uniform(least, most))

    def fault(self, shown: bool, what: str = "the fault") -> None:
        """Count a fault, which has been `shown` to have happened."""
        self.row.faults += shown
        self.hold(shown, f"{what} did not happen")

    def hold(self, condition: bool, otherwise: str) -> None:
        """A promise: where the condition does not hold, the experiment fails for this reason."""
        if not condition and otherwise not in self.row.failures:
            self.row.failures.append(otherwise)

    def recovered(self, seconds: float, at_most: float) -> None:
        """How long it took until all was well again."""
        self.row.recovery = max(self.row.recovery or 0.0, seconds)
        self.hold(
            self.row.recovery <= at_most * self.patience,
            f"recovered after {self.row.recovery:.1f} s, {at_most:g} s promised",
        )

    def same_p99(self, before: float, now: float) -> None:
        """That the edge is as fast as before, or at least not three times as slow."""
        most = 3 * max(before, SIZES["noise"][self.form])
        self.hold(now <= most, f"p99 went from {before * 1000:.1f} to {now * 1000:.1f} ms")

    def settle(
        self,
        line: Line,
        *,
        answered: float = 0.99,
        held: float = 0.9,
        lost: Callable[[], float] | None = None,
    ) -> None:
        """Stop the loads, drain the line, and compare. Of the requests sent, a share must have been
        `answered`; of the load that was wanted, a share must have been `held`. Just so many events
        must be missing as `lost` then says.
        """
        for load in line.loads:
            load.stop()
        self._counted = int(lost()) if lost else 0
        self._stopped(line, answered, held)
        try:
            line.caught_up(120, self._counted)
            line.settled()
        except TimeoutError:
            self.hold(False, "not all that was answered came to the table")
        for service in (*line.edges, line.consumer):
            code, took = service.stop() if service.alive else (service.code, 0.0)
            good = code == 0 and 0 < took <= _DRAIN_SECONDS * self.patience
            self.hold(good, f"{service.name} ended with {code} after {took:.1f} s")
        self._compare(line)

    def _stopped(self, line: Line, answered: float, held: float) -> None:
        row, told = self.row, [load.told for load in line.loads]
        row.wanted = sum(load.rate for load in line.loads)
        row.held = sum(each["sent"] / each["seconds"] for each in told)
        if self.form is not Form.CI:
            self.hold(row.held >= held * row.wanted, f"only {row.held:,.0f} requests/s")
        row.asked = int(sum(each["sent"] + each["full"] for each in told))
        row.worst_p99 = max(load.worst_p99() for load in line.loads)
        got = sum(each["answered"] for each in told)
        share = got / max(row.asked, 1)
        self.hold(share >= answered, f"{share:.3%} answered, {answered:.2%} promised")
        self.hold(not sum(each["wrong"] for each in told), "answers other than the pixel")

    def _compare(self, line: Line) -> None:
        row, url = self.row, line.site.engine.url
        found = check.compare(url, line.database, line.loads, TOKENS, line.campaign)
        row.answered, row.lost, row.doubled, row.phantom, row.unanswered = found
        row.doubled += check.repeated(url, line.database)
        if self.form is not Form.CI:  # whose trials share a database
            others = check.others(url, line.database, line.campaign)
            row.phantom += max(0, others - line.others)
            self.hold(others >= line.others, f"{others} of {line.others} other rows")
        for count, what in (row.doubled, "doubled"), (row.phantom, "phantom"):
            self.hold(not count, f"{count} {what}")
        counted = self._counted
        self.hold(
            row.lost == counted, f"{row.lost} lost" + (f", {counted} counted" * bool(counted))
        )
        for edge in line.edges if self.form is not Form.CI and not counted else ():
            where = ("--clickhouse", url, "--database", line.database, "--data", edge.data)
            audit = run("audit", *where)
            self.hold(audit.returncode == 0, f"audit: {(audit.stdout + audit.stderr)[-300:]}")

    def close(self) -> None:
        """End all that it has started."""
        self._stack.close()
