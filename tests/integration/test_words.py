"""The words and formulas, by cases counted by hand, in the real engine."""

from collections.abc import Iterable
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from tests.store import HUMAN, NOW, batch, block, body, client, writer

__all__ = ["client"]
APPLE = "Mozilla/5.0"
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
SCANNER = "curl/8.5.0"


def sent(who: Iterable[str], **more: object) -> list[bytes]:
    return [body("sent", recipient=name, **more) for name in who]


def opens(
    who: Iterable[str], agent: str = HUMAN, kind: str = "open", **more: object
) -> list[bytes]:
    return [body(kind, recipient=name, user_agent=agent, **more) for name in who]


def names(first: int, end: int) -> list[str]:
    return [f"r{n}" for n in range(first, end)]


def told(client: Client, events: list[bytes], view: str = "campaigns") -> dict[str, Any]:
    writer(client).write(batch(block(events)))
    found = client.query(f"SELECT * FROM heliograph.{view}")
    (row,) = found.result_rows
    return dict(zip(found.column_names, row, strict=True))


def test_half_on_apple_and_half_of_its_openers_on_a_webmail_too(client: Client) -> None:
    """400 recipients: 200 on Apple, where all is prefetched. 40 of those read, 20 of them on a
    webmail too, which alone can be seen. Of the other 200 there read 40 too."""
    found = told(client, [
        *sent(names(0, 400)),
        *opens(names(0, 200), APPLE),
        *opens(names(0, 20), GMAIL),
        *opens(names(200, 240)),
    ])  # fmt: skip
    assert (found["delivered"], found["readers"], found["prefetched_only"]) == (400, 60, 180)
    assert found["open_rate"] == 60 / 400
    assert found["apparent_rate"] == 240 / 400
    assert (found["adjusted_base"], found["adjusted_rate"]) == (200, 40 / 200), "not 60 / 220"
    # (p + z^2/2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2/n), p = 0.2, n = 200
    assert found["adjusted_rate_low"] == pytest.approx(0.150_451, abs=1e-6)
    assert found["adjusted_rate_high"] == pytest.approx(0.260_856, abs=1e-6)


def test_blocked_images(client: Client) -> None:
    """Of ten, two load images and two others click without."""
    found = told(client, [
        *sent(names(0, 10)), *opens(names(0, 2)), *opens(names(1, 4), kind="click", link="https://x"),
    ])  # fmt: skip
    assert (found["unique_opens"], found["unique_clicks"], found["readers"]) == (2, 3, 4)
    assert (found["open_rate"], found["apparent_rate"]) == (0.4, 0.4)
    assert (found["click_to_open_rate"], found["confirmed_rate"]) == (3 / 4, 0.3)
    assert found["adjusted_rate"] is None, "of fewer than 100 nothing is said"


def test_a_send_recorded_again_and_a_send_again(client: Client) -> None:
    found = told(client, [
        *sent("ab"), *sent("ab"), *sent("a", send="again"), *opens("a"), *opens("a", send="again"),
    ])  # fmt: skip
    assert (found["sends"], found["recipients"], found["delivered"]) == (3, 2, 2)
    assert (found["opens"], found["unique_opens"], found["open_rate"]) == (2, 1, 0.5)


def test_who_opted_out_is_in_no_rate(client: Client) -> None:
    """Whenever that was; and who opted in again is."""
    out = {"campaign": "", "send": "", "sent_at": 0}
    later = (NOW + 9) * 1000
    found = told(client, [
        *sent("abcde"), *opens("abx"),
        *[body("optout", recipient=name, **out) for name in "acex"],
        body("optin", recipient="e", ts=later, **out),
    ])  # fmt: skip
    assert (found["sends"], found["recipients"], found["delivered"]) == (5, 3, 3)
    assert (found["unique_opens"], found["open_rate"], found["hits"]) == (1, 1 / 3, 3)
    assert found["unrecorded"] == 0
    names = client.query("SELECT recipient FROM heliograph.optouts ORDER BY recipient")
    assert [name for (name,) in names.result_rows] == ["a", "c", "x"]
    never = client.query("SELECT recipient FROM heliograph.never_opened ORDER BY recipient")
    assert [name for (name,) in never.result_rows] == ["d", "e"]


