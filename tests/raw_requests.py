"""The corpus of raw requests in tests/data/requests, and what comes back from a server.

A case has the bytes of a connection (`raw`: a character is a byte; placeholders in braces), the
`answers` in order, the `events` that the journal then has, and what `after` them becomes of the
connection: it is "open", "closed", or "waiting" for the rest of a request. An answer is a status,
or "pixel", "head" (a pixel's, of HEAD), "redirect", "redirect head". `also` are other answers that
the RFC (`rfc`: number and section) leaves a server free to give; only other servers are measured
by them.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from schemas.consent import Mode
from schemas.keyring import Keyring
from schemas.token import Sealed

CORPUS = Path(__file__).parent / "data" / "requests"
OPTED_OUT = "who opted out"
TARGET = "https://shop.example/"
_PLACE = re.compile(r"\{(?:(.)\*(\d+)|([a-z-]+))\}", re.DOTALL)

Answer = int | str


class Case(NamedTuple):
    topic: str
    name: str
    rfc: str
    raw: str
    answers: list[Answer]
    after: str
    events: Sequence[str] = ()
    also: Sequence[list[Answer]] = ()

    @property
    def id(self) -> str:
        return f"{self.topic}: {self.name}"


def cases() -> list[Case]:
    """Every case, by topic."""
    found = []
    for file in sorted(CORPUS.glob("*.toml")):
        rows: list[dict[str, Any]] = tomllib.loads(file.read_text("utf-8"))["case"]
        found += [Case(file.stem, **row) for row in rows]
    return found


class Places:
    """Makes what the placeholders stand for: tokens of a recipient of their own."""

    def __init__(self, ring: Keyring) -> None:
        self._ring = ring
        click = ring.seal("click", Sealed("c", "c", "r", 0, Mode.FULL, TARGET))
        pixel = ring.seal("open", Sealed("c", "c", "r", 0, Mode.FULL))
        self._fixed = {
            "bad": "/o/nonsense.gif",
            "forged": "/o/" + pixel[:-2] + ("AA" if pixel[-2:] != "AA" else "BB") + ".gif",
            "swapped": f"/o/{click}.gif",
        }

    def of(self, recipient: str) -> Mapping[str, str]:
        """The placeholders' values; events of them carry the recipient."""
        token = self._of(recipient, Mode.FULL)
        click = self._ring.seal("click", Sealed("c", "c", recipient, 0, Mode.FULL, TARGET))
        lettered = next(n for n, char in enumerate(token) if f"{ord(char):x}"[-1] > "9")
        return {
            **self._fixed,
            "token": token,
            "pixel": f"/o/{token}.gif",
            "other": f"/o/{token}.gif",
            "click": f"/c/{click}",
            **{mode.word: f"/o/{self._of(recipient, mode)}.gif" for mode in Mode},
            "opted-out": f"/o/{self._of(OPTED_OUT, Mode.FULL)}.gif",
            "escaped": f"/o/%{ord(token[0]):X}{token[1:]}.gif",
            "escaped-lower": f"/o/{token[:lettered]}%{ord(token[lettered]):x}"
                             f"{token[lettered + 1:]}.gif",
        }  # fmt: skip

    def _of(self, recipient: str, mode: Mode) -> str:
        return self._ring.seal("open", Sealed("c", "c", recipient, 0, mode))


def fill(raw: str, places: Mapping[str, str]) -> bytes:
    """The bytes of a case; braces that are no placeholder's stay."""

    def put(found: re.Match[str]) -> str:
        char, times, name = found.groups()
        return char * int(times) if char else places.get(name, found[0])

    return _PLACE.sub(put, raw).encode("latin-1")


def read(data: bytes | bytearray, expected: Sequence[Answer]) -> list[Answer]:
    """The answers that came. `expected` only tells which of them have no body for their HEAD."""
    return list(_read(bytes(data), expected))


def _read(data: bytes, expected: Sequence[Answer]) -> Iterator[Answer]:
    number = 0
    while data:
        head, found, data = data.partition(b"\r\n\r\n")
        line = re.match(rb"HTTP/1\.[01] ([1-5][0-9][0-9]) [^\r\n]*", head)
        if not found or line is None:
            yield f"no answer: {(head + found + data)[:60]!r}"
            return
        status = int(line[1])
        if status == 100:
            yield status
            continue
        fields = re.findall(rb"\r\nContent-Length: (\d+)(?=\r\n|$)", head)
        bare = number < len(expected) and str(expected[number]).endswith("head")
        length = 0 if bare or status in (204, 304) else int(fields[0]) if fields else len(data)
        body, data = data[:length], data[length:]
        number += 1
        gif = b"\r\nContent-Type: image/gif\r\n" in head
        if status == 200 and gif and bare and fields == [b"43"]:
            yield "head"
        elif status == 200 and gif and len(body) == 43 and body.startswith(b"GIF89a"):
            yield "pixel"
        elif status == 302 and f"\r\nLocation: {TARGET}\r\n".encode() in head + b"\r\n":
            yield "redirect head" if bare else "redirect"
        else:
            yield status
