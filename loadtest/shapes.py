"""When mails are opened and when requests are due: pure functions of a random.Random and a time.

A reader opens a mail after a log-normal delay, counted in *readers' hours*: these pass faster by
day than by night (the daily wave), but 24 of them take a day. So whole days are exact quantiles of
the log-normal whenever a mail is sent, and a mail sent in the evening is opened next morning.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import NormalDist

MEDIAN_HOURS = 5.5
SIGMA = 1.9
#: The busiest hour of the day, and how far above the mean of the day it is.
PEAK_HOUR = 14.0
WAVE = 0.6
_NORMAL = NormalDist()
_DAY = 2 * math.pi / 24

Arrivals = Callable[[random.Random, int], list[float]]


def share_by(hours: float) -> float:
    """The share of all opens that come within some hours of the sending."""
    return _NORMAL.cdf(math.log(hours / MEDIAN_HOURS) / SIGMA) if hours > 0 else 0.0


def delay(chance: random.Random, within: float = math.inf) -> float:
    """Hours from the sending to an open, of those that come `within` some hours."""
    share = chance.random() * (share_by(within) if within < math.inf else 1.0)
    return MEDIAN_HOURS * math.exp(SIGMA * _NORMAL.inv_cdf(min(max(share, 1e-12), 1 - 1e-12)))


def readers_hours(hour: float) -> float:
    """Readers' hours that have passed at an hour of the clock (midnight is 0, 24, 48 …)."""
    return hour + WAVE / _DAY * math.sin((hour - PEAK_HOUR) * _DAY)


def clock(readers: float) -> float:
    """The inverse of `readers_hours`: Kepler's equation, by Newton's method."""
    hour = readers
    for _ in range(12):
        step = (readers_hours(hour) - readers) / (1 + WAVE * math.cos((hour - PEAK_HOUR) * _DAY))
        hour -= step
        if abs(step) < 1e-9:
            break
    return hour


def after_sending(hours: float, sent: float) -> Arrivals:
    """Opens of a mail in the first `hours` after it was sent at an hour of the day."""
    begin = readers_hours(sent)
    end = readers_hours(sent + hours) - begin

    def arrivals(chance: random.Random, count: int) -> list[float]:
        return sorted((clock(begin + delay(chance, end)) - sent) / hours for _ in range(count))

    return arrivals


def any_day(chance: random.Random, count: int) -> list[float]:
    """Opens of many mails, sent at all hours for weeks: a whole day, which shows only the wave."""
    midnight = readers_hours(0)
    return sorted(clock(midnight + 24 * chance.random()) / 24 for _ in range(count))


def evenly(chance: random.Random, count: int) -> list[float]:
    """Requests at any time, independent of each other."""
    return sorted(chance.random() for _ in range(count))


def deliveries(batches: int) -> Arrivals:
    """Prefetching proxies: each batch that is delivered is fetched within moments."""

    def arrivals(chance: random.Random, count: int) -> list[float]:
        found = []
        for _ in range(count):
            late = chance.expovariate(4 * batches)  # a fourth of the time between two batches
            found.append((chance.randrange(batches) / batches + late) % 1.0)
        return sorted(found)

    return arrivals


def age_shares(ages: Sequence[float]) -> list[float]:
    """Of the opens on one day, the share of mails sent so many hours ago (ascending): each age
    stands for those up to halfway to the next."""
    between = [math.sqrt(a * b) for a, b in pairwise(ages)]
    shares = [share_by(edge) for edge in (*between, math.inf)]
    return [high - low for low, high in pairwise((0.0, *shares))]


class Plan:
    """Which request is due when. The seconds are of any clock; 0 is the start of the run."""

    def __init__(self, arrivals: Sequence[float], seconds: float, grace: float = 1.0) -> None:
        """`arrivals` are ascending shares of `seconds`; what is later than `grace` is dropped."""
        self._due = [share * seconds for share in arrivals]
        self._next = 0
        self._grace = grace
        self.planned = len(self._due)
        self.ends = seconds
        self.stopped = False

    def take(self, now: float) -> float | None:
        """When the next request is due; None when there are no more, or it is too late for it."""
        if self.over(now):
            return None
        self._next += 1
        return self._due[self._next - 1]

    def over(self, now: float) -> bool:
        """Whether nothing more is to be sent."""
        return self._next >= self.planned or now > self.ends + self._grace

    def stop(self, now: float) -> None:
        """Plan nothing after now."""
        if not self.stopped and now < self.ends:
            self.planned = bisect_right(self._due, now)
            self.ends, self._grace = now, 0.0
        self.stopped = True

    def peak(self, window: float = 1.0) -> float:
        """The most requests a second that are due in any window of some seconds."""
        most = max(
            (bisect_right(self._due, at + window) - n for n, at in enumerate(self._due)), default=0
        )
        return most / window
