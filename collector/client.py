"""The client's address: what the peer says of others is believed only from configured proxies."""

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# Found once: compiled code looks a module's names up each time.
_pton: Final = socket.inet_pton
_IPV4: Final = int(socket.AF_INET)
_LONGEST: Final = 64  # of a textual address with brackets, port and zone


@lru_cache(maxsize=4096)
def parse(text: str) -> Address | None:
    """An address from one hop's text: port, brackets, zone and IPv4-mapping removed."""
    if len(text) > _LONGEST:
        return None
    text = text.strip(" \t")
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not _is_port(port)):
            return None
        text = host
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _is_port(":" + port):
            return None
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_port(text: str) -> bool:
    return text[:1] == ":" and text[1:].isascii() and text[1:].isdigit()


def _canonical(text: str) -> str:
    """A bare IPv4 or IPv6 address as `str(parse(text))` gives it; "" if it needs a closer look."""
    try:
        if ":" not in text:
            _pton(_IPV4, text)
            return text
        text = socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, text))
    except (OSError, ValueError):
        return ""
    return "" if "." in text else text


class TrustedProxies:
    """The networks whose X-Forwarded-For is believed."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(ipaddress.ip_network(text, strict=False) for text in networks)
        self.peer = lru_cache(maxsize=4096)(self._look)

    def trusts(self, address: Address) -> bool:
        """Whether an address is one of our proxies."""
        return any(address in network for network in self._networks)

    def _look(self, peer: str) -> tuple[str, bool]:
        """A peer's address as text, and whether it is one of our proxies."""
        address = parse(peer)
        return ("", False) if address is None else (str(address), self.trusts(address))

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """The client's address as text, "" if even the peer has none.

        `forwarded` are the X-Forwarded-For headers in order. Each proxy appends the address it
        was asked from, so the rightmost hop that is not ours is the last one nobody could forge.
        Where all hops are ours it is the first; where one is no address, it is the peer.
        """
        address, ours = self.peer(peer)
        return self.behind(address, forwarded) if ours and forwarded else address

    def behind(self, address: str, forwarded: Sequence[str]) -> str:
        """The client's address, where the peer's is that of one of our proxies: see `client`."""
        if len(forwarded) == 1 and (only := _canonical(forwarded[0])):
            return only
        client = address
        for text in reversed(",".join(forwarded).split(",")):
            hop = parse(text)
            if hop is None:
                return address
            client = str(hop)
            if not self.trusts(hop):
                break
        return client
