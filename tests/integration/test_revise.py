"""Revised verdicts: what changes is said and right, nothing is lost or doubled, twice is once."""

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from consumer import networks
from consumer.audit import audit
from consumer.errors import Misfit
from consumer.orders import Orders
from consumer.revise import Reviser
from consumer.settings import ConsumerSettings
from consumer.store import execute, open_embedded, rows
from consumer.verdicts import Verdicts
from tests.store import NOW, OTHER, batch, block, body, client, writer

__all__ = ["client"]
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
APPLE = networks.networks_of(b"172.224.224.0/27,GB,GB-EN,London,\n2a02:26f7::/64,US,,\n")


@pytest.fixture
def reviser(client: Client) -> Reviser:
    return Reviser(client, "heliograph", Verdicts("heliograph"))


def stored(client: Client, what: str = "class, rule") -> list[tuple[object, ...]]:
    return rows(client, f"SELECT {what} FROM heliograph.events WHERE kind != 'sent' ORDER BY seq")


def test_other_networks_change_what_was_judged_and_twice_is_once(
    client: Client, reviser: Reviser
) -> None:
    execute(
        client,
        "ALTER TABLE heliograph.events ADD PROJECTION by_class "
        "(SELECT campaign, class, count(), sum(seq) GROUP BY campaign, class)",
    )
    mpp = [body(user_agent="Mozilla/5.0", address=address) for address in (
        "172.224.224.9", "203.0.113.5", "2a02:26f7::1", "203.0.113.6")]  # fmt: skip
    old = body(user_agent="Mozilla/5.0", address="203.0.113.7", ts=(NOW - 900) * 1000)
    writer(client).write(batch(block([*mpp, old, body("sent"), body(user_agent=FIREFOX)])))
    # As if the consent mode had kept the verdict only.
    execute(client, "ALTER TABLE heliograph.events UPDATE address = '', user_agent = '' "
            "WHERE seq = 4 SETTINGS mutations_sync = 2")  # fmt: skip
    assert reviser.reclassify() == []
    networks.load(client, "heliograph", "apple-egress", APPLE, NOW)
    changed = ("prefetch", "apple-mpp", "unknown", "apple-mpp-elsewhere")
    assert reviser.reclassify(NOW - 60) == [(*changed, 1)]
    assert reviser.reclassify(NOW - 60) == []
    assert reviser.reclassify() == [(*changed, 1)]
    parts = rows(client, "SELECT name FROM system.parts WHERE table = 'events' AND active")
    assert reviser.reclassify() == []
    assert parts == rows(client, "SELECT name FROM system.parts WHERE table = 'events' AND active")
    assert [found for found, _ in stored(client)] == [
        "prefetch", "unknown", "prefetch", "prefetch", "unknown", "human",
    ]  # fmt: skip
    versions = [version for (version,) in stored(client, "ruleset")]
    assert versions[1] != versions[3], "it says by which rules it was judged"
    assert len({*versions[1::3], versions[5]}) == len({*versions[::2][:2], versions[3]}) == 1, (
        "of networks of which Apple has a part nothing is said anew"
    )
    by_class = (
        "SELECT class, count(), sum(seq) FROM heliograph.events GROUP BY class ORDER BY class"
    )
    counted = rows(client, by_class)
    assert counted == rows(client, f"{by_class} SETTINGS optimize_use_projections = 0")
    networks.load(client, "heliograph", "apple-egress", [], NOW + 1)
    back = ("unknown", "apple-mpp-elsewhere", "prefetch", "apple-mpp")
    assert reviser.reclassify() == [(*back, 2)]


