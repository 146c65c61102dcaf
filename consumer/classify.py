"""Hits from elsewhere, judged by the same rules and the same SQL as those of the store."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from clickhouse_connect.driver.client import Client

from consumer.migrate import migrate
from consumer.store import execute, open_embedded, rows
from consumer.verdicts import Verdicts
from schemas.event import clean

_DATABASE: Final = "heliograph"
_TABLE: Final = f"""
CREATE TABLE {_DATABASE}.asked
(
    n UInt64, kind LowCardinality(String), user_agent String, address String,
    prefetch LowCardinality(String), method LowCardinality(String), send LowCardinality(String),
    since Nullable(Float64), told Bool
)
ENGINE = Memory
"""


class Hit(NamedTuple):
    """What is known of a hit: `since` is seconds since the send; an agent None was not told."""

    agent: str | None
    address: str = ""
    prefetch: str = ""
    method: str = "GET"
    send: str = ""
    since: float | None = None


class Verdict(NamedTuple):
    """The class of a hit, the rule that gave it, and the version of the rules."""

    name: str
    rule: str
    version: str


class Judge:
    """Rules in an engine of their own."""

    def __init__(self, client: Client, verdicts: Verdicts) -> None:
        self._client = client
        self._sql = verdicts.sql("ifNull(since, nan)", "told")

    def __call__(self, hits: Sequence[Hit]) -> list[Verdict]:
        """The verdicts, in order."""
        execute(self._client, f"TRUNCATE TABLE {_DATABASE}.asked")
        given = [
            (n, "open", clean(agent or "", 512), address, *rest, bool(address or agent is not None))
            for n, (agent, address, *rest) in enumerate(hits)
        ]
        self._client.insert(f"{_DATABASE}.asked", given)
        columns = ", ".join(self._sql.columns)
        found = f"SELECT *, {self._sql.found} FROM {_DATABASE}.asked"
        asked = f"WITH {self._sql.given} SELECT {columns} FROM ({found}) ORDER BY n"
        return [Verdict(*found) for found in rows(self._client, asked)]


@contextmanager
def judging(
    rules: Path | None = None, networks: Mapping[str, Iterable[str]] | None = None
) -> Iterator[Judge]:
    """Our rules with those of a directory, and networks that replace the shipped ones by name.

    Raises Misfit where these cannot be used, or a test of the directory's rules does not hold.
    """
    with tempfile.TemporaryDirectory(prefix="heliograph-") as place:
        client = open_embedded(Path(place) / "store")
        try:
            migrate(client, _DATABASE)
            verdicts = Verdicts(_DATABASE, rules=rules)
            verdicts.prepare(client, networks or {}, tried=True)
            verdicts.install(client, networks or {})
            execute(client, _TABLE)
            yield Judge(client, verdicts)
        finally:
            client.close()
