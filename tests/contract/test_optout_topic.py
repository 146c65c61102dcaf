"""Opt-outs across machines, by a real Kafka: two collectors with one key file."""

import asyncio
import contextlib
import http.client
import re
import shutil
import time
import uuid
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from collector import topic
from collector.exchange import Exchange
from collector.optouts import Optouts
from collector.settings import CollectorSettings
from schemas import keyring
from schemas.optout import Sealer
from tests.collecting import Collector, collecting, mint, settings, wait_for
from tests.contract.shipping import read_topic
from tests.kafka_broker import Broker
from tests.unit.mint_kit import heliograph

pytestmark = pytest.mark.kafka


@pytest.fixture
def name() -> str:
    return f"optouts-{uuid.uuid4().hex[:8]}"


def machine(home: Path, bootstrap: str, name: str, keys: Path | None = None) -> CollectorSettings:
    """A collector's data directory, under the keys of another."""
    if keys:
        home.mkdir()
        shutil.copy(keys / "keys.json", home / "keys.json")
    return settings(home, kafka=(bootstrap,), topic=f"{name}-events", optout_topic=name)


def ask(collector: Collector, method: str, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", collector.port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
        return answer.status


def hits(collector: Collector, result: str) -> float:
    page = collector.ask("/metrics")[1]
    found = re.findall(rf'hits_total\{{kind="open",.*result="{result}"\}} ([\d.]+)', page)
    return sum(map(float, found))


def obeys(collector: Collector, path: str, result: str) -> bool:
    before = hits(collector, result)
    ask(collector, "GET", path)
    return hits(collector, result) > before


def known(wanted: CollectorSettings) -> set[str]:
    secret = keyring.load(wanted.key_file).content.hash_secret
    found = Optouts(wanted.data / "optouts", secret)
    found.refresh()
    names = {"kåre", "r2", "late", "early", "of a", "of b"}
    return set(filter(found.recipients.has, names))


def test_an_opt_out_reaches_all_machines_and_new_ones(
    kafka_broker: Broker, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    first = machine(tmp_path / "a", kafka_broker.bootstrap, name)
    minted = mint(first.data, "", "kåre")
    second = machine(tmp_path / "b", kafka_broker.bootstrap, name, first.data)
    with collecting(first) as a, collecting(second) as b:
        assert obeys(b, minted.pixel_url, "recorded")
        assert ask(a, "POST", minted.optout_url) == 200
        wait_for(lambda: obeys(b, minted.pixel_url, "opted_out"))
        # Taken back on the other one.
        secret = keyring.load(second.key_file).content.hash_secret
        mine = Optouts(second.data / "optouts", secret)
        mine.append(mine.seal(["kåre"], False, int(time.time() * 1000)))
        wait_for(lambda: obeys(a, minted.pixel_url, "recorded"))
        mine.append(mine.seal(["kåre", "r2"], True, int(time.time() * 1000)))
        wait_for(lambda: obeys(a, minted.pixel_url, "opted_out"))
    records = asyncio.run(read_topic(kafka_broker, name))
    last = {record.key: record.value for record in records}
    sealer = Sealer(secret)
    assert {sealer.open(value)[:2] for value in last.values()} == {("kåre", True), ("r2", True)}
    assert not any("kåre".encode() in record.value + record.key for record in records)
    assert asyncio.run(policy(kafka_broker, name)) == "compact"
    # A new machine with an empty disk knows them before it records anything.
    third = machine(tmp_path / "c", kafka_broker.bootstrap, name, first.data)
    with collecting(third) as c:
        ask(c, "GET", minted.pixel_url)
        assert (hits(c, "opted_out"), hits(c, "recorded")) == (1, 0)
    assert known(third) == {"kåre", "r2"}
    # And so does whoever has the key file.
    argv = ("optout", "list", "--kafka", kafka_broker.bootstrap, "--keys", third.key_file)
    capfd.readouterr()
    assert heliograph(*argv, "--optout-topic", name) == 0
    assert re.fullmatch(
        r"recipient,since\n(kåre,20\S+Z\nr2|r2,20\S+Z\nkåre),20\S+Z\n", capfd.readouterr().out
    )
    assert heliograph(*argv, "--optout-topic", "none") == 1
    assert "there is no topic none" in capfd.readouterr().err


async def policy(broker: Broker, name: str) -> str:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    (told,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    await admin.close()
    found = {entry[0]: entry[1] for entry in told.resources[0][4]}
    return str(found["cleanup.policy"])


def test_what_was_made_while_kafka_was_away_is_sent_later(
    kafka_broker: Broker, tmp_path: Path, name: str
) -> None:
    """And a later entry holds over an earlier one, wherever each was made."""
    first = machine(tmp_path / "a", kafka_broker.bootstrap, name)
    second = machine(tmp_path / "b", kafka_broker.bootstrap, name, first.data)
    secret = keyring.load(first.key_file).content.hash_secret
    for wanted, out in ((first, True), (second, False)):
        some = Optouts(wanted.data / "optouts", secret)
        some.append(some.seal(["early"], not out, 1000))
        some.append(some.seal(["late"], out, 1000 + out))
        some.append(some.seal([f"of {wanted.data.name}"], True, 1000))
    with collecting(first), collecting(second):
        wait_for(lambda: known(first) == known(second) == {"late", "early", "of a", "of b"})


async def test_a_topic_that_forgets_is_told(
    kafka_broker: Broker, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Brokers that make topics by themselves make such ones."""
    wanted = machine(tmp_path / "a", kafka_broker.bootstrap, name)
    plain = NewTopic(name, 1, 1, topic_configs={"retention.ms": "3600000", "segment.ms": "3600000"})
    await topic.ensure(wanted, plain)
    running = asyncio.create_task(Exchange(wanted, Sealer(bytes(32))).run())
    with caplog.at_level("ERROR"):
        while not caplog.messages:
            await asyncio.sleep(0.1)
    running.cancel()
    told = f"topic {name} forgets opt-outs after 0.1 days: set cleanup.policy=compact on it"
    assert caplog.messages == [told]
