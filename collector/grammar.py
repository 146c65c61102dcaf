"""The grammar of a request's head: RFC 9112 without what it lets a server tolerate.

Read line by line, and a line as soon as it begins, so that the answer to wrong bytes depends
neither on how they were cut nor on what follows them. Not tolerated: a bare LF or CR, folded
lines, any control character, a fragment, two fields that disagree about where the body ends.

Whatever bytes come, the fault is the client's: 400 and 405 stand where the RFC would also have 501
(an unknown method or transfer coding) and 505, which an operator's alarm would take for ours.
"""

import re
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final, NamedTuple

#: The longest line, and the longest head, in bytes with their line ends.
MAX_LINE: Final = 8 << 10
MAX_HEAD: Final = 32 << 10
METHODS: Final = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT")
)

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_TARGET: Final = rb"[!\"$-~]+"
_VALUE: Final = rb"[\t -~\x80-\xff]*"


def _begun(*parts: bytes) -> bytes:
    """A pattern of whatever a match of `parts`, one behind the other, may begin with."""
    pattern = b""
    for part in reversed(parts):
        pattern = rb"(?:%b%b)?" % (part, pattern)
    return pattern


_VERSION: Final = (rb"H", rb"T", rb"T", rb"P", rb"/", rb"[0-9]", rb"\.", rb"[0-9]", rb"\r")
_REQUEST: Final = re.compile(rb"(%b) (%b) HTTP/([0-9])\.([0-9])\r\n" % (_TOKEN, _TARGET))
_REQUEST_BEGUN: Final = re.compile(_begun(_TOKEN, rb" ", _TARGET, rb" ", *_VERSION) + rb"|\r")
#: A field line with its end: name and value, the latter with the white space around it.
FIELD: Final = re.compile(rb"(%b):(%b)\r\n" % (_TOKEN, _VALUE))
_FIELD_BEGUN: Final = re.compile(_begun(_TOKEN, rb":", _VALUE, rb"\r") + rb"|\r")
_ABSOLUTE: Final = re.compile(r"https?://([^/?]*)([^?]*)(?:\?(.*))?", re.I | re.S)
_ORIGIN: Final = re.compile(r"(/[^?]*)(?:\?(.*))?", re.S)
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST: Final = re.compile(
    rb"(?:\[([0-9A-Fa-f:.]+)\]|((?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+))(?::([0-9]{0,5}))?"
)
_LENGTH: Final = re.compile(rb"0*([0-9]{1,18})")


class Refused(Exception):
    """A request that is answered with `status` and nothing else, for `args[0]`."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Head(NamedTuple):
    """A request up to its body: `target` as it came, `path` and `query` of it. `length` is the
    body's, None where it comes in chunks. Names and values are bare; `close`: no request follows.
    """

    method: str
    target: str
    path: str
    query: str
    minor: int
    fields: list[tuple[bytes, bytes]]
    length: int | None
    close: bool


class HeadReader:
    """Reads one head after the other."""

    def __init__(self) -> None:
        self._line: re.Match[bytes] | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._size = 0

    @property
    def begun(self) -> bool:
        """Whether a request line was read, but not yet the head's end."""
        return self._line is not None

    def read(self, data: bytes, at: int) -> tuple[Head | None, int]:
        """Read on from `at`: a head if one ends, and where the next unread line begins.
        Give that line again, with more, next time. Raises Refused.
        """
        while True:
            size = min(MAX_LINE, MAX_HEAD - self._size)
            line = data[at : at + size]
            end = line.find(b"\n") + 1
            if not end:
                self._check_begun(line)
                if len(line) == size:
                    raise self._too_long(line)
                return None, at
            line = line[:end]
            at += end
            if line != b"\r\n":
                self._add(line)
                self._size += end
            elif self._line is not None:
                head = _head(self._line, self._fields)
                self._line, self._fields, self._size = None, [], 0
                return head, at

    def _add(self, line: bytes) -> None:
        found = (_REQUEST if self._line is None else FIELD).fullmatch(line)
        if found is None:
            raise Refused(400, "This is no HTTP request.")
        if self._line is None:
            self._line = found
            if found[3] != b"1":
                raise Refused(400, "Only HTTP/1.1 is spoken here.")
            if found[1].decode() not in METHODS:
                raise Refused(405, "This method is not known here.")
        else:
            self._fields.append((found[1], found[2].strip(b" \t")))

    def _check_begun(self, line: bytes) -> None:
        begun = _REQUEST_BEGUN if self._line is None else _FIELD_BEGUN
        if not begun.fullmatch(line):
            raise Refused(400, "This is no HTTP request.")

    def _too_long(self, line: bytes) -> Refused:
        if self._line is not None:
            return Refused(431, "The header is too long.")
        if b" " in line:
            return Refused(414, "The URL is too long.")
        return Refused(400, "This is no HTTP request.")


