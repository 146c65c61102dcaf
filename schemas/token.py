"""The token: what a pixel's or a link's URL seals. Format 1, documented in docs/token.md.

    text    = base64url(key id, 3 bytes) base64url(seal)        both without padding
    seal    = AES-SIV (RFC 5297) of the payload under the key's 64 bytes, with one string of
              associated data: "heliograph/1/open", "…/click" or "…/optout"; 16 bytes of tag first
    payload = version and consent mode (1 byte: 0x10 | mode)
              sent_at in Unix seconds, 0 if unknown (4 bytes, big-endian)
              campaign, send, recipient, each a length byte and that many bytes of UTF-8
              the target URL in UTF-8, to the end (clicks only)

An empty `send` stands for the campaign's name. AES-SIV is deterministic: the same content under
the same key is the same token, so minting twice gives one URL. The purpose is authenticated, so
a pixel's token is no link's.
"""

import binascii
import re
import string
from collections.abc import Callable
from typing import Final, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from schemas.consent import Mode

Purpose = Literal["open", "click", "optout"]
Reason = Literal["malformed", "unknown_key", "forged", "content"]

KEY_BYTES: Final = 64
MIN_TEXT: Final = 28
MAX_TEXT: Final = 4096
MAX_NAME: Final = 255
MAX_LINK: Final = 2048
_DATA: Final = {
    "open": [b"heliograph/1/open"],
    "click": [b"heliograph/1/click"],
    "optout": [b"heliograph/1/optout"],
}
_TEXT: Final = re.compile(rb"[A-Za-z0-9_-]{%d,%d}" % (MIN_TEXT, MAX_TEXT))
_LETTERS: Final = (string.ascii_letters + string.digits).encode()
_OTHERS: Final = bytes(set(range(256)) - set(_LETTERS + b"-_"))
#: The URL alphabet to the standard one; all else becomes what base64 refuses.
_TO_STANDARD: Final = bytes.maketrans(b"-_" + _OTHERS, b"+/" + b"!" * len(_OTHERS))
#: msgspec reads base64 three times as fast as binascii does, as a JSON string with its padding.
_decode: Final = msgspec.json.Decoder(bytes).decode
_CLOSE: Final = (b'"', b'!"', b'=="', b'="')
#: What a text of this length, modulo 4, may end with: the bits left over are zeros. (0: anything.)
_ENDS: Final[tuple[frozenset[int], ...]] = (
    frozenset(),
    frozenset(),
    frozenset(b"AQgw"),
    frozenset(b"AEIMQUYcgkosw048"),
)
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_VERSION: Final = 0x10


_MODES: Final = {_VERSION | mode: mode for mode in Mode}


class Sealed(NamedTuple):
    """What a token says: names in Unicode, `sent_at` in Unix seconds."""

    campaign: str
    send: str
    recipient: str
    sent_at: int = 0
    mode: Mode = Mode.FULL
    link: str = ""


#: The same without the class, of which one would be made for each hit.
Fields = tuple[str, str, str, int, Mode, str]

#: A key's id, and its cipher's `decrypt`.
Opener = tuple[str, Callable[[bytes, list[bytes]], bytes]]


