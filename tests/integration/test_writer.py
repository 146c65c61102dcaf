"""Batches into the real engine: each event once, whatever the batches repeat or hold.

The same suite on the engine in this process and on the one behind HTTP.
"""

import threading
from collections import Counter

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.batch import MAX_JOURNALS, Batch, Block
from consumer.errors import Poison, StoreTrouble
from consumer.store import TableGone, execute, rows
from consumer.writer import _CELL, _NAMED, _RUNS, Range, Writer, _parts
from schemas import flaw
from tests.engine import client as connect_to
from tests.store import (
    HUMAN,
    JOURNAL,
    NOW,
    OTHER,
    batch,
    block,
    body,
    engine_url,
    identities,
    kept,
    raw,
    writer,
)
from tests.store import client as embedded_client
from tests.store import either_client as client

__all__ = ["client", "embedded_client", "engine_url"]


def test_a_batch_is_stored_field_by_field(client: Client) -> None:
    fields = {
        "campaign": "späti",
        "send": "s-1",
        "recipient": "r\\1\t\n\x00",
        "message_id": "<a@b>",
        "link": "https://example.org/?q=1",
        "method": "HEAD",
        "address": "2001:db8::1",
        "user_agent": 'Mo"zilla\udcff',
        "accept_language": "de",
        "referer": "https://mail.example/",
        "prefetch": "prefetch",
        "key_id": "0a1b2c",
    }
    writer(client).write(batch(block([body("click", ts=NOW * 1000 + 7, **fields)])))
    found = client.query("SELECT * FROM heliograph.events")
    row = dict(zip(found.column_names, found.result_rows[0], strict=True))
    assert row["seq"] == 1
    assert row["journal"] == JOURNAL
    assert row["ts"].timestamp() == pytest.approx(NOW + 0.007)
    assert row["sent_at"].timestamp() == NOW - 3600
    expected = {**fields, "user_agent": 'Mo"zilla�', "kind": "click", "address": "2001:db8::"}
    assert {name: row[name] for name in expected} == expected


def consenting(consent: str, **fields: object) -> bytes:
    """A hit of whom allows so much, as the edge journals it."""
    return body(**fields)[:-2] + b',"consent":"%b"}\n' % consent.encode()


def test_what_the_consent_allows_is_kept_and_the_verdict_is_made_of_all(client: Client) -> None:
    told = {"address": "198.51.100.77", "accept_language": "de", "referer": "https://mail.example/"}
    made = writer(client)
    made.write(batch(block([body(**told), consenting("pseudonymous", **told),
                            consenting("anonymous", **told), body(address="none")])))  # fmt: skip
    found = rows(
        client,
        "SELECT consent, recipient, toUnixTimestamp(sent_at), address, user_agent, "
        "accept_language, referer, class, rule, line > 0 FROM heliograph.events ORDER BY seq",
    )
    judged = ("human", "browser")
    rest = ("de", "https://mail.example/", *judged, 1)
    assert found == [
        ("", "r1", NOW - 3600, "198.51.100.0", HUMAN, *rest),
        ("pseudonymous", "r1", NOW - 3600, "", "", "", "", *judged, 0),
        ("anonymous", "", 0, "", "", "", "", *judged, 0),
        ("", "r1", NOW - 3600, "", HUMAN, "", "", *judged, 1),
    ]
    made.write(batch(block([consenting("all")], 5)))
    assert rows(client, "SELECT reason FROM heliograph.dead_letter")[0][0]


def test_a_line_tells_addresses_of_a_network_apart_while_its_salt_holds(client: Client) -> None:
    addresses = [f"198.51.100.{n % 200}" for n in range(400)]
    writer(client).write(batch(block([body(address=a) for a in addresses[:300]])))
    made = writer(client)
    made.write(batch(block([body(address=a) for a in addresses[300:]], 301)))
    lines = [line for (line,) in rows(client, "SELECT line FROM heliograph.events ORDER BY seq")]
    assert lines[:200] == lines[200:], "another writer has the same salt"
    assert len(set(lines)) > 190
    execute(client, "ALTER TABLE heliograph.salts UPDATE salt = salt + 1 WHERE 1 "
            "SETTINGS mutations_sync = 2")  # fmt: skip
    made.write(batch(block([body(address=a) for a in addresses[:200]], 401)))
    later = rows(client, "SELECT line FROM heliograph.events WHERE seq > 400 ORDER BY seq")
    assert sum(a == b for a, (b,) in zip(lines, later, strict=False)) < 5
    assert rows(client, "SELECT count() FROM heliograph.salts") == [(1,)]