def _head(line: re.Match[bytes], fields: list[tuple[bytes, bytes]]) -> Head:
    """The meaning of a request line and its fields; raises Refused where they have none."""
    named: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        named.setdefault(name.lower(), []).append(value)
    method, target, minor = line[1].decode(), line[2].decode(), int(line[4] > b"0")
    hosts = named.get(b"host", [])
    if len(hosts) > 1 or (minor and not hosts) or not all(map(good_host, hosts)):
        raise Refused(400, "The Host header is not valid.")
    path, query = _place(method, target)
    options = _list(named.get(b"connection", []))
    close = b"close" in options or (not minor and b"keep-alive" not in options)
    return Head(method, target, path, query, minor, fields, _length(named, minor), close)


def _place(method: str, target: str) -> tuple[str, str]:
    """Path and query of a target (RFC 9112 3.2)."""
    if method == "CONNECT":
        if good_host(target.encode()) and ":" in target:
            raise Refused(405, "This is no proxy.")
    elif target == "*" and method == "OPTIONS":
        return "*", ""
    elif found := _ORIGIN.fullmatch(target):
        if not _BAD_ESCAPE.search(found[1]):
            return found[1], found[2] or ""
    elif (
        (found := _ABSOLUTE.fullmatch(target))
        and good_host(found[1].encode())
        and not _BAD_ESCAPE.search(found[2])
    ):
        return found[2] or "/", found[3] or ""
    raise Refused(400, "The URL is not valid.")


def _length(named: dict[bytes, list[bytes]], minor: int) -> int | None:
    """How long the body is, None for chunked (RFC 9112 6.3)."""
    lengths, codings = named.get(b"content-length", []), named.get(b"transfer-encoding")
    if codings is not None:
        names = _list(codings)
        if lengths or not minor or names[-1:] != [b"chunked"] or b"chunked" in names[:-1]:
            raise Refused(400, "Where the body ends is not clear.")
        if len(names) > 1:
            raise Refused(400, "This transfer coding is not known here.")
        return None
    if not lengths:
        return 0
    found = _LENGTH.fullmatch(lengths[0])
    if len(lengths) > 1 or found is None:
        raise Refused(400, "Where the body ends is not clear.")
    return int(found[1])


def _list(values: list[bytes]) -> list[bytes]:
    """The elements of a list-based field, in lower case."""
    parts = [part.strip(b" \t") for text in values for part in text.lower().split(b",")]
    return [part for part in parts if part]


@lru_cache(maxsize=1024)
def good_host(value: bytes) -> bool:
    """Whether a Host field's value, or a URL's authority, names a host and nothing else."""
    found = _HOST.fullmatch(value) if len(value) < 300 else None
    if found is None or int(found[3] or 0) > 65_535:
        return False
    if found[1] is None:
        return b".." not in found[2] and found[2] != b"."
    try:
        IPv6Address(found[1].decode())
    except ValueError:
        return False
    return True
