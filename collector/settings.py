"""Every setting of the collector: option, `HELIOGRAPH_` variable, default and help in one place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from collector.client import TrustedProxies
from schemas.consent import Consent, Mode
from schemas.kafka import KafkaSettings
from schemas.settings import load as load_settings

_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
_Port = Annotated[int, Meta(ge=0, le=65_535)]


class CollectorSettings(KafkaSettings, frozen=True, kw_only=True):
    """The settings of `heliograph collect`, its workers and its shipper."""

    data: Annotated[Path, Meta(description="the directory of keys, journal and store")] = Path(
        "data"
    )
    host: Annotated[str, Meta(description="the address to listen on")] = "127.0.0.1"
    port: Annotated[_Port, Meta(description="the port to listen on (0: any free one)")] = 8080
    workers: Annotated[int, Meta(description="worker processes on the port", ge=1, le=256)] = 1
    health_host: Annotated[str, Meta(description="the address of health and metrics")] = "127.0.0.1"
    health_port: Annotated[
        _Port, Meta(description="the port of /healthz, /readyz and /metrics (0: any free one)")
    ] = 8081
    public_url: Annotated[
        str,
        Meta(description="what every URL begins with, as the mails' readers see it; a path prefix "
             "is allowed (default: http at host and port)"),
    ] = ""  # fmt: skip
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(description="the networks of proxies whose X-Forwarded-For is believed, e.g. "
             "127.0.0.1,10.0.0.0/8"),
    ] = ()  # fmt: skip
    keys: Annotated[Path | None, Meta(description="the key file (default: DATA/keys.json)")] = None
    api_key_file: Annotated[
        Path | None, Meta(description="the file of the API key (default: DATA/api.key)")
    ] = None
    consent: Annotated[
        Consent,
        Meta(description="the most that is kept of hits, also of tokens minted before it was set"),
    ] = "full"
    anonymous_per_minute: Annotated[
        int,
        Meta(description="anonymous hits of a campaign that are recorded in a minute, opens and "
             "clicks each; a worker records its part of them", ge=1),
    ] = 6000  # fmt: skip
    journal_max_bytes: Annotated[
        int, Meta(description="the most that all journals may take on disk, in bytes", ge=1 << 20)
    ] = 8 << 30
    journal_sync: Annotated[
        Literal["interval", "always", "never"],
        Meta(description="when events survive a power loss: after journal_sync_ms, before they "
             "are answered, or when the kernel likes"),
    ] = "interval"  # fmt: skip
    journal_sync_ms: Annotated[
        int, Meta(description="the power-loss window in milliseconds", ge=1, le=60_000)
    ] = 500
    journal_segment_bytes: Annotated[
        int, Meta(description="the size of a journal's segment in bytes", ge=1 << 16, le=1 << 30)
    ] = 64 << 20
    journal_keep_hours: Annotated[
        float, Meta(description="how long shipped segments are kept, in hours", ge=0)
    ] = 24.0
    sends_max_bytes: Annotated[
        int, Meta(description="the largest body of POST /v1/sends in bytes", ge=1)
    ] = 256 << 20
    optout_topic: Annotated[
        str,
        Meta(description="the compacted topic by which collectors tell each other of opt-outs",
             pattern=r"^[A-Za-z0-9._-]{1,249}$"),
    ] = "heliograph.optouts"  # fmt: skip
    drain_seconds: Annotated[
        float, Meta(description="how long a shutdown may take, in seconds", gt=0, le=10)
    ] = 10.0
    topic_partitions: Annotated[
        int, Meta(description="the partitions of a topic that has to be made", ge=1)
    ] = 6
    topic_replication: Annotated[
        int, Meta(description="the replicas of a topic that has to be made", ge=1)
    ] = 1
    topic_retention_hours: Annotated[
        float, Meta(description="how long a topic that has to be made keeps events, in hours; of "
                    "one that is there it is the topic's retention.ms", ge=1)
    ] = 168.0  # fmt: skip

    def check(self) -> None:
        """Raise ValueError where fields contradict each other."""
        super().check()
        try:
            TrustedProxies(self.trusted_proxies)
        except ValueError as error:
            raise ValueError(f"trusted_proxies: {error}") from None
        if self.public_url:
            _check_url(self.public_url)
        if self.journal_max_bytes < (2 * self.workers + 2) * self.journal_segment_bytes:
            raise ValueError(
                "journal_max_bytes must hold two segments of journal_segment_bytes a worker, "
                "and two more"
            )

    @property
    def mode(self) -> Mode:
        """The most restrictive consent mode is this one, or what campaign and recipient allow."""
        return Mode.of(self.consent)

    @property
    def journal(self) -> Path:
        """The directory of the journals."""
        return self.data / "journal"

    @property
    def key_file(self) -> Path:
        """The path of the key file."""
        return self.keys or self.data / "keys.json"

    @property
    def api_key_path(self) -> Path:
        """The path of the API key's file."""
        return self.api_key_file or self.data / "api.key"

    def url(self, port: int) -> str:
        """What every URL begins with when the edge listens on a port; no slash at its end."""
        if self.public_url:
            return self.public_url.rstrip("/")
        return f"http://{host_port(_ANY_ADDRESS.get(self.host, self.host), port)}"


def host_port(host: str, port: int) -> str:
    """An address and a port as a URL writes them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    plain = url.isascii() and url.isprintable() and not set(url) & set(' "<>\\^`{|}')
    if not plain or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("public_url must be an absolute http or https URL in ASCII")
    if parts.query or parts.fragment or "@" in parts.netloc or "?" in url or "#" in url:
        raise ValueError("public_url may have a path, but no user name, query or fragment")
    _ = parts.port


def load(env: Mapping[str, str], options: Mapping[str, Any] | None = None) -> CollectorSettings:
    """The collector's settings; raises SettingsError. Only entry points call this."""
    return load_settings(CollectorSettings, env, options)
