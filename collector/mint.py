"""Minting: one send becomes the URLs to embed in a mail and the event that records it.

Needs neither aiohttp, aiokafka nor chDB: `POST /v1/sends`, `heliograph mint` and the Python call
inside an application are all this.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from html import escape
from typing import Final, NamedTuple, Protocol
from urllib.parse import quote

import idna
import msgspec

from collector.clock import SLACK_SECONDS
from schemas import event
from schemas.consent import Consent, Mode
from schemas.keyring import Keyring
from schemas.token import MAX_NAME, Sealed

#: The send of what the sender looks at before: its hits are of class `self` (schemas/rules).
PREVIEW: Final = "~preview"
#: Why a send is refused: `event_time` would date its opens ahead.
AHEAD: Final = "more than a year ahead"
_ADDRESS: Final = re.compile(r"[^\s@]@[^\s@]")
_HTML: Final = '<img src="{}" width="1" height="1" alt="" style="display:block;border:0">'


class SendRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of one mail to one recipient. (campaign, send, recipient) names it.

    `send` tells one sending of a campaign from another; empty, it is the campaign's name.
    `sent_at` is ISO 8601 (UTC unless it says otherwise) or Unix seconds, now by default; `links`
    maps a name of the caller's to a target URL; `cancelled` takes the send back instead, `bounced`
    says that the mail came back. `consent` is what campaign and recipient allow to be kept; below
    pseudonymous nothing is recorded, and the URLs name no recipient. `segment` is a part of the
    recipients that reports tell apart (their mail domain, a list, a variant) and not sealed;
    `no_pixel` makes no pixel's URL.
    `hash_recipient` seals a keyed hash in place of `recipient`; without it, what looks like an
    e-mail address is refused unless `allow_address`.
    """

    campaign: str
    recipient: str
    send: str = ""
    sent_at: int | float | str | None = None
    message_id: str = ""
    links: dict[str, str] = {}
    cancelled: bool = False
    bounced: bool = False
    segment: str = ""
    no_pixel: bool = False
    consent: Consent = "full"
    hash_recipient: bool = False
    allow_address: bool = False


class Minted(NamedTuple):
    """The URLs of one send, its recipient as sealed, and the body of the event that records it
    (b"" where the consent mode records none). `optout_url` is the page where the recipient opts
    out, "" in the modes that name none: they record nothing of a person.

    The URLs may be used once the body is in a journal or has been answered for.
    """

    recipient: str
    pixel_url: str
    pixel_html: str
    links: Mapping[str, str]
    body: bytes
    optout_url: str = ""


