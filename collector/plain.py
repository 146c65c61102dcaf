"""The plain request: the one kind that the hot path answers itself.

It is GET PREFIX/o/TOKEN.gif HTTP/1.1 with one valid Host, no name twice, no body, and nothing that
asks for more than an answer (RFC 9112). It is a strict part of what aiohttp takes, with the same
meaning; everything else is left to aiohttp, so whatever is in doubt here is "not plain".

Cost is the point. Clients are of few kinds: but for the token and what a proxy adds, the requests
of a kind are the same bytes. So a block of header lines that was found plain is remembered with
what it means, and the next request of the kind costs a look in a dict. Cut out before are
X-Forwarded-For and Referer, and the lines that mean nothing to us and are ever new, like a request
id: that is learned. A block that is not known is read line by line; known lines are remembered too.
All that is remembered is bounded, and forgotten as a whole when a bound is met.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from collector.beacon import Client
from collector.grammar import FIELD, good_host
from schemas.event import PREFETCH_HEADERS

#: A longer request is left to aiohttp, with all questions of limits.
MAX_REQUEST: Final = 8000
_END: Final = ".gif HTTP/1.1"  # and then a block, which begins with a line end
#: What a field's value may hold (RFC 9110, section 5.5).
_IN_VALUE: Final = bytes({9, *range(0x20, 0x7F), *range(0x80, 0x100)})
#: Fields that mean something here.
_MEANT: Final = {
    "host", "connection", "user-agent", "accept-language", "referer", "x-forwarded-for",
    *PREFETCH_HEADERS,
}  # fmt: skip
#: Fields that ask for more than an answer, or may.
_NOT_PLAIN: Final = {
    "content-length", "transfer-encoding", "content-encoding", "expect", "upgrade", "trailer", "te",
}  # fmt: skip
#: Lines whose values are read each time: they are cut out, or their block is not remembered.
_EACH_ITS_OWN: Final = ("\nreferer:", "\nx-forwarded-for:")
_MOST_KNOWN: Final = 4096
_LONGEST_KNOWN: Final = 2048
#: Lines of one name, all different, after which it is cut out; and how many names may be.
_ALWAYS_NEW: Final = 100
_MOST_CUT: Final = 6


#: A plain request: its token (not looked at), X-Forwarded-For, Referer, what the other fields say,
#: whether it is the connection's last, and how many bytes it was. No class and no None: so compiled
#: code makes no object of it.
Request = tuple[bytes, str, str, Client, bool, int]
NOT_PLAIN: Final[Request] = (b"", "", "", Client("GET", {}), False, 0)


class Line(NamedTuple):
    """A header line: lower-case name, bare value, and what all such lines begin with."""

    name: str
    value: str
    start: str


class Plain:
    """Recognises plain requests to pixels under some path prefixes."""

    def __init__(self, prefixes: Sequence[str]) -> None:
        self._starts = tuple(f"GET {prefix}/o/".encode() for prefix in prefixes)
        self._forwarded = "\r\nX-Forwarded-For: "  # as they were spelled last
        self._referer = "\r\nReferer: "
        self._forget()

    def _forget(self) -> None:
        self._known: dict[str, tuple[Client, bool]] = {}
        self._lines: dict[bytes, Line] = {}
        self._new: Counter[str] = Counter()
        self._cuts: list[str] = []
        self._whole = True  # the last had nothing more to be cut: the next may be known as it is

    def read(self, data: bytes) -> Request:
        """The plain request that the data begins with; NOT_PLAIN if none does, or no whole one."""
        for start in self._starts:
            if data.startswith(start):
                break
        else:
            return NOT_PLAIN
        # As text, byte for byte: compiled code searches and cuts texts faster than bytes.
        head, found, block = data.decode("latin-1").partition(_END)
        if not found:
            return NOT_PLAIN
        block, forwarded = _cut(block, self._forwarded)
        referer, good, known = "", _may_be(forwarded), None
        if self._whole:
            known = self._known.get(block)  # none that is known has a line of those that follow
        if known is None:
            size = len(block)
            for cut in self._cuts:
                block, value = _cut(block, cut)
                good = good and _may_be(value)
            known = self._known.get(block)
            if known is None:
                block, referer = _cut(block, self._referer)
                good = good and _may_be(referer)
                known = self._known.get(block)
            self._whole = len(block) == size
        if known is None or len(data) > MAX_REQUEST or not good:
            return self._study(data, len(start))
        return (
            data[len(start) : len(head)],
            _text(forwarded) if forwarded else "",
            _text(referer) if referer else "",
            known[0],
            known[1],
            len(data),
        )

    def _study(self, data: bytes, start: int) -> Request:
        """Read line by line; remember what was found plain."""
        if max(len(self._known), len(self._lines), len(self._new)) >= _MOST_KNOWN:
            self._forget()
        end = data.find(_END.encode() + b"\r\n")
        blank = data.find(b"\r\n\r\n", end)
        # No line is no Host; and compiled code refuses a slice that ends before it begins.
        if end < 0 or blank <= end + len(_END) or blank + 4 > MAX_REQUEST:
            return NOT_PLAIN
        if blank + 4 < len(data):  # pipelined: one at a time
            return self.read(data[: blank + 4])
        fields: dict[str, str] = {}
        for text in data[end + len(_END) + 2 : -4].split(b"\r\n"):
            line = self._lines.get(text) or self._study_line(text)
            if line is None or line.name in fields:
                return NOT_PLAIN
            fields[line.name] = line.value
        options = fields.get("connection", "keep-alive").lower()
        host = fields.get("host", "").encode("utf-8", "surrogateescape")
        if options not in ("keep-alive", "close") or not good_host(host):
            return NOT_PLAIN
        client, close = Client("GET", fields), options == "close"
        self._remember(data[end + len(_END) :].decode("latin-1"), client, close)
        token = data[start:end]
        forwarded, referer = fields.get("x-forwarded-for", ""), fields.get("referer", "")
        return token, forwarded, referer, client, close, len(data)

    def _study_line(self, text: bytes) -> Line | None:
        found = FIELD.fullmatch(text + b"\r\n")
        if found is None:
            return None
        spelled, value = found[1].decode(), found[2].decode("latin-1")
        name = spelled.lower()
        if name in _NOT_PLAIN:
            return None
        line = Line(name, _text(value), f"\r\n{spelled}: ")
        if name == "x-forwarded-for":
            self._forwarded = line.start
        elif name == "referer":
            self._referer = line.start
        elif len(text) <= _LONGEST_KNOWN and line.start not in self._cuts:
            self._lines[text] = line
            self._new[line.start] += name not in _MEANT
        return line

    def _remember(self, block: str, client: Client, close: bool) -> None:
        for start, times in self._new.items():
            if times >= _ALWAYS_NEW and len(self._cuts) < _MOST_CUT:
                self._cuts.append(start)
                del self._new[start]
                break
        for cut in (self._forwarded, self._referer, *self._cuts):
            block, _ = _cut(block, cut)
        low = block.lower()  # a value that differs must not be remembered with the rest
        if len(block) <= _LONGEST_KNOWN and not any(name in low for name in _EACH_ITS_OWN):
            self._known[block] = client, close


def _text(value: str) -> str:
    """A field's value as aiohttp reads it."""
    bare = value.strip(" \t")
    return bare if bare.isascii() else bare.encode("latin-1").decode("utf-8", "surrogateescape")


def _may_be(value: str) -> bool:
    """Whether all bytes may stand in a field's value. The first looks are enough for nearly all."""
    if value.isalnum() or value.isprintable():
        return True
    return not value.encode("latin-1").translate(None, _IN_VALUE)


def _cut(block: str, start: str) -> tuple[str, str]:
    """A block without the line that begins with `start` (and with the line end before it), and
    that line's value; as it is, and "", where there is none.

    The last such line: the search from the end looks for a line end, of which there are few, the
    one from the start for a space, and so takes twice as long.
    """
    at = block.rfind(start)
    if at < 0:
        return block, ""
    begin = at + len(start)
    end = block.find("\r\n", begin)
    # A line behind the block's end would leave the same bytes as one in it.
    if end < 0 or len(block) < end + 4:
        return block, ""
    return block[:at] + block[end:], block[begin:end]
