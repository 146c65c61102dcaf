"""What a simulated reader opens, with which mail program, and how its request looks.

All of it is **synthesised**. The user agents of `agents.csv` come from public lists and logs (its
column `source`), each with its kind; the weights follow published shares of mail clients (Apple's
privacy proxy 42 %, Gmail's 28 % and 1 % of prefetching, then a long tail with scanners in it);
the other headers are those that programs of the kind are known to send, in their order.
"""

import csv
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final

AGENTS = Path(__file__).with_name("agents.csv")

#: Languages and their weights; the long tail of the world is cut off.
_LOCALES: Final = (
    *["en-US"] * 38, *["en-GB"] * 10, *["de-DE"] * 10, *["fr-FR"] * 8, *["es-ES"] * 6,
    *["ja-JP"] * 4, *["pt-BR"] * 4, *["it-IT"] * 4, *["nl-NL"] * 3, *["pl-PL"] * 3,
    *["en-AU"] * 3, *["en-CA"] * 2, *["sv-SE"] * 2, "da-DK", "cs-CZ", "tr-TR", "ko-KR", "zh-TW",
)  # fmt: skip
#: Origins of webmail, as a referrer policy leaves them; another one in three is a company's own.
_WEBMAIL: Final = (
    *["https://mail.google.com/"] * 4, *["https://outlook.live.com/"] * 2,
    *["https://outlook.office.com/"] * 3, "https://mail.yahoo.com/", "https://mail.proton.me/",
    "https://navigator.gmx.net/", "https://www.icloud.com/",
)  # fmt: skip

Value = str | Callable[[random.Random], str]


def _plain(chance: random.Random) -> str:
    return chance.choice(_LOCALES)


def _apple(chance: random.Random) -> str:
    locale = chance.choice(_LOCALES)
    return f"{locale},{locale[:2]};q=0.9"


def _chromium(chance: random.Random) -> str:
    locale = chance.choice(_LOCALES)
    rest = "" if locale.startswith("en") else ",en-US;q=0.8,en;q=0.7"
    return f"{locale},{locale[:2]};q=0.9{rest}"


def _firefox(chance: random.Random) -> str:
    locale = chance.choice(_LOCALES)
    return "en-US,en;q=0.5" if locale == "en-US" else f"{locale[:2]},en-US;q=0.7,en;q=0.3"


def _webmail(chance: random.Random) -> str:
    if chance.random() < 0.33:
        return f"https://mail.company-{chance.randrange(10_000)}.example/"
    return chance.choice(_WEBMAIL)


_ALL_IMAGES: Final = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
_AGENT: Final = ("User-Agent", "")  # its place; the value is the agent's
_ALIVE: Final = ("Connection", "keep-alive")
_FETCH: Final = (
    ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image"),
)  # fmt: skip
_KINDS: Final[Mapping[str, Sequence[tuple[str, Value]]]] = {
    "proxy": (
        _ALIVE, _AGENT, ("Accept", "image/webp,image/*,*/*;q=0.8"),
        ("Accept-Encoding", "gzip, deflate, br"),
    ),
    "apple": (
        ("Accept", "image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5"),
        ("Accept-Language", _apple), _ALIVE, ("Accept-Encoding", "gzip, deflate, br"), _AGENT,
    ),
    "safari": (
        ("Accept", "image/webp,image/avif,image/jxl,image/heic,image/heic-sequence,"
         "video/*;q=0.8,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"),
        ("Sec-Fetch-Site", "cross-site"), ("Accept-Language", _apple),
        ("Accept-Encoding", "gzip, deflate, br"), ("Sec-Fetch-Mode", "no-cors"), _AGENT,
        ("Referer", _webmail), ("Sec-Fetch-Dest", "image"), _ALIVE,
    ),
    "chromium": (
        _ALIVE, _AGENT, ("Accept", _ALL_IMAGES), *_FETCH, ("Referer", _webmail),
        ("Accept-Encoding", "gzip, deflate, br, zstd"), ("Accept-Language", _chromium),
    ),
    "firefox": (
        _AGENT,
        ("Accept", "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"),
        ("Accept-Language", _firefox), ("Accept-Encoding", "gzip, deflate, br, zstd"), _ALIVE,
        ("Referer", _webmail), *_FETCH, ("Priority", "u=5, i"),
    ),
    "office": (
        ("Accept", "*/*"), ("UA-CPU", "AMD64"), ("Accept-Language", _plain),
        ("Accept-Encoding", "gzip, deflate"), _AGENT, _ALIVE,
    ),
    "app": (
        _AGENT, ("Accept", "image/*,*/*;q=0.8"), ("Accept-Language", _apple), _ALIVE,
        ("Accept-Encoding", "gzip"),
    ),
    "library": (_AGENT, ("Accept-Encoding", "gzip, deflate"), ("Accept", "*/*"), _ALIVE),
}  # fmt: skip


class Agents:
    """Draws request headers of mail programs by their weights."""

    def __init__(self, path: Path = AGENTS, clients: Collection[str] = ()) -> None:
        """`clients` leaves only those that the column of this name has; all by default."""
        with path.open(newline="", encoding="utf-8") as file:
            rows = [r for r in csv.DictReader(file) if not clients or r["client"] in clients]
        self._weights = list(accumulate(float(row["weight"]) for row in rows))
        self._headers = [self._of(row) for row in rows]

    @staticmethod
    def _of(row: dict[str, str]) -> list[tuple[str, Value]]:
        headers: dict[str, Value] = dict(_KINDS[row["kind"]])
        headers["User-Agent"] = row["user_agent"]
        headers |= dict(pair.split(": ", 1) for pair in row["headers"].split(" | ") if pair)
        return list(headers.items())

    def draw(self, chance: random.Random) -> dict[str, str]:
        """The headers of one reader, in order, but for Host and what a proxy adds."""
        (headers,) = chance.choices(self._headers, cum_weights=self._weights)
        return {name: value if isinstance(value, str) else value(chance) for name, value in headers}


def address(number: int) -> str:
    """A client address, another one for each number below 2**30; one in eight is IPv6."""
    spread = number * 2_654_435_761 % 2**30
    if number % 8 == 0:
        return f"2001:db8:{spread >> 16:x}:{spread & 0xFFFF:x}::{number % 97 + 1:x}"
    return f"{128 + (spread >> 24)}.{spread >> 16 & 255}.{spread >> 8 & 255}.{spread & 255}"


def request(
    path: str,
    host: str,
    agents: Agents,
    chance: random.Random,
    *,
    close: bool = False,
    unique_agent: bool = False,
) -> bytes:
    """A request as it comes from the proxy before the edge, whose headers stand last.

    `close` ends the connection with it. `unique_agent` gives it a user agent that nobody else has.
    """
    headers = agents.draw(chance)
    number = chance.getrandbits(30)
    if close:
        headers["Connection"] = "close"
    if unique_agent:
        headers["User-Agent"] += f" ({number:08x})"
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{lines}"
        f"X-Forwarded-For: {address(number)}\r\nX-Forwarded-Proto: https\r\n"
        f"X-Forwarded-Port: 443\r\nX-Request-ID: {chance.getrandbits(128):032x}\r\n"
        f"Via: 1.1 edge-{number % 5}\r\n\r\n"
    ).encode()
