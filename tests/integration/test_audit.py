"""The audit tells lost, doubled, buried, expired and waiting events apart."""

from pathlib import Path

from clickhouse_connect.driver.client import Client

from collector.journal import Journal
from consumer import audit as module
from consumer.audit import audit
from consumer.settings import ConsumerSettings
from consumer.store import execute
from heliograph.access import StoppedStore
from schemas.journal.directory import write_position
from tests.store import JOURNAL, NOW, batch, block, body, client, kept, writer

__all__ = ["client"]


def test_a_sound_store(client: Client) -> None:
    writer(client).write(batch(block([body()] * 50)))
    writer(client).write(batch(block([body()] * 60, 21)))
    (found,) = audit(client, "heliograph")
    assert found.sound
    assert (found.journal, found.taken, found.stored) == (JOURNAL, 80, 80)
    assert (found.dead, found.expired, found.waiting, found.gaps) == (0, 0, 0, ())


def test_gaps_are_named(client: Client) -> None:
    made = writer(client)
    made.write(batch(block([body()] * 5, 3)))
    made.write(batch(block([body()] * 5, 11)))
    execute(client, "ALTER TABLE heliograph.events DELETE WHERE seq IN (4, 15)", mutations_sync=2)
    (found,) = audit(client, "heliograph")
    assert not found.sound
    assert found.gaps == ((1, 2), (4, 4), (8, 10), (15, 15))
    assert (found.missing, found.stored) == (7, 8)


def test_the_gate_of_a_running_up_lets_all_of_it_through(client: Client, tmp_path: Path) -> None:
    writer(client).write(batch(block([body()] * 5, 3)))
    gated = StoppedStore(ConsumerSettings(data=tmp_path))
    asked = [text for text in vars(module).values() if str(text).startswith("\nSELECT")]
    assert len(asked) == 7
    for text in asked:
        sql = text.format(database="heliograph", journal=JOURNAL, end=9, days=1)
        told = b"".join(gated.query(sql, {}, "TSV").chunks)
        if text == module._GAPS:
            assert told == b"1\t2\n8\t9\n"


def test_a_doubled_event_is_seen(client: Client) -> None:
    writer(client).write(batch(block([body()] * 5)))
    execute(client, "INSERT INTO heliograph.events SELECT * FROM heliograph.events WHERE seq = 3")
    (found,) = audit(client, "heliograph")
    assert not found.sound
    assert (found.stored, found.repeated, found.missing) == (5, 1, 0)


def test_dead_letters_are_no_gaps(client: Client) -> None:
    writer(client).write(batch(block([body(), b"x\n", body()])))
    (found,) = audit(client, "heliograph")
    assert found.sound
    assert (found.taken, found.stored, found.dead) == (3, 2, 1)


def test_what_has_expired_is_not_missing(client: Client) -> None:
    old = (NOW - 4000 * 86400) * 1000
    made = writer(client)
    made.write(batch(block([body(ts=old)] * 5)))
    made.write(batch(block([body()] * 5, 6)))
    execute(client, "ALTER TABLE heliograph.events DELETE WHERE seq IN (1, 2, 9)", mutations_sync=2)
    (found,) = audit(client, "heliograph", retention_days=3000)
    assert (found.expired, found.missing, found.gaps) == (2, 1, ((9, 9),))


def test_a_young_row_deleted_beside_an_old_one_is_missing(client: Client) -> None:
    old = (NOW - 4000 * 86400) * 1000
    made = writer(client, retention=kept(3000))
    made.write(batch(block([body(ts=old), body(), body(), body()])))
    (found,) = audit(client, "heliograph", retention_days=3000)
    assert (found.sound, found.expired, found.missing) == (True, 1, 0)
    execute(client, "ALTER TABLE heliograph.events DELETE WHERE seq = 3", mutations_sync=2)
    (found,) = audit(client, "heliograph", retention_days=3000)
    assert not found.sound


def test_against_the_journals_at_hand(client: Client, tmp_path: Path) -> None:
    root = tmp_path / "journal"
    root.mkdir()
    journal = Journal(root, JOURNAL, lambda: float(NOW))
    journal.append([body()] * 10)
    writer(client).write(batch(block([body()] * 6)))
    write_position(journal.path, 9)
    (found,) = audit(client, "heliograph", root)
    journal.close()
    assert found.waiting == 2
    assert found.gaps == ((7, 8),), "behind the position and in no store: lost"
    assert not (tmp_path / "quarantine").exists()
