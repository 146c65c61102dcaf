"""Tallies: a report by them says what a count of all rows says, whatever came in between."""

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path

import msgspec
import pytest
from clickhouse_connect.driver.client import Client

from consumer import tallies
from consumer.migrate import migrate
from consumer.settings import ConsumerSettings
from consumer.store import execute, open_embedded, rows
from heliograph.access import Answer, StoppedStore, canned
from heliograph.campaigns import rates
from tests.store import HUMAN, JOURNAL, NOW, OTHER, batch, block, body, client, writer

__all__ = ["client"]
CLASSES = ("human", "proxy", "prefetch", "scanner", "self", "unknown")
CAMPAIGNS = ("spring", "it's \\ \n\n odd", "third")


class Asked(StoppedStore):
    """The store behind its gate, and whether all rows of a campaign were counted."""

    full = False

    def query(self, sql: str, params: Mapping[str, object], format: str) -> Answer:
        self.full |= sql == canned("figures")
        return super().query(sql, params, format)


@pytest.fixture
def asked(tmp_path: Path, client: Client) -> Asked:
    return Asked(ConsumerSettings(data=tmp_path))


@pytest.fixture
def seqs() -> Iterator[int]:
    return count(1)


def write(client: Client, seqs: Iterator[int], bodies: list[bytes], journal: str = JOURNAL) -> None:
    first = next(seqs)
    for _ in bodies[1:]:
        next(seqs)
    writer(client).write(batch(block(bodies, first, journal)))


def shown(asked: Asked, campaign: str = "") -> list[tuple[object, ...]]:
    _, found = rates(asked, campaign, 1000)
    return [tuple(msgspec.json.decode(value) for value in row) for row in found]


def counted(client: Client) -> list[tuple[object, ...]]:
    opens = "(SELECT campaign, sum(open_hits) AS n FROM heliograph.activity GROUP BY campaign) AS a"
    sent = (
        "(SELECT campaign, count() AS n FROM heliograph.events WHERE kind = 'sent' "
        "GROUP BY campaign) AS s"
    )
    return rows(
        client,
        f"SELECT c.* FROM heliograph.campaigns AS c LEFT JOIN {opens} USING campaign "
        f"LEFT JOIN {sent} USING campaign ORDER BY a.n DESC, s.n DESC, campaign",
    )


def some(chance: random.Random, size: int, since: int = -60) -> list[bytes]:
    """Events of few people, from `since` seconds after NOW on."""
    kinds = ("sent", "sent", "open", "open", "click", "cancelled", "bounced")
    agents = (HUMAN, HUMAN, "Mozilla/5.0", "curl/8.5.0", "who knows")
    out = [
        body(
            chance.choice(("optout", "optin")), campaign="", send="",
            recipient=f"r{chance.randrange(12)}", sent_at=0,
            ts=(NOW + chance.randrange(since, 60)) * 1000,
        )
        for _ in range(chance.randrange(3))
    ]  # fmt: skip
    return out + [
        body(
            kind := chance.choice(kinds),
            campaign=(name := chance.choice(CAMPAIGNS)),
            send=chance.choice((name, "again")),
            recipient=f"r{chance.randrange(12)}",
            ts=(NOW + chance.randrange(since, 60)) * 1000 + chance.randrange(1000),
            **({"user_agent": chance.choice(agents)} if kind in ("open", "click") else {}),
            **({"detail": "no pixel"} if kind == "sent" and chance.random() < 0.2 else {}),
        )
        for _ in range(size)
    ]


@pytest.mark.parametrize("seed", range(2))
def test_what_is_shown_is_what_is_counted(
    client: Client, asked: Asked, seqs: Iterator[int], seed: int
) -> None:
    chance = random.Random(seed)
    write(client, seqs, some(chance, 60))
    used = 0
    for turn in range(10):
        match turn and chance.randrange(7):
            case 0:
                until = NOW + (chance.randrange(-70, 5) if turn else 0)
                tallies.count(client, "heliograph", list(CAMPAIGNS), until)
            case 1:
                who = f"r{chance.randrange(12)}"
                execute(client, f"ALTER TABLE heliograph.events DELETE WHERE recipient = '{who}' "
                        "SETTINGS mutations_sync = 2")  # fmt: skip
            case 2:
                judge(client, f"recipient = 'r{chance.randrange(12)}'", chance.choice(CLASSES))
            case _:
                late = chance.random() < 0.2
                write(client, seqs, some(chance, chance.randrange(1, 20), -60 if late else 5))
        asked.full = False
        assert shown(asked) == counted(client)
        used += not asked.full
    assert used, "tallies were never used"


