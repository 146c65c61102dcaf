"""Migrations: one source, applied once, never changed; views by hand-computed cases."""

import time
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from consumer import migrate as module
from consumer.errors import Misfit
from consumer.migrate import migrate, migrations, pending, render
from consumer.store import execute, rows
from tests.store import batch, block, body, client, writer

__all__ = ["client"]
SNAPSHOTS = Path(__file__).parents[1] / "data" / "schema"


@pytest.mark.parametrize(("name", "cluster"), [("single.sql", ""), ("cluster.sql", "main")])
def test_the_rendered_schema_is_the_snapshot(name: str, cluster: str) -> None:
    """After a deliberate change: python -m tests.integration.test_migrate"""
    assert rendered(cluster) == (SNAPSHOTS / name).read_text("utf-8")


def rendered(cluster: str) -> str:
    parts = []
    for migration in migrations(cluster=bool(cluster)):
        parts.append(f"-- {migration.name}")
        parts += [f"{statement};" for statement in render(migration.text, "heliograph", cluster)]
    return "\n\n".join(parts) + "\n"


def test_numbers_are_unique_and_in_order() -> None:
    numbers = [migration.number for migration in migrations(cluster=True)]
    assert numbers == sorted(set(numbers))


def test_migrating_again_does_nothing(client: Client) -> None:
    assert migrate(client, "heliograph") == []
    assert pending(client, "heliograph") == []


def test_a_broken_off_migration_is_finished(client: Client) -> None:
    execute(
        client,
        "ALTER TABLE heliograph.migrations DELETE WHERE number = 3 SETTINGS mutations_sync = 2",
    )
    assert [m.number for m in pending(client, "heliograph")] == [3]
    assert migrate(client, "heliograph") == ["0003_views.sql"]


def test_a_changed_file_is_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    real = migrations(cluster=False)
    changed = [module.Migration(m.number, m.name, m.text + " ", "0" * 64) for m in real]
    monkeypatch.setattr(module, "migrations", lambda **_: changed)
    with pytest.raises(Misfit, match="was changed"):
        migrate(client, "heliograph")


def test_a_newer_store_is_refused(client: Client) -> None:
    execute(
        client,
        "INSERT INTO heliograph.migrations (number, name) VALUES (999, '0999_new.sql')",
    )
    with pytest.raises(Misfit, match="newer heliograph"):
        pending(client, "heliograph")


def test_addresses_that_are_stored_become_networks(client: Client) -> None:
    addresses = ["203.0.113.77", "203.0.113.0", "2001:db8:1:2::3", "", "::ffff:203.0.113.77"]
    writer(client).write(batch(block([body(address=a) for a in addresses])))
    whole = ", ".join(map(repr, addresses))
    execute(client, f"ALTER TABLE heliograph.events UPDATE line = 0, address = [{whole}][seq] "
            "WHERE 1 SETTINGS mutations_sync = 2")  # fmt: skip
    execute(client, "ALTER TABLE heliograph.migrations DELETE WHERE number = 14 "
            "SETTINGS mutations_sync = 2")  # fmt: skip
    for _ in range(2):
        assert migrate(client, "heliograph") in (["0014_kept.sql"], [])
        while rows(client, "SELECT count() FROM system.mutations WHERE NOT is_done")[0][0]:
            time.sleep(0.05)
        found = rows(client, "SELECT address FROM heliograph.events ORDER BY seq")
        assert [address for (address,) in found] == [
            "203.0.113.0", "203.0.113.0", "2001:db8:1::", "", "::ffff:203.0.113.0",
        ]  # fmt: skip


def view(client: Client, name: str, what: str = "*") -> list[tuple[object, ...]]:
    return rows(client, f"SELECT {what} FROM heliograph.{name} ORDER BY ALL")


def test_the_words_by_hand(client: Client) -> None:
    """a opened twice at once and clicked, b clicked unseen, c was asked by HEAD, d has no send."""
    events = [
        body("sent", recipient="a"),
        body("sent", recipient="a"),
        body("sent", recipient="a", send="again"),
        body("sent", recipient="b"),
        body("sent", recipient="c"),
        body("open", recipient="a"),
        body("open", recipient="a"),
        body("click", recipient="a", link="https://x/1"),
        body("click", recipient="b", link="https://x/1"),
        body("click", recipient="b", link="https://x/2", method="HEAD"),
        body("open", recipient="c", method="HEAD"),
        body("open", recipient="d"),
        body("open", recipient="e", campaign="unsent"),
    ]
    writer(client).write(batch(block(events)))
    columns = (
        "campaign, sends, recipients, delivered, hits, open_rate, unique_clicks, confirmed_rate, "
        "unrecorded, unrecorded_hits"
    )
    assert view(client, "campaigns", columns) == [
        ("spring", 4, 3, 3, 4, 2 / 3, 2, 2 / 3, 1, 1),
        ("unsent", 0, 0, 0, 1, None, 0, None, 1, 1),
    ]
    assert view(client, "unrecorded") == [("spring", 1, 1, 1, 0), ("unsent", 1, 1, 1, 0)]
    assert view(client, "opened", "campaign, recipient, opens, clicks") == [("spring", "a", 1, 1)]
    assert view(client, "never_opened") == [
        ("spring", "b", 1, 1, 1),
        ("spring", "c", 1, 0, 0),
    ]
    assert view(client, "top_links") == [("spring", "https://x/1", 2, 2)]
    assert view(client, "hours_since_send") == [("spring", 1, 1, 1)]
    assert view(client, "opens_by_day", "campaign, open_hits, recipients, clicks") == [
        ("spring", 3, 2, 2),
        ("unsent", 1, 1, 0),
    ]


def test_a_cancelled_send_is_no_send_until_it_is_sent_again(client: Client) -> None:
    made = writer(client)
    made.write(batch(block([body("sent", recipient=r, ts=1_790_000_000_000) for r in "ab"])))
    made.write(batch(block([body("cancelled", recipient="a", ts=1_790_000_001_000)], 3)))
    assert view(client, "sends", "recipient") == [("b",)]
    made.write(batch(block([body("sent", recipient="a", ts=1_790_000_002_000)], 4)))
    assert view(client, "sends", "recipient") == [("a",), ("b",)]


if __name__ == "__main__":
    SNAPSHOTS.mkdir(parents=True, exist_ok=True)
    for name, cluster in (("single.sql", ""), ("cluster.sql", "main")):
        (SNAPSHOTS / name).write_text(rendered(cluster), "utf-8")
