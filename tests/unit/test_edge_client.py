"""The client's address: nobody outside the configured proxies can choose it."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.client import TrustedProxies

PROXIES = TrustedProxies(["10.0.0.0/8", "fd00::/8", "127.0.0.1"])
OUTSIDE = st.ip_addresses().filter(lambda a: not PROXIES.trusts(a) and not _mapped(a))
INSIDE = st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(network="fd00::/8")
GARBAGE = st.text(st.characters(blacklist_characters=","), max_size=80).filter(
    lambda text: not any(c.isdigit() or c == ":" for c in text)
)


def _mapped(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None


@given(OUTSIDE, st.lists(st.text(max_size=80), max_size=4))
def test_a_stranger_is_who_it_is_whatever_it_says(peer: object, said: list[str]) -> None:
    assert PROXIES.client(str(peer), said) == str(peer)


@given(INSIDE, OUTSIDE, st.lists(st.text(max_size=60), max_size=3), st.lists(INSIDE, max_size=3))
def test_the_rightmost_hop_that_is_not_ours(
    peer: object, client: object, forged: list[str], proxies: list[object]
) -> None:
    hops = [*forged, str(client), *map(str, proxies)]
    assert PROXIES.client(str(peer), [", ".join(hops)]) == str(client)
    assert PROXIES.client(str(peer), hops) == str(client)  # as headers of their own


@given(INSIDE, GARBAGE, st.lists(INSIDE, max_size=3))
def test_garbage_is_the_peer(peer: object, garbage: str, proxies: list[object]) -> None:
    assert PROXIES.client(str(peer), [", ".join([garbage, *map(str, proxies)])]) == str(peer)


@given(st.text(max_size=60), st.lists(st.text(max_size=60), max_size=4))
def test_whatever_comes_it_is_an_address_or_nothing(peer: str, said: list[str]) -> None:
    found = PROXIES.client(peer, said)
    assert found == "" or str(ipaddress.ip_address(found)) == found
    assert len(found) <= 45


@pytest.mark.parametrize(
    ("peer", "said", "found"),
    [
        ("::ffff:10.1.2.3", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9:5678"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::1]:443"], "2001:db8::1"),
        ("10.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", ["fe80::1%eth0<script>"], "fe80::1"),
        ("10.0.0.1", ["[2001:db8::1]x"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9:x"], "10.0.0.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("", ["203.0.113.9"], ""),
    ],
)
def test_forms(peer: str, said: list[str], found: str) -> None:
    assert PROXIES.client(peer, said) == found


def test_nobody_is_trusted_by_default() -> None:
    assert TrustedProxies([]).client("10.0.0.1", ["203.0.113.9"]) == "10.0.0.1"