def judge(client: Client, which: str, verdict: str) -> None:
    """Revise the verdicts of some hits, in place, as `reclassify` and the rules of groups do."""
    execute(client, f"ALTER TABLE heliograph.events UPDATE class = '{verdict}' WHERE {which} "
            "AND kind IN ('open', 'click') SETTINGS mutations_sync = 2")  # fmt: skip


def test_late_erased_and_swapped_events_put_a_tally_out_of_use(
    client: Client, asked: Asked, seqs: Iterator[int]
) -> None:
    def used() -> bool:
        asked.full = False
        assert shown(asked, "spring") == counted(client)
        return not asked.full

    def stale(until: int = NOW) -> list[list[str]]:
        return tallies.stale(client, "heliograph", until, 1)

    early = partial(body, ts=(NOW - 100) * 1000)
    write(client, seqs, [early("sent", recipient=f"r{n}") for n in range(50)])
    assert (used(), stale()) == (False, [["spring"]])
    tallies.count(client, "heliograph", ["spring"], NOW)
    assert (used(), stale()) == (True, [])
    write(client, seqs, [body(recipient=f"r{n}", ts=NOW * 1000) for n in range(2)])
    assert (used(), stale()) == (True, []), "what comes after is added"
    write(client, seqs, [early(recipient="r7")])
    assert (used(), stale()) == (False, [["spring"]]), "late"
    tallies.count(client, "heliograph", ["spring"], NOW)
    assert (used(), stale()) == (True, [])
    # As many events as before, with the same sum of seqs, are others all the same.
    execute(client, "ALTER TABLE heliograph.events DELETE WHERE seq IN (1, 4) "
            "SETTINGS mutations_sync = 2")  # fmt: skip
    writer(client).write(batch(block([early("sent", recipient=f"n{n}") for n in "12"], 2, OTHER)))
    assert (used(), stale()) == (False, [["spring"]]), "swapped"
    tallies.count(client, "heliograph", ["spring"], NOW)
    assert (used(), stale()) == (True, [])
    judge(client, "recipient = 'r7'", "scanner")
    assert (used(), stale()) == (False, [["spring"]]), "a verdict revised"
    tallies.count(client, "heliograph", ["spring"], NOW)
    execute(client, "ALTER TABLE heliograph.events UPDATE ruleset = 'new', rule = 'other' WHERE 1 "
            "SETTINGS mutations_sync = 2")  # fmt: skip
    assert (used(), stale()) == (True, []), "other rules that say the same"
    write(client, seqs, [body(recipient=f"r{n}") for n in range(2)])
    assert (used(), stale(NOW + 1)) == (True, [["spring"]]), "a twentieth is new"
    tallies.count(client, "heliograph", ["spring"], NOW + 1)
    assert stale(NOW + 86401) == []
    assert stale(NOW + 86402) == [["spring"]], "a day old"
    assert tallies.stale(client, "heliograph", NOW + 86402) == [["spring"]], "large no more"
    tallies.count(client, "heliograph", ["spring"], NOW + 1)
    asked_not = partial(body, campaign="", send="", sent_at=0)
    write(client, seqs, [asked_not("optout", recipient="r3", ts=(NOW + 2) * 1000)])
    assert (used(), stale(NOW + 2)) == (True, []), "an opt-out since"
    assert stale(NOW + 3602) == [["spring"]], "and an hour"
    again = asked_not("optin", recipient="r3", ts=(NOW + 3) * 1000)
    write(client, seqs, [again, asked_not("optout", recipient="r4", ts=(NOW + 3) * 1000)])
    assert used()
    assert stale(NOW + 3) == [["spring"]], "a twentieth opted out"
    write(client, seqs, [asked_not("optout", recipient="r5", ts=(NOW - 9) * 1000)])
    assert (used(), stale()) == (False, [["spring"]]), "a late opt-out"
    tallies.count(client, "heliograph", ["spring"], NOW + 9)
    assert (used(), stale(NOW + 9)) == (True, [])
    write(client, seqs, [body("sent", campaign="third", ts=(NOW + 86500) * 1000)])
    assert tallies.stale(client, "heliograph", NOW + 86410) == [["spring"]], "never large"
    execute(client, "TRUNCATE TABLE heliograph.events")
    assert shown(asked) == []
    assert stale() == []