def test_networks_are_loaded_as_a_whole_or_not_at_all(client: Client, tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    verdicts = Verdicts("heliograph", rules=rules)
    orders = Orders(partial(open_embedded, tmp_path / "store"), ConsumerSettings(), verdicts)
    rule = '[[rule]]\nid = "x"\nclass = "scanner"\nconfidence = "low"\nsource = ""\n'
    before = verdicts.ruleset
    for text in (
        "[[rule",
        f"{rule}test = []\nagent = 'A(?=B)'",
        f"{rule}test = ['B']\nagent = 'A'",
    ):
        (rules / "mine.toml").write_text(text)
        with pytest.raises(Misfit, match="HELIOGRAPH_RULES: "):
            orders.load_networks("self", b"198.51.100.0/24")
        assert rows(client, "SELECT count() FROM heliograph.networks") == [(0,)]
        with pytest.raises(Misfit, match="HELIOGRAPH_RULES: "):
            orders.reclassify(0)
        assert verdicts.ruleset is before
    (rules / "mine.toml").write_text(f"{rule}test = ['A']\nagent = '^A$'")
    assert orders.load_networks("self", b"198.51.100.0/24")["networks"] == 1
    assert rows(client, "SELECT network FROM heliograph.networks") == [("198.51.100.0/24",)]
    assert verdicts.ruleset.version != before.version


def test_while_the_line_runs(client: Client, tmp_path: Path) -> None:
    """Inserts, revisions and repeated batches side by side: each event once, by the last rules."""
    made = writer(client)
    made.write(batch(block([body(user_agent="Mozilla/5.0", address="203.0.113.5")] * 3000)))
    other = open_embedded(tmp_path / "store")
    verdicts = made._verdicts
    reviser = Reviser(other, "heliograph", verdicts)
    stop = threading.Event()
    written = [0]

    def insert() -> None:
        hits = [body(user_agent="Mozilla/5.0", address="203.0.113.5")] * 200
        while not stop.is_set():
            for first in (written[0] + 1, max(1, written[0] - 100)):  # and half of it once more
                made.write(batch(block(hits, first, OTHER)))
                written[0] = max(written[0], first + 199)

    inserting = threading.Thread(target=insert)
    inserting.start()
    for turn in range(3):
        found = [] if turn % 2 else APPLE
        networks.load(other, "heliograph", "apple-egress", found, NOW + turn)
        reviser.reclassify()
        time.sleep(0.05)
    stop.set()
    inserting.join()
    reviser.reclassify()
    assert reviser.reclassify() == []
    other.close()
    assert all(journal.sound for journal in audit(client, "heliograph"))
    total = written[0] + 3000
    found = "SELECT class, rule, ruleset, count() FROM heliograph.events GROUP BY ALL"
    assert rows(client, found) == [
        ("unknown", "apple-mpp-elsewhere", verdicts.ruleset.version, total)
    ]
    counts = "SELECT kind, method, count() FROM heliograph.events GROUP BY kind, method"
    assert rows(client, counts) == [("open", "GET", total)]


def click(recipient: str, link: int, ms: int) -> bytes:
    return body("click", recipient=recipient, link=f"https://x/{link}", ts=NOW * 1000 + ms,
                user_agent=FIREFOX, address=f"203.0.113.{ord(recipient)}")  # fmt: skip


def opened(recipient: str, seconds: int, address: str = "198.51.100.1", **more: str) -> bytes:
    agent = {"user_agent": FIREFOX, **more}
    return body(recipient=recipient, ts=(NOW + seconds) * 1000, address=address, **agent)


def groups() -> Iterator[tuple[list[bytes], list[str]]]:
    """Hits in order, and the rules that they are to have in the end."""
    yield [click("a", 1, n * 1000) for n in range(4)], ["many-clicks"] * 4
    yield [click("b", 2, n * 1001) for n in range(4)], ["browser"] * 4
    yield [click("c", n, n * 15_000) for n in range(1, 5)], ["all-links"] * 4
    yield [click("d", n, n * 15_000) for n in (1, 2, 3)], ["browser"] * 3
    yield [click("e", n, n * 21_000) for n in range(1, 5)], ["browser"] * 4
    yield [click("f", 4, 0)], ["browser"]
    yield [opened(f"o{n}", n) for n in range(3)], ["shared-address"] * 3
    yield [opened(f"o{n}", 100 + n * 6) for n in range(3)], ["browser"] * 3
    yield [opened("same", 200) for _ in range(5)], ["browser"] * 5
    yield (
        [opened(f"s{n}", 300 + n) for n in range(3)] + [opened("s3", 301, user_agent="curl/8")],
        ["shared-address-scanner"] * 3 + ["http-library"],
    )
    gmail = (
        "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
    )
    yield (
        [opened(f"g{n}", 400, "66.249.93.1", user_agent=gmail) for n in range(9)],
        ["gmail-proxy"] * 9,
    )
    yield [opened(f"n{n}", 500, "") for n in range(5)], ["browser"] * 5
    # Behind a proxy that is not trusted all have its address.
    yield (
        [opened(f"p{n}", 600 + n, "10.0.0.5") for n in range(3)]
        + [opened("p3", 601, "10.0.0.5", user_agent="curl/8")],
        ["browser"] * 3 + ["http-library"],
    )


def test_the_first_who_clicks_is_no_scanner_nor_stays_one(client: Client, reviser: Reviser) -> None:
    """A mail's links are known by what others click; one that is only one's own does not count."""

    def write(hits: list[bytes], first: int) -> int:
        writer(client).write(batch(block(hits, first)))
        return first + len(hits)

    at = write([click("a", n, n * 15_000) for n in (1, 2, 3)], 1)
    assert reviser.look() == []
    at = write([click(who, n, n * 40_000) for who in "bc" for n in (1, 2, 3)], at)
    assert [change[2:] for change in reviser.look()] == [("scanner", "all-links", 3)]
    at = write([click(who, 4, 190_000) for who in "bcd"], at)
    assert [change[1:] for change in reviser.look()] == [("all-links", "human", "browser", 3)]
    assert reviser.look() == reviser.reclassify() == []
    robot = [click("e", n, 400_000 + n * 500) for n in (1, 2, 3, 4, 99)]
    at = write([*robot, *(click(who, 100 + ord(who), 600_000) for who in "fg")], at)
    assert [change[2:] for change in reviser.look()] == [("scanner", "all-links", 5)]
    assert reviser.reclassify() == []


def test_of_a_network_that_a_list_cuts_nothing_is_said_anew(
    client: Client, reviser: Reviser
) -> None:
    """The sender's own office is a part of a network in which others are at home."""
    hits = [opened(who, 60 * n, f"203.0.{n}.9") for n, who in enumerate("abc")]
    writer(client).write(batch(block(hits)))
    cut = ["203.0.0.8/30", "203.0.1.0/24"]
    networks.load(client, "heliograph", "self", cut, NOW)
    assert [change[2:] for change in reviser.reclassify()] == [("self", "self-network", 1)]
    assert [found for found, _ in stored(client)] == ["human", "self", "human"]
    # A hit that comes whole is judged whole.
    reviser._verdicts.install(client)
    made = writer(client)
    made._verdicts = reviser._verdicts
    made.write(batch(block([opened("d", 300, "203.0.0.9"), opened("e", 400, "203.0.0.99")], 4)))
    assert [found for found, _ in stored(client)][3:] == ["self", "human"]
    assert reviser.reclassify() == reviser.look() == []


def test_neighbours_are_no_office(client: Client, reviser: Reviser) -> None:
    """Different addresses of a network, and hits of before of which only the network is known."""
    apart = [opened(f"n{n}", n, f"198.51.100.{n}") for n in range(9)]
    robot = opened("n9", 4, "198.51.100.99", user_agent="curl/8")
    old = [opened(f"o{n}", 100 + n) for n in range(3)]
    writer(client).write(batch(block([*apart, robot, *old])))
    execute(client, "ALTER TABLE heliograph.events UPDATE line = 0, class = 'unknown', "
            "rule = 'shared-address' WHERE seq > 10 SETTINGS mutations_sync = 2")  # fmt: skip
    assert reviser.look() == reviser.reclassify() == []
    assert [rule for _, rule in stored(client)] == [
        *["browser"] * 9, "http-library", *["shared-address"] * 3,
    ]  # fmt: skip


def test_in_the_middle_of_a_group_the_rest_of_it_is_seen(client: Client, reviser: Reviser) -> None:
    writer(client).write(batch(block([click("a", 1, n * 700) for n in range(5)])))
    assert sum(change.hits for change in reviser.look()) == 5
    assert reviser.reclassify(NOW + 2) == []


def test_groups_are_found_lately_and_over_all_alike(client: Client, reviser: Reviser) -> None:
    hits = [(hit, rule) for made, rules in groups() for hit, rule in zip(made, rules, strict=True)]
    writer(client).write(batch(block([hit for hit, _ in hits])))
    said = reviser.look()
    assert [rule for _, rule in stored(client)] == [rule for _, rule in hits]
    assert sorted((change.new_class, change.new_rule, change.hits) for change in said) == [
        ("scanner", "all-links", 4), ("scanner", "many-clicks", 4),
        ("scanner", "shared-address-scanner", 3), ("unknown", "shared-address", 3),
    ]  # fmt: skip
    assert {change[:2] for change in said} == {("human", "browser")}
    assert reviser.look() == []
    assert reviser.reclassify() == []
    assert rows(client, "SELECT count() FROM heliograph.revisions") == [(0,)]
    execute(client, "ALTER TABLE heliograph.events UPDATE class = 'human', rule = 'browser' "
            "WHERE rule LIKE '%a%' SETTINGS mutations_sync = 2")  # fmt: skip
    assert sum(change.hits for change in reviser.reclassify()) > 14
    assert [rule for _, rule in stored(client)] == [rule for _, rule in hits]
    # What came long ago is left to `reclassify`.
    late = [body(recipient="z", user_agent=FIREFOX, ts=(NOW + 86400) * 1000)]
    writer(client).write(batch(block(late, len(hits) + 1)))
    execute(client, "ALTER TABLE heliograph.events UPDATE class = 'human', rule = 'browser' "
            "WHERE rule = 'many-clicks' SETTINGS mutations_sync = 2")  # fmt: skip
    assert reviser.look() == []
    assert sum(change.hits for change in reviser.reclassify()) == 4
