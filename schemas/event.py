"""The event: one line of NDJSON, named by (journal, seq).

Every line holds all fields below, but `segment` and `detail` only where they say something, and
`consent`, the mode that the store has to keep to, only where it is not full.
Strings are bounded in bytes, valid UTF-8 and "" when unknown; `ts` is Unix time in milliseconds,
`sent_at` in seconds (0: unknown). The line is what the journal keeps, what a Kafka record holds
(one after another), and what ClickHouse parses.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from orjson import dumps as _dumps

Kind = Literal[
    "sent", "open", "click", "cancelled", "bounced", "receipt", "optout", "optin", "erased"
]
KINDS: Final = (
    "sent", "open", "click", "cancelled", "bounced", "receipt", "optout", "optin", "erased"
)  # fmt: skip
#: Kinds whose events are of no campaign.
UNNAMED: Final = ("receipt", "optout", "optin")
#: The detail of a send that was minted without a pixel.
NO_PIXEL: Final = "no pixel"

#: Browsers and mail programs announce a prefetch in one of these, or in several.
PREFETCH_HEADERS: Final = ("sec-purpose", "purpose", "x-purpose", "x-moz")
#: The longest value kept of each text field, in bytes before replacement of what is not UTF-8.
BOUNDS: Final[Mapping[str, int]] = {
    "campaign": 255,
    "send": 255,
    "recipient": 255,
    "message_id": 255,
    "link": 2048,
    "method": 16,
    "address": 45,
    "user_agent": 512,
    "accept_language": 64,
    "referer": 512,
    "prefetch": 64,
    "key_id": 6,
    "segment": 255,
    "detail": 16,
}

#: No encoded line is longer: the bounds above, each byte escaped as \u00xx at worst, and the rest.
MAX_LINE: Final = 32 * 1024


def clean(value: str, limit: int) -> str:
    """The first `limit` bytes of a text as valid UTF-8.

    aiohttp gives undecodable header bytes as surrogates (PEP 383); they become U+FFFD.
    """
    if value.isascii():
        return value[:limit]
    raw = value.encode("utf-8", "surrogatepass" if _wide(value) else "surrogateescape")
    return raw[:limit].decode("utf-8", "replace")


def _wide(value: str) -> bool:
    """Whether a text holds surrogates that PEP 383 never makes."""
    return any(0xD800 <= ord(c) <= 0xDFFF and not 0xDC80 <= ord(c) <= 0xDCFF for c in value)


def announced(headers: Mapping[str, str]) -> str:
    """What all headers that may announce a prefetch say, by lower-case names."""
    said = ""
    for name in PREFETCH_HEADERS:
        if value := headers.get(name):
            said = f"{said}, {value}" if said else value
    return said


def send_part(campaign: str, send: str) -> bytes:
    """The fields that all events of a send share, as a piece of JSON, with a comma."""
    return _piece(campaign=clean(campaign, 255), send=clean(send, 255)) + b","


def client_part(
    method: str, user_agent: str, accept_language: str, prefetch: str, consent: str = ""
) -> bytes:
    """The fields that all requests of a client's kind share, as the last piece of an event."""
    client = _piece(
        method=clean(method, 16),
        user_agent=clean(user_agent, 512),
        accept_language=clean(accept_language, 64),
        prefetch=clean(prefetch, 64),
        **({"consent": consent} if consent else {}),
    )
    return client + b"}\n"


def _piece(**fields: str | int) -> bytes:
    return _dumps(fields)[1:-1]


def hit_start(ts: int, kind: Kind) -> bytes:
    """What all hits of a kind at a time begin with."""
    return b'"ts":%d,"kind":"%b","sent_at":' % (ts, kind.encode())


def hit(
    start: bytes,
    sent_at: int,
    recipient: str,
    address: str,
    referer: str,
    key_id: str,
    link: str,
    send: bytes,
    client: bytes,
) -> bytes:
    """The body of an open or a click, with `start`, `send` and `client` that it shares with
    others: see `hit_start`, `send_part` and `client_part`. Recipient and link come from a token,
    which bounds them, and the address is one.
    """
    return b'%b%d,"recipient":%b,"message_id":"","address":"%b","referer":%b,"key_id":"%b%b%b%b' % (
        start,
        sent_at,
        _dumps(recipient),
        address.encode(),
        _dumps(clean(referer, 512)) if referer else b'""',
        key_id.encode(),
        b'","link":%b,' % _dumps(link) if link else b'","link":"",',
        send,
        client,
    )


def event(
    ts: int,
    kind: Kind,
    *,
    campaign: str,
    send: str,
    recipient: str,
    key_id: str,
    sent_at: int = 0,
    message_id: str = "",
    link: str = "",
    method: str = "",
    address: str = "",
    user_agent: str = "",
    accept_language: str = "",
    referer: str = "",
    prefetch: str = "",
    segment: str = "",
    detail: str = "",
    consent: str = "",
) -> bytes:
    """The body of an event: the rest of its line, behind the identity that the journal adds."""
    more = {"segment": clean(segment, 255)} if segment else {}
    if detail:
        more["detail"] = clean(detail, 16)
    return b'"ts":%d,"kind":"%b",%b,%b%b' % (
        ts,
        kind.encode(),
        _piece(
            sent_at=sent_at,
            recipient=clean(recipient, 255),
            message_id=clean(message_id, 255),
            link=clean(link, 2048),
            address=clean(address, 45),
            referer=clean(referer, 512),
            key_id=key_id,
            **more,
        ),
        send_part(campaign, send),
        client_part(method, user_agent, accept_language, prefetch, consent),
    )


def optout(recipient: str, out: bool, now: float) -> bytes:
    """What tells the store that a recipient opted out at a time in Unix seconds, or in again."""
    kind: Kind = "optout" if out else "optin"
    return event(int(now * 1000), kind, campaign="", send="", recipient=recipient, key_id="")


def block(journal: str, first_seq: int, bodies: Sequence[bytes]) -> bytes:
    """Bodies as a block of lines, named (journal, first_seq), (journal, first_seq + 1), …"""
    head = b'{"journal":"%b","seq":' % journal.encode()
    return b"".join([b"%b%d,%b" % (head, seq, body) for seq, body in enumerate(bodies, first_seq)])
