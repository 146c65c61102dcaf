"""How both sides reach Kafka: settings declared once, turned into aiokafka's arguments.

A record of the topic holds a block of NDJSON lines: key = journal id (ASCII), so that one
partition holds a journal in order; headers `first_seq` and `count` (decimal ASCII): the lines'
seqs run from first_seq without a gap.
"""

import re
import ssl
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from schemas.settings import Settings

FIRST_SEQ: Final = "first_seq"
COUNT: Final = "count"
#: The longest value of a record, in bytes; with its head it stays below Kafka's default of 1 MiB.
MAX_RECORD: Final = 900_000

_BOOTSTRAP: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):\d{1,5}")


class KafkaSettings(Settings, frozen=True, kw_only=True):
    """The settings of a Kafka client. The password is never shown by repr()."""

    kafka: Annotated[
        tuple[str, ...], Meta(description="Kafka brokers to start from, HOST:PORT,…")
    ] = ()
    topic: Annotated[
        str, Meta(description="the topic of the events", pattern=r"^[A-Za-z0-9._-]{1,249}$")
    ] = "heliograph.events"
    kafka_security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        Meta(description="how to connect to Kafka"),
    ] = "PLAINTEXT"
    kafka_sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"],
        Meta(description="how to log in to Kafka"),
    ] = "PLAIN"
    kafka_sasl_username: Annotated[str, Meta(description="the user name for Kafka")] = ""
    kafka_sasl_password: Annotated[str, Meta(description="the password for Kafka")] = ""
    kafka_ssl_cafile: Annotated[
        Path | None, Meta(description="the CA certificates to trust (the system's by default)")
    ] = None
    kafka_ssl_certfile: Annotated[
        Path | None, Meta(description="a client certificate for Kafka")
    ] = None
    kafka_ssl_keyfile: Annotated[Path | None, Meta(description="the client certificate's key")] = (
        None
    )

    def check(self) -> None:
        """Raise ValueError where fields contradict each other."""
        for server in self.kafka:
            if not _BOOTSTRAP.fullmatch(server):
                raise ValueError(f"kafka: {server!r} is not HOST:PORT")
        if self.kafka_security_protocol.startswith("SASL") and not self.kafka_sasl_username:
            raise ValueError(
                f"kafka_security_protocol {self.kafka_security_protocol} needs kafka_sasl_username"
            )
        if self.kafka_ssl_keyfile and not self.kafka_ssl_certfile:
            raise ValueError("kafka_ssl_keyfile needs kafka_ssl_certfile")

    def __repr__(self) -> str:
        values = ((name, getattr(self, name)) for name in self.__struct_fields__)
        shown = (
            f"{name}={'…' if name == 'kafka_sasl_password' and value else repr(value)}"
            for name, value in values
        )
        return f"{type(self).__name__}({', '.join(shown)})"

    def __rich_repr__(self) -> Any:
        yield repr(self)

    def client_options(self) -> dict[str, Any]:
        """The keyword arguments of every aiokafka client; OSError if a certificate is unusable."""
        options: dict[str, Any] = {
            "bootstrap_servers": list(self.kafka),
            "security_protocol": self.kafka_security_protocol,
        }
        if self.kafka_security_protocol.startswith("SASL"):
            options["sasl_mechanism"] = self.kafka_sasl_mechanism
            options["sasl_plain_username"] = self.kafka_sasl_username
            options["sasl_plain_password"] = self.kafka_sasl_password
        if self.kafka_security_protocol.endswith("SSL"):
            context = ssl.create_default_context(cafile=self.kafka_ssl_cafile)
            if self.kafka_ssl_certfile:
                context.load_cert_chain(self.kafka_ssl_certfile, self.kafka_ssl_keyfile)
            options["ssl_context"] = context
        return options


def let_go(client: Any) -> None:
    """Let a client of aiokafka be closed whose metadata task an error has ended: closing raises it.

    uvloop raises RuntimeError where one writes to a connection that is just closed, aiokafka
    expects OSError, and the task ends: https://github.com/aio-libs/aiokafka/issues/712.
    """
    task = client._sync_task
    if task is not None and task.done():
        client._sync_task = None
        if not task.cancelled():
            task.exception()  # has been told
