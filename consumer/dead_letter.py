"""The dead letter: lines that are no event, found by halving and kept with the reason."""

import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

from clickhouse_connect.driver.client import Client

from consumer.batch import Block
from consumer.errors import Poison
from consumer.store import reactions
from schemas.flaw import flaw

#: What is kept of a line, in bytes.
MAX_RAW: Final = 64 * 1024
_RECIPIENT: Final = re.compile(rb'"recipient"\s*:\s*"?([^",}\n]*)')


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


@dataclass(frozen=True, slots=True)
class Dead:
    """A line that is no event, and why."""

    line: Line
    reason: str

    @property
    def recipient(self) -> str:
        """Whose it seems to be; "" where it does not say."""
        found = _RECIPIENT.search(self.line.data)
        return found[1].decode("utf-8", "replace").strip() if found else ""


def lines(block: Block) -> Iterator[Line]:
    """The lines of a block; the last may lack its newline."""
    parts = block.data.split(b"\n")
    if not parts[-1]:
        parts.pop()
    for number, data in enumerate(parts):
        yield Line(block, number, data + b"\n")


def sift(blocks: list[Block], load: Callable[[bytes], None]) -> tuple[int, list[Dead]]:
    """Load all good lines of a batch that holds bad ones; how many there are, and the bad ones.

    Most are seen one by one by the event's definition, at some microseconds a line. What only
    the store refuses is halved until one line is left.
    """
    good: list[Line] = []
    dead: list[Dead] = []
    for block in blocks:
        for line in lines(block):
            reason = flaw(line.data)
            if reason:
                dead.append(Dead(line, reason))
            else:
                good.append(line)
    return _halve(good, load, dead), dead


def _halve(some: list[Line], load: Callable[[bytes], None], dead: list[Dead]) -> int:
    if not some:
        return 0
    try:
        load(b"".join(line.data for line in some))
    except Poison as poison:
        if len(some) == 1:
            dead.append(Dead(some[0], str(poison)))
            return 0
        middle = len(some) // 2
        return _halve(some[:middle], load, dead) + _halve(some[middle:], load, dead)
    return len(some)


def store(
    client: Client, table: str, dead: list[Dead], now: int, erased: Collection[str] = ()
) -> None:
    """Write lines to the dead letter, of who is erased the place only. Writing them again replaces
    them.
    """
    if not dead:
        return
    body = b"".join(
        json.dumps(_row(item, now, item.recipient in erased)).encode() + b"\n" for item in dead
    )
    with reactions():
        client.raw_insert(table, insert_block=body, fmt="JSONEachRow", settings={"async_insert": 0})


def _row(item: Dead, now: int, erased: bool) -> dict[str, object]:
    block = item.line.block
    return {
        "topic": block.topic,
        "partition": block.partition,
        "offset": block.offset,
        "line": item.line.number,
        "journal": block.journal,
        "seq": item.line.seq,
        "reason": "erased" if erased else item.reason,
        "raw": "" if erased else item.line.data[:MAX_RAW].decode("utf-8", "replace"),
        "at": now,
    }
