"""The consumer's settings."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from schemas.settings import Settings


class ConsumerSettings(Settings, frozen=True, kw_only=True):
    """All that a consumer is told, embedded (journal and chDB) or remote (Kafka and ClickHouse)."""

    data: Annotated[Path, Meta(description="data directory of the one-machine mode")] = Path("data")
    kafka: Annotated[tuple[str, ...], Meta(description="bootstrap servers, HOST:PORT,…")] = ()
    topic: Annotated[str, Meta(description="topic of the events")] = "heliograph.events"
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
    ] = 200_000
    batch_bytes: Annotated[
        int, Meta(description="bytes after which a batch closes", ge=1 << 20, le=1 << 28)
    ] = 64 << 20
    batch_seconds: Annotated[
        float, Meta(description="age at which a batch closes, in seconds", gt=0, le=60)
    ] = 1.0
    retention_days: Annotated[
        int, Meta(description="days that events are kept; 0: for ever", ge=0)
    ] = 0
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
    kafka_security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        Meta(description="how to talk to Kafka"),
    ] = "PLAINTEXT"
    kafka_sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], Meta(description="SASL mechanism")
    ] = "PLAIN"
    kafka_sasl_username: Annotated[str, Meta(description="SASL user name")] = ""
    kafka_sasl_password: Annotated[str, Meta(description="SASL password")] = ""
    kafka_ssl_cafile: Annotated[str, Meta(description="CA file for Kafka over TLS")] = ""
    kafka_ssl_certfile: Annotated[str, Meta(description="client certificate")] = ""
    kafka_ssl_keyfile: Annotated[str, Meta(description="key of the client certificate")] = ""
