"""The plain request: the one kind that the hot path answers itself.

It is GET PREFIX/o/TOKEN.gif HTTP/1.1 with one valid Host, no name twice, no body, and nothing that
asks for more than an answer (RFC 9112). It is a strict part of what aiohttp takes, with the same
meaning; everything else is left to aiohttp, so whatever is in doubt here is "not plain".

Cost is the point. Clients are of few kinds: but for the token and X-Forwarded-For, the requests of
a kind are the same bytes. So a header block (without that one line) which was found plain is
remembered with what it means, and the next one costs a look in a dict. A block that is not known
is read line by line. What is remembered is bounded, and forgotten as a whole when it is full.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from collector.beacon import Client
from collector.grammar import Head, HeadReader, Refused

#: A longer request is left to aiohttp, with all questions of limits.
MAX_REQUEST: Final = 8000
_END: Final = b".gif HTTP/1.1\r\n"
_TO_BLOCK: Final = len(_END) - 2  # a block begins with the line end before it
#: What a field's value may hold (RFC 9110, section 5.5).
_IN_VALUE: Final = bytes({9, *range(0x20, 0x7F), *range(0x80, 0x100)})
#: Fields that ask for more than an answer, or may.
_NOT_PLAIN: Final = frozenset(
    b"content-length transfer-encoding content-encoding expect upgrade trailer te".split()
)
_FORWARDED_FOR: Final = b"x-forwarded-for"
_MOST_KNOWN: Final = 4096
_LONGEST_KNOWN: Final = 2048


class Request(NamedTuple):
    """A plain request: its token (not looked at), X-Forwarded-For, what the other fields say,
    whether it is the connection's last, and how many bytes it was.
    """

    token: str
    forwarded: str
    client: Client
    close: bool
    size: int


class Plain:
    """Recognises plain requests to pixels under some path prefixes."""

    def __init__(self, prefixes: Sequence[str]) -> None:
        self._starts = tuple(f"GET {prefix}/o/".encode() for prefix in prefixes)
        self._known: dict[bytes, tuple[Client, bool]] = {}
        self._spelling = b"\r\nX-Forwarded-For: "  # as it came last

    def read(self, data: bytes) -> Request | None:
        """The plain request that the data begins with; None if none does, or not a whole one."""
        for start in self._starts:
            if data.startswith(start):
                break
        else:
            return None
        end = data.find(_END)
        block, forwarded = data[end + _TO_BLOCK :], b""
        at = block.find(self._spelling)
        if at >= 0:
            value = at + len(self._spelling)
            value_end = block.find(b"\r\n", value)
            forwarded = block[value:value_end]
            # A line behind the end of the block would leave the same bytes when it is cut out.
            in_block = value_end <= len(block) - 4
            block = block[:at] + block[value_end:] if in_block and value_end > 0 else b""
        known = self._known.get(block)
        if (
            known is None
            or end < 0
            or len(data) > MAX_REQUEST
            or forwarded.translate(None, _IN_VALUE)
        ):
            return self._study(data, len(start), end)
        token = data[len(start) : end].decode("latin-1")
        return Request(token, forwarded.decode("latin-1"), *known, len(data))

    def _study(self, data: bytes, start: int, end: int) -> Request | None:
        """Read field by field; remember what was found plain."""
        blank = data.find(b"\r\n\r\n", end)
        if end < 0 or blank < 0 or blank + 4 > MAX_REQUEST:
            return None
        if blank + 4 < len(data):  # pipelined: one at a time
            return self.read(data[: blank + 4])
        try:
            head, at = HeadReader().read(data, 0)
        except Refused:
            return None
        fields = _fields(head) if head and at == len(data) else None
        if head is None or fields is None:
            return None
        client = Client.of(head.method, fields)
        self._remember(data[end + _TO_BLOCK :], head, (client, head.close))
        token = data[start:end].decode("latin-1")
        return Request(token, fields.get("x-forwarded-for", ""), client, head.close, len(data))

    def _remember(self, block: bytes, head: Head, meaning: tuple[Client, bool]) -> None:
        for name, _ in head.fields:
            if name.lower() == _FORWARDED_FOR:
                self._spelling = b"\r\n" + name + b": "
                before, found, behind = block.partition(self._spelling)
                if not found:  # written without the usual space
                    return
                block = before + behind[behind.index(b"\r\n") :]
        if len(block) <= _LONGEST_KNOWN:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[block] = meaning


def _fields(head: Head) -> dict[str, str] | None:
    """Values by lower-case name; None where one is not plain."""
    fields: dict[bytes, bytes] = {}
    for name, value in head.fields:
        lower = name.lower()
        if lower in fields or lower in _NOT_PLAIN:
            return None
        fields[lower] = value
    return {n.decode(): v.decode("utf-8", "surrogateescape") for n, v in fields.items()}
