"""The rates of campaigns: from their tallies where these hold, from all rows where not."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from heliograph import output
from heliograph.access import Answer, canned

#: Campaigns that one statement asks for, and the bytes of their names: they stand in a URL.
_TOGETHER: Final = 100
_BYTES: Final = 1500
#: When each campaign was counted ahead, in Unix seconds.
_TALLIED: Final = """
SELECT campaign, toUnixTimestamp(max(until)) AS until FROM tallies GROUP BY campaign
"""


class Asked(Protocol):
    """What answers questions: see `access.open_store`."""

    def query(self, sql: str, params: Mapping[str, object], format: str, /) -> Answer:
        """The answer to one SELECT."""


def rates(store: Asked, campaign: str, limit: int) -> tuple[list[str], list[output.Row]]:
    """The columns of the view `campaigns`, and its rows: of one campaign, or the first by opens.

    Each statement sees the store at one moment; the first `_TOGETHER` campaigns need two at most.
    The ranking has those too whose every send was taken back, so more of it may be needed.
    """
    tallied = {row["campaign"]: row["until"] for row in _objects(store, _TALLIED, {})}
    columns: list[str] = []
    found: dict[str, output.Row] = {}
    wanted, names = limit, [campaign]
    while True:
        if not campaign:
            asked = {"limit": wanted}
            names = [row["campaign"] for row in _objects(store, canned("ranking"), asked)]
        _add(store, [name for name in names if name not in found], tallied, columns, found)
        if campaign or len(names) < wanted or len(found) >= limit:
            return columns, [found[name] for name in names if name in found][:limit]
        wanted *= 2


def _add(
    store: Asked,
    names: list[str],
    tallied: Mapping[str, int],
    columns: list[str],
    found: dict[str, output.Row],
) -> None:
    """The columns, and the rows of some campaigns."""
    for part in _parts(names):
        for question in ("tallied", "campaigns"):
            left = [name for name in part if name not in found]
            asked = [name for name in left if name in tallied or question == "campaigns"]
            if asked or not (columns or question == "tallied"):
                params = {"campaigns": array(asked)}
                if question == "tallied":
                    params["untils"] = str([tallied[name] for name in asked])
                answer = store.query(canned(question), params, output.FORMAT)
                told, rows = output.rows(answer)
                columns[:] = told[: told.index("unrecorded_hits") + 1]
                for row in rows:
                    if _holds(dict(zip(told, row, strict=True)), told[len(columns) :]):
                        found[str(msgspec.json.decode(row[0]))] = row[: len(columns)]


def array(names: Sequence[str]) -> str:
    """Names as a parameter of the type Array(String); where it is sent the rest is escaped."""
    return "[" + ",".join("'" + name.replace("'", "''") + "'" for name in names) + "]"


def _holds(row: Mapping[str, msgspec.Raw], checks: Sequence[str]) -> bool:
    """Whether a tally's checks come out, and its campaign is one: not all of it was taken back."""
    some = (number(row[name]) for name in ("sends", "hits", "unrecorded"))
    return not any(number(row[name]) for name in checks) and any(some)


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
