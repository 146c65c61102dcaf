"""The dead letter: lines that are no event, and how they are found; kept with the reason.

What the store takes is an event, as long as it is text in bounded lines, and there are as many as
lines. So no line is looked at before the store has refused a batch; what is then, see `writer`.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from clickhouse_connect.driver.client import Client

from consumer.batch import Block
from consumer.errors import Poison
from consumer.store import reactions
from schemas.flaw import flaw, is_bounded_text, sound_lines

#: What is kept of a line, in bytes.
MAX_RAW: Final = 64 * 1024
#: Batches without a bad line after which none is expected.
_FORGOTTEN: Final = 10
_RECIPIENT: Final = re.compile(rb'"recipient"\s*:\s*"?([^",}\n]*)')
_STRING: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a block and the place it is known by."""

    block: Block
    number: int
    data: bytes

    @property
    def seq(self) -> int:
        """Its seq, where the block says so; else 0."""
        return self.block.first_seq + self.number if self.block.events else 0


class Caution:
    """How closely lines are looked at before the store has refused them: 1 and 2 while there were
    bad ones of late, 2 where blocks that say what they hold had some. Shared by the writers of all
    partitions: a batch that is refused has to be loaded again.
    """

    def __init__(self) -> None:
        self.level = 0
        self._clean = 0  # batches since

    def learn(self, dead: Iterable["Dead"]) -> None:
        """What was bad in a batch."""
        if bad := {found.line.block for found in dead}:
            self.level = 2 if any(map(says_what_it_holds, bad)) else 1
            self._clean = 0
            return
        self._clean += 1
        if self._clean >= _FORGOTTEN:
            self.level = 0


@dataclass(frozen=True)
class Dead:
    """A line that is no event, and why."""

    line: Line
    reason: str

    @cached_property
    def names(self) -> frozenset[str]:
        """Whose it may be: what stands for the recipient, and each string in it."""
        found = _RECIPIENT.search(self.line.data)
        given = [found[1].strip()] if found else []
        texts = map(_text, [*given, *_STRING.findall(self.line.data)])
        return frozenset(filter(None, texts))


def _text(data: bytes) -> str:
    """What a string of JSON says, or what it is where that is none."""
    text = data.decode("utf-8", "replace")
    if "\\" not in text:
        return text
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text


def lines(block: Block) -> Iterator[Line]:
    """The lines of a block; the last may lack its newline."""
    parts = block.data.split(b"\n")
    if not parts[-1]:
        parts.pop()
    for number, data in enumerate(parts):
        yield Line(block, number, data + b"\n")


def says_what_it_holds(block: Block) -> bool:
    """Whether its journal, first seq and count are told and are what its lines begin with."""
    head = b'{"journal":"%b","seq":' % block.journal.encode()
    return (
        block.events > 0
        and block.events == block.data.count(b"\n") == block.data.count(b"\n" + head) + 1
        and block.data.startswith(head)
        and is_bounded_text(block.data)
    )


def sift(
    blocks: Iterable[Block], is_good: Callable[[Block], bool]
) -> tuple[list[Block | Line], list[Dead]]:
    """Blocks as a whole where they are good, else those of their lines that have no flaw; and the
    lines that have one.
    """
    pieces: list[Block | Line] = []
    dead: list[Dead] = []
    for block in blocks:
        if is_good(block):
            pieces.append(block)
        else:
            pieces += _sound(lines(block), dead)
    return pieces, dead


def _sound(some: Iterable[Line], dead: list[Dead]) -> Iterator[Line]:
    for line in some:
        if reason := flaw(line.data):
            dead.append(Dead(line, reason))
        else:
            yield line


def has_no_flaw(block: Block) -> bool:
    """Whether each of its lines is an event by definition: some 1 µs a line."""
    return block.data.endswith(b"\n") and sound_lines(block.data) == block.data.count(b"\n")


def halve(some: Sequence[Block | Line], load: Callable[[bytes], None], dead: list[Dead]) -> int:
    """Load what the definition lets through, but the store may not: halved until one line is left.
    How many lines are good.
    """
    if not some:
        return 0
    try:
        load(b"".join(piece.data for piece in some))
    except Poison as poison:
        if len(some) > 1:
            middle = len(some) // 2
            return halve(some[:middle], load, dead) + halve(some[middle:], load, dead)
        (last,) = some
        if isinstance(last, Block):
            return halve(list(lines(last)), load, dead)
        dead.append(Dead(last, str(poison)))
        return 0
    return sum(map(count, some))


def count(piece: Block | Line) -> int:
    """How many lines there are."""
    return piece.data.count(b"\n")


def store(
    client: Client, table: str, dead: list[Dead], now: int, erased: Collection[str] = ()
) -> None:
    """Write lines to the dead letter, of who is erased the place only. Writing them again replaces
    them.
    """
    if not dead:
        return
    body = b"".join(json.dumps(_row(item, now, erased)).encode() + b"\n" for item in dead)
    with reactions():
        client.raw_insert(table, insert_block=body, fmt="JSONEachRow", settings={"async_insert": 0})


def _row(item: Dead, now: int, erased: Collection[str]) -> dict[str, object]:
    block = item.line.block
    gone = bool(erased) and not item.names.isdisjoint(erased)
    return {
        "topic": block.topic,
        "partition": block.partition,
        "offset": block.offset,
        "line": item.line.number,
        "journal": block.journal,
        "seq": item.line.seq,
        "reason": "erased" if gone else item.reason,
        "raw": "" if gone else item.line.data[:MAX_RAW].decode("utf-8", "replace"),
        "at": now,
    }
