"""Minting: what a send becomes, and what is refused with which reason."""

import os
import re
from urllib.parse import urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.clock import SLACK_SECONDS, event_time
from collector.mint import Mint, SendRequest, ascii_link, unix_seconds
from schemas import keyring
from schemas.consent import Mode
from schemas.token import Sealed, check_link

NOW = 1_790_000_000.75
RING = keyring.Keyring(keyring.create(os.urandom, int(NOW)))
MINT = Mint(RING, "https://px.example.org/m/", lambda: NOW)


def test_a_send_becomes_its_urls_and_its_event() -> None:
    minted = MINT.send(
        SendRequest(
            campaign="spring", recipient="r-1", message_id="<m@x>", links={"shop": "https://x.org/"}
        )
    )
    sealed = Sealed("spring", "spring", "r-1", int(NOW))
    token = re.fullmatch(r"https://px\.example\.org/m/o/([\w-]+)\.gif", minted.pixel_url)
    assert token
    assert RING.unseal("open", token[1])[0] == sealed
    link = re.fullmatch(r"https://px\.example\.org/m/c/([\w-]+)", minted.links["shop"])
    assert link
    assert RING.unseal("click", link[1])[0] == sealed._replace(link="https://x.org/")
    assert f'src="{minted.pixel_url}"' in minted.pixel_html
    told = msgspec.json.decode(b"{" + minted.body)
    assert {name: told[name] for name in ("ts", "kind", "campaign", "send", "recipient")} == {
        "ts": int(NOW * 1000),
        "kind": "sent",
        "campaign": "spring",
        "send": "spring",
        "recipient": "r-1",
    }
    assert (told["message_id"], told["sent_at"], told["key_id"]) == (
        "<m@x>",
        int(NOW),
        RING.minting_id,
    )


def test_the_same_send_is_the_same_url() -> None:
    request = SendRequest(campaign="c", recipient="r", sent_at="2026-03-01T09:00:00+05:30")
    assert MINT.send(request) == MINT.send(request)


@pytest.mark.parametrize("installation", Mode)
@pytest.mark.parametrize("asked", Mode)
def test_the_most_restrictive_consent_is_sealed(installation: Mode, asked: Mode) -> None:
    mint = Mint(RING, "https://px", lambda: NOW, installation)
    minted = mint.send(SendRequest(campaign="c", recipient="r", consent=asked.word))
    sealed, _ = RING.unseal("open", minted.pixel_url[13:-4])
    assert sealed.mode == min(installation, asked)
    named = sealed.mode >= Mode.PSEUDONYMOUS
    assert (sealed.recipient, sealed.sent_at) == (("r", int(NOW)) if named else ("", 0))
    assert bool(minted.body) == named == bool(minted.recipient)


def test_an_anonymous_campaign_has_one_url() -> None:
    times = iter(range(int(NOW), int(NOW) + 10_000))
    mint = Mint(RING, "https://px", lambda: next(times))
    minted = {
        (told.pixel_url, told.links["a"], told.recipient, told.body)
        for told in (
            mint.send(SendRequest(campaign="c", recipient=f"r{n}@x.org", consent="anonymous",
                                  links={"a": "https://x.org/"}, hash_recipient=n % 2 == 0,
                                  segment=str(n), message_id=str(n)))
            for n in range(1000)
        )
    }  # fmt: skip
    assert len(minted) == 1
    assert next(iter(minted))[2:] == ("", b"")


def test_cancelling_is_an_event_of_its_own() -> None:
    minted = MINT.send(SendRequest(campaign="c", recipient="r", cancelled=True))
    assert msgspec.json.decode(b"{" + minted.body)["kind"] == "cancelled"


def test_a_key_has_no_white_space_around_it() -> None:
    assert MINT.send(SendRequest(campaign="c", recipient=" 1\n")).recipient == "1"


def test_what_is_far_ahead_can_be_taken_back() -> None:
    ahead = NOW + 2 * SLACK_SECONDS
    told = MINT.send(SendRequest(campaign="c", recipient="r", sent_at=ahead, cancelled=True))
    assert msgspec.json.decode(b"{" + told.body)["sent_at"] == int(ahead)


