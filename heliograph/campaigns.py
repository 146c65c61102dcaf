"""The rates of campaigns: from their tallies where these hold, from all rows where not.

A tally holds the figures of a campaign, and which rows from before it they are of: their number and
the sum of their marks. So it is right if there are no other rows by then, whatever was late, erased
or judged anew. Where no row has come since, that is all. Else what those say who stirred since is
added, and it is asked afterwards whether the rows from before are still those. Small statements:
one that does it all takes longer to plan than they take together.
"""

from collections.abc import Iterator, Mapping, Sequence
from operator import add
from typing import Any, Final, Protocol

import msgspec

from heliograph import output
from heliograph.access import Answer, canned

#: Campaigns that one statement asks for, the bytes of their names, and for how many by their
#: figures: they stand in a URL.
_TOGETHER: Final = 100
_BYTES: Final = 1500
_FIGURES: Final = 40
#: Sums in the store are of 64 bits.
_WRAP: Final = 2**64


class Asked(Protocol):
    """What answers questions: see `access.open_store`."""

    def query(self, sql: str, params: Mapping[str, object], format: str, /) -> Answer:
        """The answer to one SELECT."""


def rates(store: Asked, campaign: str, limit: int) -> tuple[list[str], list[output.Row]]:
    """The columns of the view `campaigns`, and its rows: of one campaign, or the first by opens.

    Each row is of one moment.
    The ranking has those too whose every send was taken back, so more of it may be needed.
    """
    columns: list[str] = []
    found: dict[str, output.Row] = {}
    wanted, names = limit, [campaign]
    while True:
        if not campaign:
            asked = {"limit": wanted}
            names = [row["campaign"] for row in _objects(store, canned("ranking"), asked)]
        _add(store, [name for name in names if name not in found], columns, found)
        if campaign or len(names) < wanted or len(found) >= limit:
            return columns, [found[name] for name in names if name in found][:limit]
        wanted *= 2


def _add(store: Asked, names: list[str], columns: list[str], found: dict[str, output.Row]) -> None:
    """The columns, and the rows of some campaigns."""
    figures: dict[str, list[int]] = {}
    for part in _parts(names):
        figures |= _tallied(store, part)
        if left := [name for name in part if name not in figures]:
            figures |= _sums(store, "figures", {"campaigns": array(left)})
    held = [name for name, sums in figures.items() if any(sums)]  # not all of it was taken back
    for at in range(0, len(held) or 1, _FIGURES):
        some = held[at : at + _FIGURES]
        asked = {"figures": str([figures[name] for name in some])}
        told, rows = output.rows(store.query(canned("rates"), asked, output.FORMAT))
        columns[:] = ["campaign", *told]
        for name, row in zip(some, rows, strict=True):
            found[name] = [msgspec.Raw(msgspec.json.encode(name)), *row]


def _sums(store: Asked, question: str, asked: Mapping[str, object]) -> dict[str, list[int]]:
    """Figures by their campaigns."""
    rows = _objects(store, canned(question), asked)
    return {row["campaign"]: list(map(int, row["figures"])) for row in rows}


def _tallied(store: Asked, names: list[str]) -> dict[str, list[int]]:
    """The figures of those campaigns whose tallies hold."""
    asked = {"campaigns": array(names)}
    tallies = {row["campaign"]: row for row in _objects(store, canned("tallies"), asked)}
    if not tallies:
        return {}
    figures = {name: list(map(int, tally["figures"])) for name, tally in tallies.items()}
    asked = {"campaigns": array(list(tallies))}
    stirred = _others(tallies, _objects(store, canned("marks"), asked))
    if stirred:
        untils = str([tallies[name]["until"] for name in stirred])
        asked = {"campaigns": array(stirred), "untils": untils}
        for name, more in _sums(store, "stirred", asked).items():
            figures[name] = list(map(add, figures[name], more))
        for name in _others({name: tallies[name] for name in stirred},
                            _objects(store, canned("before"), asked)):  # fmt: skip
            del figures[name]
    return figures


def _others(
    tallies: Mapping[str, Mapping[str, Any]], rows: Iterator[Mapping[str, Any]]
) -> list[str]:
    """The tallies that are of other rows than these, each campaign's and the opt-outs together."""
    seen = {row["campaign"]: _marked(row) for row in rows}
    optouts = seen.get("", (0, 0))
    found = {name: map(add, seen.get(name, (0, 0)), optouts) for name in tallies}
    return [
        name
        for name, (events, marks) in found.items()
        if (events % _WRAP, marks % _WRAP) != _marked(tallies[name])
    ]


def _marked(row: Mapping[str, Any]) -> tuple[int, int]:
    """The number of rows and the sum of their marks."""
    return int(row["events"]), int(row["marks"])


def array(names: Sequence[str]) -> str:
    """Names as a parameter of the type Array(String); where it is sent the rest is escaped."""
    return "[" + ",".join("'" + name.replace("'", "''") + "'" for name in names) + "]"


def number(value: msgspec.Raw) -> int:
    """An integer as the store wrote it: one of 64 bits is quoted."""
    return int(bytes(value).strip(b'"'))


def _objects(store: Asked, sql: str, params: Mapping[str, object]) -> Iterator[dict[str, Any]]:
    yield from output.objects(store.query(sql, params, output.FORMAT))


def _parts(names: list[str]) -> Iterator[list[str]]:
    """The names in parts that fit one statement; one empty part if there are none."""
    part: list[str] = []
    size = 0
    for name in names:
        size += len(name.encode())
        if len(part) == _TOGETHER or (part and size > _BYTES):
            yield part
            part, size = [], len(name.encode())
        part.append(name)
    yield part
