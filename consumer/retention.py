"""How long what is stored is kept, by kind: the engine deletes what is older, and an insert leaves
out what it would delete at once.

Opt-outs are kept for ever: they are what keeps others from being recorded. In hygiene mode hits are
kept for a day, and the date of a recipient's last open (see `hygiene`). The command line reads
from here too, so the driver is imported only where the store is changed.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from consumer.settings import HYGIENE, KINDS, ConsumerSettings

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_RULE: Final = re.compile(r"toInterval(Day|Hour)\((\d+)\)([^,]*?WHERE[^)]*\)|)")
_TTL: Final = re.compile(r" TTL (toDateTime\(ts\).*?)(?: SETTINGS|$)")
_RAW_TTL: Final = re.compile(r"`raw` String[^,]*? TTL at \+ toIntervalDay\((\d+)\)")
_LAST_OPEN_TTL: Final = re.compile(r" TTL .*?toIntervalDay\((\d+)\)")
_BEHIND: Final = re.compile(r"ENGINE = Distributed\([^,]+, [^,]+, '?(\w+)'?")
_HITS: Final = tuple(kind for name in HYGIENE for kind in KINDS[name])


@dataclass(frozen=True)
class Retention:
    """Days by kind of event, without those kept for ever; days of the dead letter's text; whether
    hits leave the date of the last open, and the days that it is kept.
    """

    days: Mapping[str, int] = field(default_factory=dict)
    dead_letter: int = 0
    hygiene: bool = False
    last_open: int = 0

    @classmethod
    def of(cls, settings: ConsumerSettings) -> "Retention":
        """As the settings say."""
        given = dict.fromkeys(KINDS, settings.retention_days) | settings.kept_days
        if settings.hygiene:
            given |= dict.fromkeys(HYGIENE, 1)
        kinds = {kind: given[name] for name, found in KINDS.items() for kind in found}
        days = {kind: days for kind, days in kinds.items() if days}
        dead = settings.kept_days.get("dead_letter", 30)
        last_open = settings.kept_days.get("last_open", settings.retention_days)
        return cls(days, dead, settings.hygiene, last_open)

    @classmethod
    def stored(cls, client: "Client", database: str) -> "Retention":
        """As the store has it."""
        from consumer.store import rows

        return cls.told(
            lambda table: str(rows(client, f"SHOW CREATE TABLE {database}.{table}")[0][0])
        )

    @classmethod
    def told(cls, definition: Callable[[str], str]) -> "Retention":
        """As the definitions of the store's tables say, each asked by its name."""
        found = _TTL.search(_made(definition, "events"))
        days: dict[str, int] = {}
        hygiene = False
        for unit, number, whose in _RULE.findall(found[1]) if found else ():
            every = [kind for of in KINDS.values() for kind in of]
            kinds = re.findall(r"'(\w+)'", whose) or [*every, "?"]
            days |= dict.fromkeys(kinds, int(number) // (24 if unit == "Hour" else 1))
            hygiene |= unit == "Hour"
        raw = _RAW_TTL.search(_made(definition, "dead_letter"))
        last = _LAST_OPEN_TTL.search(_made(definition, "last_opens"))
        return cls(days, int(raw[1]) if raw else 0, hygiene, int(last[1]) if last else 0)

    @property
    def shortest(self) -> int:
        """The days after which something may be gone; 0: never."""
        return min(self.days.values(), default=0)

    @property
    def window(self) -> int:
        """The days back for which it is known who read; 0: all."""
        kept = dict(self.days)
        if self.hygiene:
            kept = {kind: days for kind, days in kept.items() if kind not in _HITS}
            kept |= {"last_open": self.last_open} if self.last_open else {}
        return min(kept.values(), default=0)

    def young(self, now: float) -> str:
        """SQL of whether a staged event is not older than it is kept."""
        held = [
            f"(kind NOT IN ({kinds}) OR ts > {int((now - days * 86400) * 1000)})"
            for days, _, kinds in self._groups()
        ]
        return f"({' AND '.join(held)})" if held else "1"

    def apply(self, client: "Client", database: str, cluster: str = "") -> None:
        """Let the tables keep so long; changes a table only if it must."""
        from consumer import hygiene
        from consumer.store import execute

        there = self.stored(client, database)
        where = f" ON CLUSTER '{cluster}'" if cluster else ""
        alter = f"ALTER TABLE {database}.{{}}{'_local' if cluster else ''}{where}"
        if self.hygiene:  # every time: what another consumer took in without it has left no date
            hygiene.fold(client, database, cluster=bool(cluster))
        if (there.days, there.hygiene) != (self.days, self.hygiene):
            rules = ", ".join(
                f"toDateTime(ts) + {span} DELETE WHERE kind IN ({kinds})"
                for _, span, kinds in self._groups()
            )
            what = f"MODIFY TTL {rules}" if rules else "REMOVE TTL"
            execute(client, f"{alter.format('events')} {what}")
        if there.last_open != self.last_open:
            rule = f"MODIFY TTL greatest(day, seen) + toIntervalDay({self.last_open})"
            execute(client, f"{alter.format('last_opens')} "
                            f"{rule if self.last_open else 'REMOVE TTL'}")  # fmt: skip
        if there.dead_letter != self.dead_letter:
            # Where a line stood stays for the audit.
            for column, codec in (("raw", "CODEC(ZSTD(3))"), ("reason", "")):
                what = f"MODIFY COLUMN {column} "
                what += f"String {codec} TTL at + toIntervalDay({self.dead_letter})"
                what = what if self.dead_letter else f"MODIFY COLUMN {column} REMOVE TTL"
                execute(client, f"{alter.format('dead_letter')} {what}")

    def _groups(self) -> list[tuple[int, str, str]]:
        """The days, and as SQL these and the kinds that are kept so long. By hours is the sign of
        hygiene mode, which so begins and ends with the rule itself.
        """
        groups: dict[tuple[int, str], list[str]] = {}
        for kind, days in self.days.items():
            by_hours = self.hygiene and kind in _HITS
            span = f"toIntervalHour({days * 24})" if by_hours else f"toIntervalDay({days})"
            groups.setdefault((days, span), []).append(f"'{kind}'")
        return [(*length, ", ".join(kinds)) for length, kinds in groups.items()]


def _made(definition: Callable[[str], str], table: str) -> str:
    made = " ".join(definition(table).split())
    found = _BEHIND.search(made)
    return " ".join(definition(found[1]).split()) if found else made