def test_an_open_without_a_send_is_in_no_rate(client: Client) -> None:
    found = told(client, [*sent("ab"), *opens("ax"), *opens("x", SCANNER), *opens("y", APPLE)])
    assert (found["open_rate"], found["apparent_rate"]) == (0.5, 0.5)
    assert (found["unrecorded"], found["unrecorded_hits"], found["hits"]) == (2, 3, 4)


def test_bounces_leave_the_denominator_unless_they_were_read(client: Client) -> None:
    """Five bounce: b was read all the same, c's was prefetched, d's was sent again and arrived; e
    and what was never sent say nothing. No rate exceeds 1."""
    found = told(client, [
        *sent("abcde"), *sent("d", send="again"),
        *(body("bounced", recipient=name) for name in "bcdex"),
        *opens("ab"), *opens("c", APPLE),
    ])  # fmt: skip
    assert (found["recipients"], found["delivered"], found["readers"]) == (5, 3, 2)
    assert (found["open_rate"], found["apparent_rate"]) == (2 / 3, 2 / 3)


def test_all_unseen_but_prefetched_bounced_is_no_rate_over_one(client: Client) -> None:
    found = told(client, [*sent("ab"), body("bounced", recipient="a"), *opens("ab", APPLE)])
    assert (found["delivered"], found["apparent_rate"], found["open_rate"]) == (1, 1, 0)
    assert (found["open_rate_low"], found["click_to_open_rate"]) == (0, None)


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [([0, 29_999], 1), ([0, 30_000], 2), ([0, 20_000, 40_000], 1), ([40_000, 0, 80_000], 3)],
)
def test_opens_less_than_30_s_apart_are_one(
    client: Client, milliseconds: list[int], expected: int
) -> None:
    hits = [body(recipient="a", ts=NOW * 1000 + at) for at in milliseconds]
    machine = opens("a", APPLE, ts=NOW * 1000 + 35_000)
    found = told(client, [*sent("a"), *hits, *machine])
    assert (found["opens"], found["hits"]) == (expected, len(milliseconds) + 1)


def test_mails_without_a_pixel_and_those_who_have_no_name(client: Client) -> None:
    """Neither can open: they are sends, and in no rate. Who got one mail with a pixel is in."""
    found = told(client, [
        *sent("a"), *sent("bc", detail="no pixel"), *sent("c", send="again"),
        *sent([""]), *opens([""]), *opens("b", kind="click", link="https://x"),
    ])  # fmt: skip
    assert (found["sends"], found["recipients"], found["delivered"]) == (5, 2, 2)
    assert (found["hits"], found["open_rate"], found["unrecorded"]) == (1, 0, 0)


def test_only_scanners_and_machines(client: Client) -> None:
    found = told(client, [*sent("ab"), *opens("a", SCANNER), *opens("b", SCANNER, kind="click")])
    assert (found["hits"], found["opens"], found["clicks"]) == (1, 0, 0)
    assert (found["open_rate"], found["apparent_rate"], found["confirmed_rate"]) == (0, 0, 0)


def test_segments_add_up(client: Client) -> None:
    events = [
        *sent("abc", segment="gmail.com"),
        *sent("de", segment="strict.example"),
        *sent("d"),  # recorded again
        *opens("ab"),
    ]
    writer(client).write(batch(block(events)))
    what = "segment, recipients, hits, readers, open_rate"
    found = client.query(f"SELECT {what} FROM heliograph.segments ORDER BY segment").result_rows
    assert list(found) == [("gmail.com", 3, 2, 2, 2 / 3), ("strict.example", 2, 0, 0, 0.0)]
