"""compose.yaml without a container engine: its shape, and its Kafka settings on a real broker."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka.admin import AdminClient, ConfigResource

from tests.integration.deployment import KINDS, ROOT, settings_of
from tests.kafka_broker import Broker, running

TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("collector", "consumer", "migrate")
# What differs between the container and a test's loopback.
ADDRESSES = {
    "node.id",
    "process.roles",
    "listeners",
    "advertised.listeners",
    "controller.quorum.voters",
    "controller.listener.names",
    "listener.security.protocol.map",
    "inter.broker.listener.name",
    "log.dirs",
}


def kafka_settings() -> dict[str, str]:
    """The broker's settings as its image derives them from the variables."""
    return {
        name.removeprefix("KAFKA_").lower().replace("_", "."): str(value)
        for name, value in SERVICES["kafka"]["environment"].items()
        if name.startswith("KAFKA_")
    }


def test_services_and_images() -> None:
    assert SERVICES.keys() == {*OURS, "kafka", "clickhouse"}
    assert SERVICES["kafka"]["image"] == "apache/kafka:4.3.1"
    assert re.fullmatch(
        r"clickhouse/clickhouse-server:\d+(\.\d+){3}", SERVICES["clickhouse"]["image"]
    )
    for name in OURS:
        build = SERVICES[name]["build"]
        assert (ROOT / build["context"] / build["dockerfile"]).is_file()
        assert SERVICES[name]["command"][0] == "heliograph"
    commands = [SERVICES[name]["command"][1] for name in OURS]
    assert commands == ["collect", "consume", "migrate"]


def test_what_is_waited_for_can_come_true() -> None:
    waits = {
        name: {other: rule["condition"] for other, rule in service.get("depends_on", {}).items()}
        for name, service in SERVICES.items()
    }
    assert waits["consumer"] == {
        "kafka": "service_healthy",
        "migrate": "service_completed_successfully",
    }
    assert waits["migrate"] == {"clickhouse": "service_healthy"}
    assert waits["collector"] == {}, "the edge starts without Kafka"
    for waited in waits.values():
        for name, condition in waited.items():
            assert name in SERVICES
            if condition == "service_healthy":
                assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert SERVICES["migrate"]["restart"] == "no"


def test_servers_are_checked_and_given_time_to_end() -> None:
    for name, service in SERVICES.items():
        assert re.fullmatch(r"[3-6]0s", service["stop_grace_period"])
        if name != "migrate":
            assert service["healthcheck"]["test"][0] == "CMD"
            assert service["restart"] == "unless-stopped"
    for name in ("collector", "consumer"):
        (address,) = re.findall(r"http://[^\"]+", SERVICES[name]["healthcheck"]["test"][-1])
        port = SERVICES[name]["environment"]["HELIOGRAPH_HEALTH_PORT"]
        assert address == f"http://127.0.0.1:{port}/readyz"


def test_state_is_on_declared_volumes() -> None:
    mounts = {
        name: [volume.split(":") for volume in service.get("volumes", [])]
        for name, service in SERVICES.items()
    }
    assert mounts["collector"] == [
        ["collector", SERVICES["collector"]["environment"]["HELIOGRAPH_DATA"]]
    ]
    assert mounts["kafka"] == [["kafka", kafka_settings()["log.dirs"]]]
    assert mounts["clickhouse"] == [["clickhouse", "/var/lib/clickhouse"]]
    assert {mount[0] for some in mounts.values() for mount in some} == COMPOSE["volumes"].keys()


def test_only_the_edge_is_reachable_from_outside() -> None:
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            if name == "collector":
                assert port == f"8080:{service['environment']['HELIOGRAPH_PORT']}"
            else:
                assert port.startswith("127.0.0.1:"), (name, port)


def test_our_containers_are_confined() -> None:
    for name in OURS:
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["tmpfs"] == ["/tmp"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service


def substituted(value: str, env: dict[str, str]) -> str:
    """A value as compose reads it: ${NAME:-default} and ${NAME:?message}."""

    def fill(match: re.Match[str]) -> str:
        name, how, rest = match.groups()
        given = env.get(name)
        assert given or how == "-", f"{name}: {rest}"
        return given or rest

    return re.sub(r"\$\{(\w+):([-?])([^}]*)\}", fill, value)


def environment(name: str, **env: str) -> dict[str, str]:
    """The variables of one of our containers, with what the user has set."""
    given = SERVICES[name]["environment"]
    return {key: substituted(value, env | {"CLICKHOUSE_PASSWORD": "pw"}) for key, value in
            given.items()}  # fmt: skip


def test_commands_understand_their_settings() -> None:
    commands = {SERVICES[name]["command"][1]: name for name in OURS}
    assert commands.keys() == KINDS.keys()
    collect, consume, migrate = (settings_of(c, environment(commands[c])) for c in KINDS)
    assert collect.kafka == consume.kafka == ("kafka:9092",)
    assert collect.topic == consume.topic
    assert consume.clickhouse == migrate.clickhouse == "http://heliograph:pw@clickhouse:8123"
    assert (collect.public_url, collect.trusted_proxies) == ("http://127.0.0.1:8080", ())


def test_the_users_settings_are_passed_on() -> None:
    mine = {
        "HELIOGRAPH_PUBLIC_URL": "https://example.org/px",
        "HELIOGRAPH_TRUSTED_PROXIES": "172.16.0.0/12,10.0.0.1",
    }
    collect = settings_of("collect", environment("collector", **mine))
    assert collect.public_url == mine["HELIOGRAPH_PUBLIC_URL"]
    assert len(collect.trusted_proxies) == 2


def test_addresses_name_services() -> None:
    for name in OURS:
        environment = SERVICES[name]["environment"]
        if "HELIOGRAPH_KAFKA" in environment:
            advertised = kafka_settings()["advertised.listeners"]
            assert advertised == f"PLAINTEXT://{environment['HELIOGRAPH_KAFKA']}"
        if "HELIOGRAPH_CLICKHOUSE" in environment:
            assert re.search(r"@clickhouse:8123$", environment["HELIOGRAPH_CLICKHOUSE"])


def test_no_password_is_written_down() -> None:
    given = re.findall(r"(?m)^ *\w*PASSWORD: *(.+)$", TEXT) + re.findall(r"heliograph:(.+)@", TEXT)
    assert len(given) == 2
    assert all(re.fullmatch(r"\$\{CLICKHOUSE_PASSWORD:\?[^}]+\}", value) for value in given)


@pytest.fixture
def composed_broker(tmp_path: Path) -> Iterator[Broker]:
    extra = {name: value for name, value in kafka_settings().items() if name not in ADDRESSES}
    yield from running(tmp_path / "kafka", extra)


@pytest.mark.kafka
def test_kafka_takes_the_settings(composed_broker: Broker) -> None:
    admin = AdminClient({"bootstrap.servers": composed_broker.bootstrap})
    (answer,) = admin.describe_configs([ConfigResource("BROKER", "1")]).values()
    taken = {name: entry.value for name, entry in answer.result(30).items()}
    assert composed_broker.extra
    assert {name: taken.get(name) for name in composed_broker.extra} == composed_broker.extra
    assert ADDRESSES - {"controller.quorum.voters"} <= taken.keys()
    hours, size = int(taken["log.retention.hours"]), int(taken["log.retention.bytes"])
    assert 24 <= hours <= 24 * 14
    assert 2**30 <= size <= 2**33
    assert int(taken["offsets.retention.minutes"]) > 60 * hours
