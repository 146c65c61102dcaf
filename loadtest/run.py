"""A run: its campaigns are its own, so that it can tell its rows from all others."""

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any
from urllib.parse import urlsplit

from collector.mint import Minted, SendRequest
from heliograph.errors import Failure
from loadtest.scenarios import SCENARIOS, Mail, Request, Scenario, draw
from loadtest.shapes import Plan, age_shares
from loadtest.tally import Key, Tally
from loadtest.traffic import Agents, address

_MOST_MAILS = 50_000


class Run:
    """What the master knows: who was sent what, and what to tell each process that asks."""

    def __init__(self, name: str, scenario: str, rate: float, seconds: float, now: float) -> None:
        """`name` begins all its campaigns; `now` is in Unix seconds."""
        self.name, self.scenario, self.rate, self.seconds = name, scenario, rate, seconds
        self._now = now
        self.mails: list[Mail] = []
        self._names: list[tuple[str, str]] = []  # campaign and recipient of each mail

    def requests(self, count: int = 0) -> list[SendRequest]:
        """The sends to record. By default a mail is opened twice, as long as there are not too
        many."""
        ages = SCENARIOS[self.scenario].ages
        count = count or min(max(int(self.rate * self.seconds / 2), len(ages)), _MOST_MAILS)
        made = []
        shares = list(accumulate(age_shares(ages)))
        campaigns = [self.name + (f"-{age:g}h" if len(ages) > 1 else "") for age in ages]
        for number in range(count):
            at = next(n for n, share in enumerate(shares) if number < share * count + 1e-6)
            recipient = f"reader-{number}"
            made.append(SendRequest(
                campaign=campaigns[at], recipient=recipient,
                sent_at=int(self._now - ages[at] * 3600),
                links={"offer": f"https://shop.example/offer/{number}?utm_campaign={self.name}"},
            ))  # fmt: skip
        return made

    def minted(self, request: SendRequest, answer: Any) -> None:
        """Take a mail in; raises Failure for one that was refused."""
        if not isinstance(answer, Minted):
            raise Failure(f"{request.recipient} was not minted: {answer.reason}")
        (click,) = answer.links.values()
        paths = (urlsplit(url).path for url in (answer.pixel_url, click))
        self.mails.append(Mail(len(self.mails), *paths, *request.links.values()))
        self._names.append((request.campaign, request.recipient))

    def orders(self, number: int, processes: int) -> dict[str, Any]:
        """What one of the processes has to do, as a message."""
        mails = self.mails[number::processes]
        return {
            "scenario": self.scenario,
            "rate": self.rate * len(mails) / len(self.mails),
            "seconds": self.seconds,
            "seed": f"{self.name} {number}",
            "mails": [list(mail) for mail in mails],
        }

    def keys(self, counts: Counter[str]) -> dict[Key, int]:
        """Counts of a tally by what the store knows."""
        found = {}
        for text, count in counts.items():
            number, _, kind = text.partition(" ")
            if kind and count:
                found[(*self._names[int(number)], kind)] = count
        return found


class Work:
    """What one process does of a run, and what it has seen."""

    def __init__(self, orders: dict[str, Any], clock: Callable[[], float]) -> None:
        self._scenario: Scenario = SCENARIOS[orders["scenario"]]
        self._mails: Sequence[Mail] = [Mail(*mail) for mail in orders["mails"]]
        self._chance = random.Random(orders["seed"])
        self._agents = Agents(clients=self._scenario.agents)
        count = round(orders["rate"] * orders["seconds"]) if self._mails else 0
        self.plan = Plan(self._scenario.arrivals(self._chance, count), orders["seconds"])
        self.tally = Tally()
        self._clock = clock
        self._held = self._asked = 0  # taken and not due; sent and not answered
        self._last = 0.0
        self.begin()

    def begin(self) -> None:
        """The run starts now."""
        self._began, self._cpu = self._clock(), sum(os.times()[:2])

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._began

    def take(self) -> float | None:
        """When the next request is due; None when there is no more."""
        due = self.plan.take(self.now)
        self._held += due is not None
        return due

    def request(self) -> tuple[Request, dict[str, str]]:
        """The next request, and its headers as a proxy before the edge passes them on."""
        headers = self._agents.draw(self._chance)
        headers["X-Forwarded-For"] = address(self._chance.getrandbits(30))
        return draw(self._scenario, self._mails, self._chance), headers

    def start(self) -> bool:
        """Whether what was taken is still to be sent, now."""
        self._held -= 1
        self._asked += not self.plan.stopped
        return not self.plan.stopped

    def finish(self) -> None:
        """What was sent is answered, or will not be."""
        self._asked -= 1
        self._last = self.now

    def stop(self) -> None:
        """Send nothing more."""
        self.plan.stop(self.now)

    def done(self) -> bool:
        """Whether all that was to be sent is answered, or will not be."""
        waiting = self._asked or (self._held and not self.plan.stopped)
        return self.plan.over(self.now) and not waiting

    def report(self) -> dict[str, Any]:
        """What it has seen, as a message: times in seconds, CPU as a share of a core."""
        took = max(self._last, self.plan.ends)
        return {
            "tally": self.tally.dump(),
            "planned": self.plan.planned,
            "took": took,
            "cpu": (sum(os.times()[:2]) - self._cpu) / max(self.now, 1e-9),
        }