def test_repeated_and_overlapping_batches_count_once(client: Client) -> None:
    events = [body(recipient=f"r{n}") for n in range(30)]
    first = writer(client)
    first.write(batch(block(events[:20], 1)))
    first.write(batch(block(events[:20], 1)))
    second = writer(client)
    second.write(batch(block(events[10:], 11), block(events[5:15], 6), block(events, 1, OTHER)))
    expected = [(j, n) for j in sorted((JOURNAL, OTHER)) for n in range(1, 31)]
    assert identities(client) == expected


RUNS = st.lists(
    st.tuples(st.sampled_from((JOURNAL, OTHER)), st.integers(1, 40), st.integers(1, 15)),
    min_size=1,
    max_size=6,
)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=st.lists(RUNS, min_size=1, max_size=4))
def test_any_cut_into_batches_gives_the_union(
    client: Client, batches: list[list[tuple[str, int, int]]]
) -> None:
    execute(client, "TRUNCATE TABLE heliograph.events")
    made = writer(client)
    for runs in batches:
        made.write(batch(*(block([body()] * count, first, j) for j, first, count in runs)))
    union = {
        (j, n) for runs in batches for j, first, count in runs for n in range(first, first + count)
    }
    assert identities(client) == sorted(union)


def test_counts_come_from_the_projection_and_agree(client: Client) -> None:
    made = writer(client)
    for start in range(1, 400, 40):
        made.write(batch(block([body(campaign=f"c{start % 3}")] * 60, start)))
    count = "SELECT campaign, kind, count() FROM heliograph.events GROUP BY ALL ORDER BY ALL"
    by_projection = rows(
        client, f"{count} SETTINGS optimize_use_projections = 1, force_optimize_projection = 1"
    )
    assert by_projection == rows(client, f"{count} SETTINGS optimize_use_projections = 0")
    assert sum(row[2] for row in by_projection) == len(identities(client))


POISON = {
    "garbage": b"garbage\n",
    "bad UTF-8": block([body(user_agent="x" * 9)], 2).data.replace(b"x" * 9, b"\xff\xfe\xff"),
    "no object": b"[1]\n",
    "empty line": b"\n",
    "two objects": block([body()], 2).data[:-1] + block([body()], 3).data,
    "an array of events": b"[" + block([body()], 2).data[:-1] + b"]\n",
    "unknown field": block([body()], 2).data.replace(b'"send"', b'"sendd"'),
    "no identity": b"{" + body(),
    "journal of another form": block([body()], 2).data.replace(JOURNAL.encode(), b"../etc/passwd"),
    "unknown kind": block([body("openn")], 2).data,
    "no campaign": block([body(campaign="")], 2).data,
    "seq over 64 bits": block([body()], 2).data.replace(b'"seq":2', b'"seq":18446744073709551618'),
    "negative seq": block([body()], 2).data.replace(b'"seq":2', b'"seq":-2'),
    "seq null": block([body()], 2).data.replace(b'"seq":2', b'"seq":null'),
    "time out of range": block([body(ts=9_999_999_999_999_999)], 2).data,
    "sent_at out of range": block([body(sent_at=1 << 40)], 2).data,
    "number for text": block([body(recipient="x")], 2).data.replace(b'"x"', b"12"),
    "object for text": block([body(recipient="x")], 2).data.replace(b'"x"', b'{"a":1}'),
    "repeated field": block([body()], 2).data.replace(b'"seq":2', b'"seq":2,"seq":2'),
    "seq with a fraction": block([body()], 2).data.replace(b'"seq":2', b'"seq":1.7'),
    "cut short": block([body()], 2).data[:40] + b"\n",
    "repeated field of 2 MiB": block([body()], 2).data[:-2]
    + b',"send":"%b"}\n' % (b"x" * (2 << 20)),
    "text of 40 KiB": block([body(recipient="x")], 2).data.replace(
        b'"x"', b'"%b"' % (b"x" * 40960)
    ),
    "2 MiB": b'{"a":"' + b"x" * (2 << 20) + b'"}\n',
}


