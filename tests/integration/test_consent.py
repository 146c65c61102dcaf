"""What each consent mode keeps, looked for in the bytes: of the journal, of the records that Kafka
gets, and of the store's files.
"""

from collections.abc import Mapping
from pathlib import Path

from clickhouse_connect.driver.client import Client

from collector.records import coalesce
from consumer.store import rows
from schemas.consent import Mode
from schemas.journal.directory import journals
from schemas.journal.reader import Reader
from schemas.token import Sealed
from tests.integration.test_edge import edge_of
from tests.store import batch, block, body, client, raw, writer
from tests.unit.mint_kit import no_damage

__all__ = ["client"]
#: In which modes a journal (and so Kafka), and the store, have what.
ALL = {mode.word for mode in Mode} - {"off"}
NAMED = {"pseudonymous", "full"}
FULL = {"full"}
KEPT: Mapping[str, tuple[set[str], set[str]]] = {
    "campaign": (ALL, ALL),
    "recipient": (NAMED, NAMED),
    "address": (NAMED, set()),
    "network": (set(), FULL),
    "agent": (ALL, FULL),
    "language": (FULL, FULL),
    "referer": (FULL, FULL),
    "link": (ALL, ALL),
    "query": (NAMED, NAMED),
    "fragment": (NAMED, NAMED),
}


def trace(mode: Mode) -> dict[str, str]:
    """What tells of a hit in a mode, to look for."""
    n = mode.value
    return {
        "campaign": f"Campaign-{n}qX", "recipient": f"Recipient-{n}zK", "address": f"203.0.{n}.77",
        "network": f"203.0.{n}.0", "agent": f"Mozilla/5.0 (X11; Vj{n}w) Thunderbird/140.{n}",
        "language": f"x-pW{n}", "referer": f"https://yH{n}.example/",
        "link": f"https://x.org/kM{n}", "query": f"?id=tC{n}", "fragment": f"#gB{n}?",
    }  # fmt: skip


def found(data: bytes) -> dict[str, set[str]]:
    """In which modes each thing is in some bytes."""
    return {
        what: {mode.word for mode in Mode if trace(mode)[what].encode() in data} for what in KEPT
    }


async def hits(data: Path) -> None:
    """One open and one click in each mode."""
    async with edge_of(data, trusted_proxies=("127.0.0.1",)) as edge:
        for mode in Mode:
            one = trace(mode)
            sealed = Sealed(one["campaign"], one["campaign"], one["recipient"], 0, mode)
            ring = edge.worker.keys.ring
            click = ring.seal(
                "click", sealed._replace(link=one["link"] + one["query"] + one["fragment"])
            )
            for path in (f"/o/{ring.seal('open', sealed)}.gif", f"/c/{click}"):
                await edge.get(
                    path, f"X-Forwarded-For: {one['address']}", f"User-Agent: {one['agent']}",
                    f"Accept-Language: {one['language']}", f"Referer: {one['referer']}",
                )  # fmt: skip
        assert edge.counted("open", "off") == edge.counted("click", "off") == 1


async def test_what_is_kept_where(tmp_path: Path, client: Client) -> None:
    await hits(tmp_path / "data")
    segments = [file.read_bytes() for file in (tmp_path / "data" / "journal").rglob("*.seg*")]
    in_journal = {what: modes for what, (modes, _) in KEPT.items()}
    assert found(b"".join(segments)) == in_journal
    (journal,) = journals(tmp_path / "data" / "journal")
    (record,) = coalesce(Reader(journal, 1, no_damage).read(1 << 24))
    assert found(record.value + b"".join(value for _, value in record.headers)) == in_journal

    for column in ("recipient", "address", "user_agent", "accept_language", "referer", "campaign",
                   "link"):  # fmt: skip
        kind = rows(client, "SELECT type FROM system.columns WHERE database = 'heliograph' AND "
                    f"table = 'events' AND name = '{column}'")[0][0]  # fmt: skip
        client.command(f"ALTER TABLE heliograph.events MODIFY COLUMN {column} {kind} CODEC(NONE)")
    assert writer(client).write(batch(raw(record.value))).events == 6
    in_store = {what: modes for what, (_, modes) in KEPT.items()}
    told = rows(client, "SELECT * FROM heliograph.events")
    assert found(repr(told).encode()) == in_store
    verdicts = rows(client, "SELECT kind, consent, class FROM heliograph.events")
    assert sorted(verdicts) == sorted(
        (kind, consent, "human")
        for kind in ("open", "click") for consent in ("", "anonymous", "pseudonymous")
    )  # fmt: skip
    client.close()
    files = [file.read_bytes() for file in (tmp_path / "store").rglob("*") if file.is_file()]
    assert found(b"".join(files)) == in_store


def test_anonymous_hits_count_and_have_no_rate(client: Client) -> None:
    bodies = [body(recipient="", consent="anonymous", sent_at=0, ts=n * 60_000 + 1_790_000_000_000)
              for n in range(3)]  # fmt: skip
    writer(client).write(batch(block(bodies)))
    asked = "SELECT hits, opens, recipients, delivered, unrecorded, open_rate"
    assert rows(client, f"{asked} FROM heliograph.campaigns") == [(3, 3, 0, 0, 0, None)]