class Mint:
    """Seals sends under the minting key of a ring, into URLs under `public_url`."""

    def __init__(
        self,
        keyring: Keyring,
        public_url: str,
        clock: Callable[[], float],
        most: Mode = Mode.FULL,
    ) -> None:
        """`public_url` is absolute, with or without a path prefix; `clock` gives Unix seconds;
        `most` is the installation's consent mode, which no send exceeds.
        """
        self._keyring = keyring
        self._base = public_url.rstrip("/")
        self._clock = clock
        self._most = most

    def send(self, request: SendRequest) -> Minted:
        """Mint one send; raises ValueError with a reason fit for the one who asked."""
        now = self._clock()
        sent_at = int(now) if request.sent_at is None else unix_seconds(request.sent_at)
        if sent_at > now + SLACK_SECONDS and _kind(request) == "sent":
            raise ValueError(f"sent_at is {AHEAD}")
        if not request.campaign:
            raise ValueError("campaign is empty")
        for name in ("message_id", "segment"):
            if len(getattr(request, name).encode()) > event.BOUNDS[name]:
                raise ValueError(f"{name} is longer than {event.BOUNDS[name]} bytes")
        if request.send == PREVIEW and _kind(request) == "sent":
            raise ValueError(f"{PREVIEW} is of previews, whose hits are the sender's own")
        if request.cancelled and request.bounced:
            raise ValueError("a send that is cancelled was not mailed, and cannot bounce")
        sealed = self._sealed(request, sent_at)
        pixel = self._keyring.seal("open", sealed)  # checks what is sealed in either case
        pixel = "" if request.no_pixel else f"{self._base}/o/{pixel}.gif"
        links = {name: self._click(sealed, name, url) for name, url in request.links.items()}
        html = _HTML.format(escape(pixel)) if pixel else ""
        body = self._body(request, sealed, now)
        return Minted(sealed.recipient, pixel, html, links, body, self._optout(sealed))

    def _sealed(self, request: SendRequest, sent_at: int) -> Sealed:
        """What the tokens say: below pseudonymous the same for all recipients of a send."""
        mode = min(self._most, Mode.of(request.consent))
        recipient = recipient_key(self._keyring, request, sealed=mode >= Mode.PSEUDONYMOUS)
        if mode < Mode.PSEUDONYMOUS:
            recipient, sent_at = "", 0
        return Sealed(request.campaign, request.send or request.campaign, recipient, sent_at, mode)

    def _body(self, request: SendRequest, sealed: Sealed, now: float) -> bytes:
        """The event that records a send; none without a recipient, who is who it would count."""
        if not sealed.recipient:
            return b""
        return event.event(
            int(now * 1000),  # as it was recorded: of a send and its cancelling the later holds
            _kind(request),
            campaign=sealed.campaign,
            send=sealed.send,
            recipient=sealed.recipient,
            sent_at=sealed.sent_at,
            message_id=request.message_id.strip(),
            key_id=self._keyring.minting_id,
            segment=request.segment,
            detail=event.NO_PIXEL if request.no_pixel else "",
            consent="" if sealed.mode == Mode.FULL else sealed.mode.word,
        )

    def _optout(self, sealed: Sealed) -> str:
        if not sealed.recipient:
            return ""
        return f"{self._base}/optout/{self._keyring.seal('optout', sealed)}"

    def _click(self, sealed: Sealed, name: str, url: str) -> str:
        try:
            token = self._keyring.seal("click", sealed._replace(link=ascii_link(url)))
        except ValueError as error:
            raise ValueError(f"link {name!r}: {error}") from None
        return f"{self._base}/c/{token}"


class Named(Protocol):
    """What names a recipient."""

    @property
    def recipient(self) -> str:
        """A key, or what is to be hashed."""

    @property
    def hash_recipient(self) -> bool:
        """Whether it is to be hashed."""

    @property
    def allow_address(self) -> bool:
        """Whether it may be an address."""


def recipient_key(keyring: Keyring, named: Named, *, sealed: bool = True) -> str:
    """A recipient's key as tokens seal it; raises ValueError with the reason it is refused for."""
    recipient = named.recipient.strip()
    if not recipient:
        raise ValueError("recipient is empty")
    if len(recipient.encode()) > MAX_NAME:
        raise ValueError(f"recipient is longer than {MAX_NAME} bytes")
    if named.hash_recipient:
        return keyring.hash_recipient(recipient)
    if sealed and not named.allow_address and is_address(recipient):
        raise ValueError("recipient looks like an e-mail address: hash it, use a key of your "
                         "own, or allow addresses")  # fmt: skip
    return recipient


def is_address(recipient: str) -> bool:
    """Whether it looks like an e-mail address."""
    return _ADDRESS.search(recipient) is not None


def _kind(request: SendRequest) -> event.Kind:
    if request.cancelled:
        return "cancelled"
    return "bounced" if request.bounced else "sent"


def unix_seconds(moment: float | str | datetime) -> int:
    """A point in time as whole Unix seconds; raises ValueError."""
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment.strip())
        except ValueError:
            raise ValueError("sent_at is neither ISO 8601 nor Unix seconds") from None
    if isinstance(moment, datetime):
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not 0 < moment < 1 << 32:
        raise ValueError("sent_at is not between 1970 and 2106")
    return int(moment)


def ascii_link(url: str) -> str:
    """A URL with its non-ASCII characters percent-encoded, and its host in punycode (UTS 46)."""
    if url.isascii():
        return url
    scheme, slashes, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    host, colon, port = authority.partition(":")
    if not host.isascii():
        host = idna.encode(host, uts46=True).decode()
    tail = re.sub(r"[^\0-\x7f]+", lambda found: quote(found[0]), rest[len(authority) :])
    return f"{scheme}{slashes}{host}{colon}{port}{tail}"
