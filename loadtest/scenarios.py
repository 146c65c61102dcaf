"""The scenarios: when requests come, of what kinds they are, and what answers are right."""

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from loadtest import shapes
from loadtest.shapes import Arrivals

PIXEL = bytes.fromhex(
    "47494638396101000100800000ffffff00000021f90401000000002c00000000010001000002024401003b"
)
_PREFETCHERS = ("apple-mpp", "gmail-prefetch")
_AGES = (0.5, 1, 2, 4, 8, 12, 24, 48, 96, 168, 336)


class Scenario(NamedTuple):
    """What a run stands for. `mix` has the shares of kinds of requests."""

    text: str
    arrivals: Arrivals
    mix: Mapping[str, float]
    agents: Sequence[str] = ()  # clients of agents.csv; none: all
    ages: Sequence[float] = (0.0,)  # hours since the sendings, one campaign each


SCENARIOS = {
    "blast": Scenario(
        "the first two hours of a newsletter sent at 9: opens, and a click in thirty",
        shapes.after_sending(2, sent=9), {"open": 29, "click": 1},
    ),
    "steady": Scenario(
        "a day of many newsletters, sent within two weeks: opens, clicks, broken links",
        shapes.any_day, {"open": 94, "click": 5, "bad": 1}, ages=_AGES,
    ),
    "proxy_prefetch": Scenario(
        "Apple and Gmail fetch the pixels of 12 batches as they are delivered",
        shapes.deliveries(12), {"open": 1}, agents=_PREFETCHERS,
    ),
    "bad_tokens": Scenario(
        "tokens that are cut, changed, swapped or made up: answered, and never a row",
        shapes.evenly, {"bad": 1},
    ),
    "clicks": Scenario(
        "readers who open and click, through the first six hours of a newsletter sent at 9",
        shapes.after_sending(6, sent=9), {"open": 1, "click": 1},
    ),
}  # fmt: skip


class Mail(NamedTuple):
    """A minted mail: its number in the run, and the paths of its pixel and its link."""

    number: int
    pixel: str
    click: str
    target: str


class Request(NamedTuple):
    """What to fetch, and the right answer. `mail` is -1 where no row may come of it."""

    mail: int
    kind: str
    path: str
    status: int
    body: bytes | None
    location: str | None = None


def draw(scenario: Scenario, mails: Sequence[Mail], chance: random.Random) -> Request:
    """The next request."""
    (kind,) = chance.choices(list(scenario.mix), list(scenario.mix.values()))
    mail = mails[int(chance.random() * len(mails))]
    if kind == "bad":
        return bad(mail, chance)
    if kind == "click":
        return Request(mail.number, kind, mail.click, 302, None, mail.target)
    return Request(mail.number, kind, mail.pixel, 200, PIXEL)


def bad(mail: Mail, chance: random.Random) -> Request:
    """A request with a token that was never minted; of links one in five."""
    link = chance.random() < 0.2
    start, _, token = (mail.click if link else mail.pixel.removesuffix(".gif")).rpartition("/")
    other = (mail.pixel.removesuffix(".gif") if link else mail.click).rpartition("/")[2]
    at = chance.randrange(len(token))
    token = chance.choice(
        (
            token[:at],  # cut off by a mail program
            token[:at] + chance.choice("AZaz09-_".replace(token[at], "")) + token[at + 1 :],
            token.swapcase(),
            other,  # a link's where a pixel's belongs
            token[:4] + "".join(chance.choices("abcdefghijklmnop0123456789_-", k=len(token) - 4)),
            "".join(chance.choices("abcdefghijklmnop0123456789_-", k=len(token))),
            token + "%3D",
            "",
        )
    )
    if link:
        return Request(-1, "bad link", f"{start}/{token}", 404, None)
    return Request(-1, "bad pixel", f"{start}/{token}.gif", 200, PIXEL)


def judge(request: Request, status: int, body: bytes, location: str | None) -> str:
    """What is wrong with an answer; "" where nothing is."""
    if status != request.status:
        return f"status {status}, {request.kind}"
    if request.body is not None and body != request.body:
        return f"{len(body)} bytes that are not the pixel"
    if location != request.location:
        return f"{request.kind} leads elsewhere"
    return ""