@pytest.mark.parametrize("name", POISON)
def test_poison_goes_to_the_dead_letter_and_the_rest_in(client: Client, name: str) -> None:
    """However closely lines are looked at, and whether its block says what it holds."""
    good = block([body(recipient=f"g{n}") for n in range(9)], 10)
    made = writer(client)
    outcome = made.write(batch(raw(POISON[name]), good))
    assert identities(client) == [(JOURNAL, n) for n in range(10, 19)]
    assert (outcome.events, outcome.dead) == (9, 1)
    found = rows(
        client, "SELECT topic, partition, offset, line, reason, raw FROM heliograph.dead_letter"
    )
    assert len(found) == 1
    assert found[0][:4] == ("t", 0, 7, 0)
    assert found[0][4]
    assert POISON[name][:20].decode("utf-8", "replace") in found[0][5]
    ours = Block("t", 0, 8, JOURNAL, 2, 1, POISON[name])
    for level, bad in (1, raw(POISON[name])), (0, ours), (2, ours):
        made.caution.level = level
        assert made.write(batch(bad, good)) == outcome
    assert len(identities(client)) == 9


def test_a_dead_line_keeps_its_identity_and_is_buried_once(client: Client) -> None:
    one = block([body(), b"nothing\n", body()], 5)
    made = writer(client)
    made.write(batch(one))
    made.write(batch(one))
    assert identities(client) == [(JOURNAL, 5), (JOURNAL, 7)]
    assert rows(client, "SELECT journal, seq FROM heliograph.dead_letter FINAL") == [(JOURNAL, 6)]


def loads(made: Writer) -> Counter[str]:
    """Counts its loads from now on."""
    counts: Counter[str] = Counter()
    load = made.stage.load

    def counted(data: bytes) -> None:
        counts["load"] += 1
        load(data)

    made.stage.load = counted  # type: ignore[method-assign]
    return counts


@pytest.mark.parametrize("bad", [b"no\n", body("openn")])
def test_many_bad_lines_cost_two_loads(client: Client, bad: bytes) -> None:
    made = writer(client)
    counts = loads(made)
    outcome = made.write(batch(block([body() if n % 2 else bad for n in range(2000)])))
    assert (outcome.events, outcome.dead, counts["load"]) == (1000, 1000, 2)


@pytest.mark.parametrize("bad", [raw(b"no\n"), block([body("openn")], 1)], ids=["strange", "ours"])
def test_where_poison_keeps_coming_a_batch_is_loaded_once(client: Client, bad: Block) -> None:
    made = writer(client)
    counts = loads(made)
    for number in range(3):
        good = block([body()] * 5, 10 * (number + 1))
        assert made.write(batch(good, bad)).dead == 1
    assert counts["load"] == 4
    assert len(identities(client)) == 15
    for _ in range(10):
        assert made.caution.level > 0
        made.caution.learn([])
    assert made.caution.level == 0


def test_a_dropped_stage_stops_the_writer(client: Client) -> None:
    old = writer(client)
    writer(client)
    with pytest.raises(TableGone):
        old.write(batch(block([body()])))
    assert identities(client) == []


def test_an_emptied_stage_is_noticed(client: Client) -> None:
    """A server that restarts empties a Memory table between two statements."""
    made = writer(client)
    load = made.stage.load

    def load_and_lose(data: bytes) -> None:
        load(data)
        made.stage.clear()

    made.stage.load = load_and_lose  # type: ignore[method-assign]
    with pytest.raises(StoreTrouble):
        made.write(batch(block([body()] * 3)))


def test_rows_older_than_the_retention_expire_at_the_door(client: Client) -> None:
    old = (NOW - 40 * 86400) * 1000
    made = writer(client, retention=kept(30))
    made.write(batch(block([body(), body(ts=old), body()])))
    assert identities(client) == [(JOURNAL, 1), (JOURNAL, 3)]
    assert rows(client, "SELECT first_seq, last_seq, events FROM heliograph.taken") == [(1, 3, 3)]


