"""What a run comes to: its figures, what is wrong, and the exit code."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtest.tally import Difference

#: Exit codes. What could not be run at all is 2.
OK, WRONG, SLOW = 0, 1, 3
_KEPT = 0.98  # of the rate
_LATE = 1.0  # seconds, for 99 of 100 requests
_BUSY = 0.85  # a process, of a core
_CROWDED = 0.8  # a machine, of its cores


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All that is known at the end. Seconds, and requests a second."""

    run: str
    scenario: str
    rate: float
    seconds: float
    took: float
    interrupted: bool
    planned: int
    answered: int
    wrong: Counter[str]
    unanswered: Counter[str]
    percentiles: Sequence[float]  # p50, p95, p99 of the answers
    late: float  # 99 % of the requests left at most this late
    users: int
    client: float  # the busiest process of the client, as a share of a core
    waiting: float  # the share of its time that a user waited for an answer
    server: float  # the busiest process of the line, likewise; 0 where it is elsewhere
    machine: float  # the share of this machine's cores that was busy
    difference: Difference | None = None
    counted: float = 0.0  # from the last answer to the last row
    faults: Sequence[str] = ()  # found beside: lost workers, audit, others' rows
    notes: Sequence[str] = field(default=())

    @property
    def achieved(self) -> float:
        """Answers a second."""
        return self.answered / self.took if self.took else 0.0

    @property
    def target(self) -> float:
        """What was planned a second, until the run ended."""
        return self.planned / self.took if self.interrupted and self.took else self.rate

    def wrongs(self) -> list[str]:
        """Why it is not correct."""
        found = [f"{n:,} answers were wrong: {why}" for why, n in self.wrong.most_common()]
        found += [
            f"{n:,} requests had no answer: {why}" for why, n in self.unanswered.most_common()
        ]
        if self.difference:
            for name, words in (
                ("lost", "answered, and no row"), ("doubled", "rows repeat an event"),
                ("extra", "rows that nobody asked for"),
            ):  # fmt: skip
                if count := getattr(self.difference, name):
                    found.append(f"{count:,} {words}, e.g. {self.difference.examples[name]}")
        if not self.answered:
            found.append("nothing was answered")
        return [*found, *self.faults]

    def slow(self) -> list[str]:
        """Why the pace was not kept, and what the limit was."""
        found = []
        if self.achieved < _KEPT * self.target:
            found.append(f"{self.achieved:,.0f}/s is less than the {self.target:,.0f}/s planned")
        elif self.late > _LATE:
            found.append(f"the peaks were not kept: one request in 100 left {self.late:.1f} s late")
        return [f"{found[0]}: the limit was {self._limit()}"] if found else []

    def _limit(self) -> str:
        if self.client > _BUSY:
            return (f"the client, a process of which used {self.client:.0%} of a core "
                    "(--processes N, or workers on other machines)")  # fmt: skip
        if self.server > _BUSY:
            return f"the server, a process of which used {self.server:.0%} of a core"
        if self.machine > _CROWDED:
            return f"this machine: its cores were {self.machine:.0%} busy with client and server"
        if self.waiting > _BUSY:
            return f"the server: its answers are what all {self.users} users waited for"
        return f"not found: more than {self.users} users may help (--users N)"

    @property
    def code(self) -> int:
        """The exit code."""
        return WRONG if self.wrongs() else SLOW if self.slow() else OK

    def text(self) -> str:
        """The verdict."""
        p50, p95, p99 = self.percentiles
        wrong, none = self.wrong.total(), self.unanswered.total()
        lines = [
            f"{self.scenario}, run {self.run}"
            + (f", interrupted after {self.took:.0f} of {self.seconds:g} s" * self.interrupted),
            f"  requests   {self.planned:,} planned, {self.answered:,} answered, {wrong:,} wrong, "
            f"{none:,} without an answer",
            f"  rate       {self.achieved:,.0f}/s of {self.target:,.0f}/s; 99 % left within "
            f"{_duration(self.late)} of their time",
            f"  answers    p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms",
        ]
        if found := self.difference:
            lines.append(
                f"  reconcile  {found.rows:,} rows: {found.lost:,} lost, {found.doubled:,} doubled"
                f", {found.extra:,} extra" + f", {found.unknown:,} unseen" * bool(found.unknown)
                + f"; the last was counted {self.counted:.1f} s after its answer" * bool(found.rows)
            )  # fmt: skip
        lines += [f"  note       {note}" for note in self.notes]
        wrongs, slow = self.wrongs(), self.slow()
        lines += [f"  wrong      {why}" for why in wrongs] + [f"  slow       {why}" for why in slow]
        word = {OK: "ok", WRONG: "NOT OK", SLOW: "correct, and TOO SLOW"}[self.code]
        return "\n".join([*lines, f"verdict: {word} (exit code {self.code})"])
