"""The consumer's settings."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta

from schemas.kafka import KafkaSettings

#: What `retention` may name, and the kinds of events that it means.
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "send": ("sent", "cancelled", "bounced"),
    "open": ("open",),
    "click": ("click",),
    "receipt": ("receipt",),
}
#: Of these hygiene mode keeps a day.
HYGIENE: Final = ("open", "click", "receipt")
#: And what is no event: the dates of hygiene mode.
_NAMED: Final = (*KINDS, "last_open", "dead_letter")
_KEPT: Final = re.compile(r"(\w+)=(\d{1,4})d")


class ConsumerSettings(KafkaSettings, frozen=True, kw_only=True):
    """All that a consumer is told, embedded (journal and chDB) or remote (Kafka and ClickHouse)."""

    data: Annotated[Path, Meta(description="data directory of the one-machine mode")] = Path("data")
    group: Annotated[str, Meta(description="consumer group")] = "heliograph"
    clickhouse: Annotated[str, Meta(description="URL of ClickHouse, with user and password")] = ""
    database: Annotated[
        str, Meta(description="database of the tables", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    ] = "heliograph"
    cluster: Annotated[
        str, Meta(description="ClickHouse cluster; empty: one node", pattern=r"^[A-Za-z0-9_.-]*$")
    ] = ""
    clickhouse_timeout: Annotated[
        float, Meta(description="seconds to wait for ClickHouse's answer", gt=0)
    ] = 60.0
    batch_rows: Annotated[
        int, Meta(description="events after which a batch closes", ge=1, le=1_000_000)
    ] = 400_000
    batch_bytes: Annotated[
        int, Meta(description="bytes after which a batch closes", ge=1 << 20, le=1 << 28)
    ] = 128 << 20
    batch_seconds: Annotated[
        float, Meta(description="age at which a batch closes, in seconds", gt=0, le=60)
    ] = 1.0
    retention_days: Annotated[
        int, Meta(description="days that events are kept; 0: for ever", ge=0, le=9125)
    ] = 0
    retention: Annotated[
        tuple[str, ...],
        Meta(description="of some kinds other days, e.g. open=400d,click=400d,send=730d,"
             "receipt=400d,last_open=1095d,dead_letter=30d; 0d: for ever"),
    ] = ()  # fmt: skip
    hygiene: Annotated[
        bool,
        Meta(description="of hits keep a day, and then no more than the date of a recipient's last "
             "open, for keeping lists clean; the same for all consumers"),
    ] = False  # fmt: skip
    rules: Annotated[str, Meta(description="directory with rules and networks of one's own")] = ""
    sql_port: Annotated[
        int, Meta(description="port of the read-only SQL port (embedded); 0: any", ge=0, le=65535)
    ] = 0
    health_host: Annotated[str, Meta(description="address of the health port")] = "127.0.0.1"
    health_port: Annotated[
        int, Meta(description="port of /healthz, /readyz, /metrics; 0: any", ge=0, le=65535)
    ] = 9090
    journal_keep_hours: Annotated[
        float, Meta(description="hours that taken journal segments are kept", ge=0)
    ] = 24.0
    journal_max_bytes: Annotated[
        int, Meta(description="the most that all journals may take on disk, in bytes", ge=1 << 20)
    ] = 8 << 30

    def check(self) -> None:
        """Raise ValueError where fields contradict each other."""
        super().check()
        for text in self.retention:
            found = _KEPT.fullmatch(text)
            if not found or found[1] not in _NAMED or int(found[2]) > 9125:
                names = ", ".join(_NAMED)
                raise ValueError(f"retention {text!r} is not KIND=DAYSd with one of {names}")
            if self.hygiene and found[1] in HYGIENE:
                raise ValueError(
                    f"hygiene keeps opens, clicks and receipts a day: no retention {text!r}"
                )
        if len(self.kept_days) < len(self.retention):
            raise ValueError(f"retention names a kind twice: {','.join(self.retention)!r}")

    @property
    def kept_days(self) -> dict[str, int]:
        """What `retention` says: days by name, 0 for ever."""
        found = (text.partition("=") for text in self.retention)
        return {name: int(days.rstrip("d")) for name, _, days in found}
