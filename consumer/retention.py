"""How long what is stored is kept, by kind: the engine deletes what is older, and an insert leaves
out what it would delete at once.

Opt-outs are kept for ever: they are what keeps others from being recorded.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from clickhouse_connect.driver.client import Client

from consumer.settings import KINDS, ConsumerSettings
from consumer.store import execute, rows

_RULE: Final = re.compile(r"toIntervalDay\((\d+)\)([^,]*?WHERE[^)]*\)|)")
_TTL: Final = re.compile(r" TTL (toDateTime\(ts\).*?)(?: SETTINGS|$)")
_RAW_TTL: Final = re.compile(r"`raw` String[^,]*? TTL at \+ toIntervalDay\((\d+)\)")


@dataclass(frozen=True)
class Retention:
    """Days by kind of event, without those kept for ever; days of the dead letter's text."""

    days: Mapping[str, int] = field(default_factory=dict)
    dead_letter: int = 0

    @classmethod
    def of(cls, settings: ConsumerSettings) -> "Retention":
        """As the settings say."""
        given = dict.fromkeys(KINDS, settings.retention_days) | settings.kept_days
        kinds = {kind: given[name] for name, found in KINDS.items() for kind in found}
        dead = settings.kept_days.get("dead_letter", 30)
        return cls({kind: days for kind, days in kinds.items() if days}, dead)

    @classmethod
    def stored(cls, client: Client, database: str) -> "Retention":
        """As the store has it."""
        made = _definition(client, database, "events")
        found = _TTL.search(made)
        days: dict[str, int] = {}
        for number, whose in _RULE.findall(found[1]) if found else ():
            every = [kind for of in KINDS.values() for kind in of]
            days |= dict.fromkeys(re.findall(r"'(\w+)'", whose) or [*every, "?"], int(number))
        raw = _RAW_TTL.search(_definition(client, database, "dead_letter"))
        return cls(days, int(raw[1]) if raw else 0)

    @property
    def shortest(self) -> int:
        """The days after which something may be gone; 0: never."""
        return min(self.days.values(), default=0)

    def young(self, now: float) -> str:
        """SQL of whether a staged event is not older than it is kept."""
        held = [
            f"(kind NOT IN ({kinds}) OR ts > {int((now - days * 86400) * 1000)})"
            for days, kinds in self._groups()
        ]
        return f"({' AND '.join(held)})" if held else "1"

    def apply(self, client: Client, database: str, cluster: str = "") -> None:
        """Let the tables keep so long; changes a table only if it must."""
        there = self.stored(client, database)
        where = f" ON CLUSTER '{cluster}'" if cluster else ""
        alter = f"ALTER TABLE {database}.{{}}{'_local' if cluster else ''}{where}"
        if there.days != self.days:
            rules = ", ".join(
                f"toDateTime(ts) + toIntervalDay({days}) DELETE WHERE kind IN ({kinds})"
                for days, kinds in self._groups()
            )
            what = f"MODIFY TTL {rules}" if rules else "REMOVE TTL"
            execute(client, f"{alter.format('events')} {what}")
        if there.dead_letter != self.dead_letter:
            # Where a line stood stays for the audit.
            for column, codec in (("raw", "CODEC(ZSTD(3))"), ("reason", "")):
                what = f"MODIFY COLUMN {column} "
                what += f"String {codec} TTL at + toIntervalDay({self.dead_letter})"
                what = what if self.dead_letter else f"MODIFY COLUMN {column} REMOVE TTL"
                execute(client, f"{alter.format('dead_letter')} {what}")

    def _groups(self) -> list[tuple[int, str]]:
        """The days, and as SQL the kinds that are kept so long."""
        groups: dict[int, list[str]] = {}
        for kind, days in self.days.items():
            groups.setdefault(days, []).append(f"'{kind}'")
        return [(days, ", ".join(kinds)) for days, kinds in groups.items()]


def _definition(client: Client, database: str, table: str) -> str:
    made = str(rows(client, f"SHOW CREATE TABLE {database}.{table}")[0][0])
    if "ENGINE = Distributed(" in made:
        return _definition(client, database, f"{table}_local")
    return " ".join(made.split())