def test_campaigns_that_were_taken_back_leave_no_gap(
    client: Client, asked: Asked, seqs: Iterator[int]
) -> None:
    events = []
    for number, name in enumerate(("gone", "gone too", "a", "b", "c")):
        for who in range(9 - number):
            events.append(body("sent", campaign=name, recipient=f"r{who}"))
            if name.startswith("gone"):
                events.append(body("cancelled", campaign=name, recipient=f"r{who}"))
    write(client, seqs, events)
    for limit in (1, 2, 3, 4, 9):
        _, found = rates(asked, "", limit)
        assert [msgspec.json.decode(row[0]) for row in found] == ["a", "b", "c"][:limit]


COUNTING = """
import sys
from pathlib import Path
from consumer import tallies
from consumer.migrate import migrate
from consumer.store import open_embedded
client = open_embedded(Path(sys.argv[1]))
for at in range(10**9):
    tallies.count(client, "heliograph", ["spring"], {now} + at % 100 - 50)
    print("counted", flush=True)
"""


def test_killed_in_the_middle(tmp_path: Path) -> None:
    chance = random.Random(1)
    path = tmp_path / "store"
    client = open_embedded(path)
    migrate(client, "heliograph")
    write(client, count(1), some(chance, 300))
    client.close()
    for _ in range(2):
        child = subprocess.Popen([sys.executable, "-c", COUNTING.format(now=NOW), str(path)],
                                 stdout=subprocess.PIPE)  # fmt: skip
        assert child.stdout
        child.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.1 + chance.random() * 0.3)
        child.kill()
        child.communicate()
        client = open_embedded(path)
        assert rows(client, "SELECT count() FROM heliograph.tallies")[0][0]
        assert shown(Asked(ConsumerSettings(data=tmp_path))) == counted(client)
        client.close()


def test_two_at_once_beside_a_writer(
    client: Client, asked: Asked, seqs: Iterator[int], tmp_path: Path
) -> None:
    chance = random.Random(2)
    write(client, seqs, some(chance, 100))
    others = [open_embedded(tmp_path / "store") for _ in range(2)]

    def keep(mine: Client) -> None:
        for at in range(8):
            for campaigns in tallies.stale(mine, "heliograph", NOW + at % 3, 1):
                tallies.count(mine, "heliograph", campaigns, NOW + at % 3)

    with ThreadPoolExecutor(2) as pool:
        working = [pool.submit(keep, other) for other in others]
        while not all(work.done() for work in working):
            write(client, seqs, some(chance, 5))
            assert shown(asked) == counted(client)
        for work in working:
            work.result()
    for other in others:
        other.close()


def test_a_consumer_keeps_them_and_stops_at_once(
    client: Client, asked: Asked, seqs: Iterator[int], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(tallies, "_EVERY", 0.01)
    monkeypatch.setattr(tallies, "_LARGE", 10)
    write(client, seqs, some(random.Random(3), 200))
    held = "SELECT uniqExact(campaign) FROM heliograph.tallies"

    faults = [ValueError("a fault of ours")]

    def opened() -> Client:
        if faults:
            raise faults.pop()
        return open_embedded(tmp_path / "store")

    async def run() -> None:
        task = asyncio.create_task(tallies.keep(opened, "heliograph", random.random))
        while rows(client, held) != [(3,)]:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 30)

    asyncio.run(asyncio.wait_for(run(), 90))
    assert shown(asked) == counted(client)
    assert not asked.full