def test_the_two_definitions_of_a_line_agree(client: Client) -> None:
    """What `flaw` lets through the staging table takes, for every kind of poison but one."""
    made = writer(client)
    for name, data in POISON.items():
        made.stage.clear()
        if flaw.flaw(data):
            assert flaw.sound_lines(data) != data.count(b"\n")
            continue
        with pytest.raises(Poison):
            made.stage.load(data)
        assert name == "repeated field", "a JSON parser that keeps the last one is free to"
    columns = rows(
        client,
        "SELECT name FROM system.columns WHERE database = 'heliograph' AND table = 'events' "
        "AND default_kind = '' AND name NOT IN ('class', 'rule', 'ruleset', 'line') "
        "ORDER BY position",
    )
    assert tuple(name for (name,) in columns) == flaw.Line.__struct_fields__


def test_a_batch_of_very_many_journals(client: Client) -> None:
    """And of seqs as long and as far apart as may be: what is asked has to fit a statement."""
    first = 9_999_990_000_000_000
    seqs = [(n, first + 1_000_000 * n + end) for n in range(310) for end in (1, 999_999)]
    blocks = [block([body()], seq, f"{n:028x}") for n, seq in seqs]
    made = writer(client)
    assert len(blocks) > _RUNS
    assert made.write(batch(*blocks)).events == len(blocks)
    made.write(batch(*blocks))
    assert len(identities(client)) == len(blocks)


def test_a_batch_closes_before_its_journals_are_too_many() -> None:
    found = Batch(1_000_000, 1 << 28, 1.0)
    for n in range(MAX_JOURNALS):
        assert not found.full
        found.add(block([body()], 1, f"{n:028x}"), 0.0)
    assert found.full


def test_old_events_beside_new_ones_are_looked_for_apart(client: Client) -> None:
    made = writer(client)
    made.write(batch(block([body()] * 3, 1), block([body()] * 3, 70_000_001)))
    ledger = rows(client, "SELECT first_seq, last_seq FROM heliograph.taken ORDER BY first_seq")
    assert ledger == [(1, 3), (70_000_001, 70_000_003)]


def test_a_fence_waits_for_its_own_partition_only(client: Client, engine_url: str) -> None:
    """stage_…_1_ is no pattern that stage_…_10_ matches."""
    if not hasattr(client, "path"):
        other = connect_to(engine_url)
    else:
        other = clickhouse_connect.get_client(interface="chdb", path=client.path)
    tenth = writer(client, ("t", 10))
    slow = (
        f"INSERT INTO {tenth.stage.table} (journal, seq, ts, kind, campaign) "
        f"SELECT '{JOURNAL}', number + 1, {NOW}000, 'open', 'c' FROM numbers(20) "
        "WHERE sleepEachRow(0.2) = 0"
    )
    settings = {"max_block_size": 1, "max_threads": 1}
    inserting = threading.Thread(target=other.command, args=(slow,), kwargs={"settings": settings})
    inserting.start()
    running = "SELECT count() FROM system.processes WHERE query_kind = 'Insert'"
    while not rows(client, running)[0][0]:
        assert inserting.is_alive()
    writer(client, ("t", 1))
    assert inserting.is_alive(), "the fence of partition 1 waited for partition 10"
    inserting.join()
    other.close()


def test_the_longest_statement_fits_the_server(client: Client) -> None:
    """As many runs and cells as one may name, of seqs that take years to reach, with the verdict's
    SQL: within max_query_size, 256 KiB.
    """
    width = _NAMED // _RUNS
    ranges = [
        Range(f"{n % MAX_JOURNALS:028x}", seq, seq + (width - 1) * _CELL, 1, NOW, NOW, 0, 1)
        for n in range(_RUNS)
        for seq in [(10**7 + n * width) * _CELL]
    ]
    (part,) = _parts(ranges)
    made = writer(client)
    made.write(batch(block([body()])))  # the dictionaries, and a stage
    made._insert_runs(part, 0, whole=False)