def test_a_planned_send_and_its_cancelling_are_dated_when_they_were_recorded() -> None:
    """Dated by the planned time, the send would outlast every cancelling before it."""
    for cancelled in (False, True):
        request = SendRequest(
            campaign="c", recipient="r", sent_at=NOW + 300 * 86_400, cancelled=cancelled
        )
        assert msgspec.json.decode(b"{" + MINT.send(request).body)["ts"] == int(NOW * 1000)


def test_a_hash_is_keyed_and_stable() -> None:
    minted = MINT.send(SendRequest(campaign="c", recipient=" Ann@X.org", hash_recipient=True))
    assert minted.recipient == RING.hash_recipient("ann@x.org")
    assert re.fullmatch("[0-9a-f]{32}", minted.recipient)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"recipient": "ann@x.org"}, "looks like an e-mail address"),
        ({"recipient": " "}, "recipient is empty"),
        ({"campaign": ""}, "campaign is empty"),
        ({"campaign": "é" * 128}, "campaign is longer than 255 bytes"),
        ({"message_id": "m" * 256}, "message_id is longer than 255 bytes"),
        ({"sent_at": "yesterday"}, "sent_at is neither"),
        ({"sent_at": NOW + SLACK_SECONDS + 2}, "sent_at is more than a year ahead"),
        ({"sent_at": -1}, "between 1970 and 2106"),
        ({"sent_at": 1e300}, "between 1970 and 2106"),
        ({"links": {"a": "javascript:alert(1)"}}, "link 'a': a link must be"),
        ({"links": {"a": "//evil.org"}}, "absolute http or https"),
        ({"links": {"a": "https://u@x.org/"}}, "without a user name"),
        ({"links": {"a": "https://x.org/a b"}}, "spaces"),
    ],
)
def test_what_is_refused(fields: dict[str, object], reason: str) -> None:
    request = msgspec.convert({"campaign": "c", "recipient": "r", **fields}, SendRequest)
    with pytest.raises(ValueError, match=reason):
        MINT.send(request)


def test_addresses_can_be_allowed() -> None:
    request = SendRequest(campaign="c", recipient="ann@x.org", allow_address=True)
    assert MINT.send(request).recipient == "ann@x.org"


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        ("2026-03-01T09:00:00Z", 1772355600),
        ("2026-03-01T09:00:00", 1772355600),
        ("2026-03-01", 1772323200),
        ("2026-03-01T14:30:00+05:30", 1772355600),
        (1772355600, 1772355600),
        (1772355600.9, 1772355600),
    ],
)
def test_times(moment: str | float, seconds: int) -> None:
    assert unix_seconds(moment) == seconds


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://x.org/ä?q=ü&r=%20#é", "https://x.org/%C3%A4?q=%C3%BC&r=%20#%C3%A9"),
        ("https://straße.de:8443/a", "https://xn--strae-oqa.de:8443/a"),
        ("https://例え.jp", "https://xn--r8jz45g.jp"),
    ],
)
def test_links_become_ascii(url: str, found: str) -> None:
    assert ascii_link(url) == found
    check_link(found)


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_link_leads_to_another_host(host: str, tail: str) -> None:
    """Whatever can be sealed has the host that was written, none that characters turned into."""
    url = f"https://{host}.example.org/{tail}"
    try:
        link = ascii_link(url)
        check_link(link)
    except ValueError:
        return
    found = urlsplit(link)
    written = re.split(r"[/?#]", f"{host}.example.org/")[0].partition(":")[0]
    if written.isascii():
        assert (found.hostname or "") == written.lower()
    else:
        assert found.hostname
        assert found.hostname.endswith(".example.org") or not written.endswith(".example.org")


@given(st.floats(0, 4e9), st.integers(0, (1 << 32) - 1))
def test_a_clock_that_is_far_behind_is_bounded(now: float, sent_at: int) -> None:
    ms = event_time(now, sent_at)
    assert ms >= int((sent_at - SLACK_SECONDS) * 1000)
    assert ms == int(now * 1000) or now < sent_at - SLACK_SECONDS