class TokenError(ValueError):
    """A text is no token of ours; `reason` is the label it is counted under."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


def check_link(link: str) -> None:
    """Raise ValueError unless the URL may be redirected to: absolute http(s), one plain line."""
    if len(link.encode("utf-8", "surrogatepass")) > MAX_LINK:
        raise ValueError(f"a link is longer than {MAX_LINK} bytes")
    if not re.fullmatch(r"[!-\[\]-~]+", link):
        raise ValueError("a link holds spaces, backslashes, control or non-ASCII characters")
    parts = urlsplit(link)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("a link must be an absolute http or https URL without a user name")
    _ = parts.port


def _name(value: str, what: str) -> bytes:
    raw = value.encode()
    if len(raw) > MAX_NAME:
        raise ValueError(f"{what} is longer than {MAX_NAME} bytes")
    return bytes([len(raw)]) + raw


def pack(purpose: Purpose, sealed: Sealed) -> bytes:
    """The payload of a token; raises ValueError naming what does not fit."""
    if not sealed.campaign:
        raise ValueError("campaign is empty")
    if not 0 <= sealed.sent_at < 1 << 32:
        raise ValueError("sent_at is not between 1970 and 2106")
    if purpose == "click":
        check_link(sealed.link)
    elif sealed.link:
        raise ValueError("only a link has a target")
    return b"".join(
        (
            bytes([_VERSION | sealed.mode]),
            sealed.sent_at.to_bytes(4, "big"),
            _name(sealed.campaign, "campaign"),
            _name("" if sealed.send == sealed.campaign else sealed.send, "send"),
            _name(sealed.recipient, "recipient"),
            sealed.link.encode(),
        )
    )


#: The names of sends, as they are packed; forgotten as a whole when they are too many.
_names: Final[dict[bytes, tuple[str, str]]] = {}
_MOST_NAMES: Final = 4096


def _read_names(packed: bytes) -> tuple[str, str]:
    """Campaign and send, which all tokens of a send share; raises TokenError, ValueError."""
    send_at = 1 + packed[0]
    campaign = packed[1:send_at].decode()
    if not campaign:
        raise TokenError("content")
    names = campaign, packed[send_at + 1 :].decode() or campaign
    if len(_names) >= _MOST_NAMES:
        _names.clear()
    _names[packed] = names
    return names


def unpack(purpose: Purpose, payload: bytes) -> Fields:
    """The inverse of `pack`; raises TokenError("content") on what is no payload of this format."""
    try:
        mode = _MODES[payload[0]]
        send_at = 6 + payload[5]
        recipient_at = send_at + 1 + payload[send_at]
        link_at = recipient_at + 1 + payload[recipient_at]
        packed = payload[5:recipient_at]
        campaign, send = _names.get(packed) or _read_names(packed)
        recipient = payload[recipient_at + 1 : link_at].decode()
        link = ""
        if purpose == "click":
            link = payload[link_at:].decode()
            check_link(link)
    except (LookupError, ValueError):
        raise TokenError("content") from None
    if link_at > len(payload) or (purpose != "click" and link_at < len(payload)):
        raise TokenError("content")
    # Compiled code calls int.from_bytes as Python does, but shifts by itself.
    sent_at = payload[1] << 24 | payload[2] << 16 | payload[3] << 8 | payload[4]
    return campaign, send, recipient, sent_at, mode, link


def encode64(raw: bytes) -> str:
    """Unpadded base64url (RFC 4648, section 5)."""
    return binascii.b2a_base64(raw, newline=False).translate(_TO_URL).rstrip(b"=").decode()


def decode64(text: bytes) -> bytes:
    """The inverse of `encode64`; TokenError("malformed") on every text it would not write."""
    left = len(text) % 4
    try:
        raw: bytes = _decode(b'"%b%b' % (text.translate(_TO_STANDARD), _CLOSE[left]))
    except msgspec.MsgspecError:
        raise TokenError("malformed") from None
    if left and text[-1] not in _ENDS[left]:
        raise TokenError("malformed")
    return raw


def seal(cipher: AESSIV, key_id: bytes, purpose: Purpose, sealed: Sealed) -> str:
    """A token's text; raises ValueError where the content does not fit."""
    text = encode64(key_id) + encode64(cipher.encrypt(pack(purpose, sealed), _DATA[purpose]))
    if len(text) > MAX_TEXT:
        raise ValueError("the names and the link together are too long for a token")
    return text


def well_formed(text: bytes) -> bool:
    """Whether a text has a token's alphabet and length: the check before any decoding."""
    return _TEXT.fullmatch(text) is not None


def unseal(openers: dict[bytes, Opener], purpose: Purpose, text: bytes) -> tuple[Fields, str]:
    """What a token says, and the id of its key. `openers` are by what their tokens begin with.
    Raises TokenError.
    """
    known = openers.get(text[:4])
    if known is None or not MIN_TEXT <= len(text) <= MAX_TEXT:
        raise TokenError("unknown_key" if well_formed(text) else "malformed")
    key_id, decrypt = known
    try:
        payload = decrypt(decode64(text[4:]), _DATA[purpose])
    except (InvalidTag, ValueError) as error:
        raise error if isinstance(error, TokenError) else TokenError("forged") from None
    return unpack(purpose, payload), key_id
