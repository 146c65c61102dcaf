"""What was asked and what was answered, and the comparison with the rows that came of it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from loadtest.scenarios import Request

#: (campaign, recipient, kind)
Key = tuple[str, str, str]


class Tally:
    """The requests of one process. A request counts as open until it is answered, so one that is
    cut off, in whatever way, stays so: nobody knows whether it is a row."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()  # rightly, by "mail kind"
        self.unknown: Counter[str] = Counter()  # asked, and not (yet) answered rightly
        self.wrong: Counter[str] = Counter()  # reasons
        self.unanswered: Counter[str] = Counter()  # reasons
        self.late: Counter[int] = Counter()  # milliseconds behind the plan, as powers of two

    def ask(self, request: Request, late: float) -> str:
        """A request is about to leave, some seconds late; what to call it in `answer`."""
        key = f"{request.mail} {request.kind}" if request.mail >= 0 else ""
        self.unknown[key] += 1
        self.late[int(max(late, 0) * 1000).bit_length()] += 1
        return key

    def answer(self, key: str, wrong: str = "") -> None:
        """It was answered; `wrong` says what is wrong with it, and then it need not be a row."""
        if wrong:
            self.wrong[wrong] += 1
        else:
            self.unknown[key] -= 1
            self.answered[key] += 1

    def fail(self, reason: str) -> None:
        """It was not answered, and will not be."""
        self.unanswered[reason] += 1

    def dump(self) -> dict[str, Any]:
        """As a message of locust; see `merge`."""
        return {name: list((+counter).items()) for name, counter in vars(self).items()}

    def merge(self, told: Mapping[str, Iterable[Iterable[Any]]]) -> None:
        """Add what another process dumped."""
        for name, items in told.items():
            getattr(self, name).update(dict(items))

    def lateness(self, share: float) -> float:
        """Seconds that this share of the requests was late at most (a power of two, in ms)."""
        seen, total = 0, sum(self.late.values())
        for bits in sorted(self.late):
            seen += self.late[bits]
            if seen >= share * total:
                return ((1 << bits) - 1) / 1000
        return 0.0


class Stored(NamedTuple):
    """Rows of a key, and how many of them are different events."""

    rows: int
    events: int


class Difference(NamedTuple):
    """Sums over all keys, and an example in words for each that is not 0."""

    rows: int
    lost: int  # answered, and no row
    doubled: int  # one event in several rows
    extra: int  # more rows than requests
    unknown: int  # rows of requests that were not answered
    examples: dict[str, str]


def compare(
    answered: Mapping[Key, int], unknown: Mapping[Key, int], stored: Mapping[Key, Stored]
) -> Difference:
    """Hold the rows against the answers: each answered request is a row, once; one without an
    answer may be; nothing else is."""
    sums: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for key in answered.keys() | stored.keys():
        asked, open_ = answered.get(key, 0), unknown.get(key, 0)
        rows, events = stored.get(key, Stored(0, 0))
        found = {
            "lost": max(asked - events, 0),
            "doubled": rows - events,
            "extra": max(events - asked - open_, 0),
        }
        sums["rows"] += rows
        sums["unknown"] += min(max(events - asked, 0), open_)
        for name, count in found.items():
            sums[name] += count
            if count and name not in examples:
                campaign, recipient, kind = key
                examples[name] = (
                    f"{kind} of {recipient} in {campaign}: {asked} answered, {open_} without an "
                    f"answer, {rows} rows of {events} events"
                )
    return Difference(
        sums["rows"], sums["lost"], sums["doubled"], sums["extra"], sums["unknown"], examples
    )
