"""Makes schemas/token_vectors.json: `python -m tests.unit.token_vectors` writes it anew.

Everything is derived from constants, so that the file changes only if the format does.
"""

import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from schemas import token
from schemas.consent import Mode
from schemas.keyring import Key, KeyFile, Keyring, key_id
from schemas.token import Purpose, Sealed

FILE = Path(__file__).parents[2] / "schemas" / "token_vectors.json"
SECRETS = [hashlib.sha512(b"heliograph test key %d" % n).digest() for n in range(3)]
HASH_SECRET = hashlib.sha256(b"heliograph test hash key").digest()
UNKNOWN = hashlib.sha512(b"heliograph unknown key").digest()

VALID: list[tuple[int, Purpose, Sealed]] = [
    (0, "open", Sealed("spring-2026", "spring-2026", "customer-4711", 1_767_225_600)),
    (0, "open", Sealed("spring-2026", "second-wave", "customer-4711", 1_767_225_600)),
    (1, "open", Sealed("c", "c", "", 0, Mode.OFF)),
    (1, "open", Sealed("c", "c", "", 0, Mode.ANONYMOUS)),
    (1, "open", Sealed("c", "c", "r", (1 << 32) - 1, Mode.PSEUDONYMOUS)),
    (2, "open", Sealed("Frühling 🌷", "Welle-2", "客户-1", 1_800_000_000)),
    (2, "open", Sealed("c" * 255, "s" * 255, "é" * 127, 1_800_000_000)),
    (0, "click", Sealed("spring-2026", "spring-2026", "customer-4711", 1_767_225_600,
                        link="https://shop.example/sale?a=1&b=%C3%A4#top")),
    (2, "click", Sealed("c", "c", "r", 0, Mode.PSEUDONYMOUS, "http://[2001:db8::1]:8080/")),
    (2, "click", Sealed("c", "c", "r", 0, link="https://shop.example/" + "x" * 2027)),
    (0, "optout", Sealed("spring-2026", "spring-2026", "customer-4711", 1_767_225_600)),
]  # fmt: skip


def keyring() -> Keyring:
    """The ring of the vectors; the last key mints."""
    states = ("opening", "waiting", "minting")
    keys = tuple(
        Key(key_id(secret), state, 1_767_225_600, secret)
        for secret, state in zip(SECRETS, states, strict=True)
    )
    return Keyring(KeyFile(hash_secret=HASH_SECRET, keys=keys))


def seal(secret: bytes, purpose: Purpose, sealed: Sealed) -> str:
    """A token under any key, whichever mints."""
    return token.seal(AESSIV(secret), bytes.fromhex(key_id(secret)), purpose, sealed)


def seal_payload(payload: bytes, purpose: Purpose = "open") -> str:
    """A token of a payload that `pack` would not write."""
    raw = AESSIV(SECRETS[0]).encrypt(payload, [b"heliograph/1/" + purpose.encode()])
    return token.encode64(bytes.fromhex(key_id(SECRETS[0]))) + token.encode64(raw)


def _valid() -> list[dict[str, object]]:
    return [
        {
            "key": key_id(SECRETS[number]),
            "purpose": purpose,
            **sealed._asdict(),
            "payload": token.pack(purpose, sealed).hex(),
            "token": seal(SECRETS[number], purpose, sealed),
        }
        for number, purpose, sealed in VALID
    ]


def _flip(text: str) -> str:
    """With one bit of the seal's first byte changed."""
    raw = bytearray(token.decode64(text[4:].encode()))
    raw[0] ^= 1
    return text[:4] + token.encode64(bytes(raw))


def _not_canonical(text: str) -> str:
    """With a bit set that base64 leaves unused at the end: many decoders take it for the same."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(text) % 4 in (2, 3)
    return text[:-1] + alphabet[alphabet.index(text[-1]) | 1]


def _invalid() -> list[dict[str, str]]:
    good = seal(SECRETS[0], "open", VALID[0][2])
    short = seal(SECRETS[1], "open", VALID[4][2])
    link = seal(SECRETS[0], "click", VALID[7][2])
    head, names = b"\x13" + bytes(4), b"\x01c\x00\x01r"
    cases: list[tuple[str, Purpose, str, str]] = [
        ("a link's token as a pixel's", "open", link, "forged"),
        ("a pixel's token as a link's", "click", good, "forged"),
        ("a pixel's token as an opt-out page's", "optout", good, "forged"),
        ("one bit of the seal flipped", "open", _flip(good), "forged"),
        ("the last character lost", "open", good[:-1], "malformed"),
        ("four characters lost", "open", good[:-4], "forged"),
        ("another key's id before the seal", "open",
         token.encode64(bytes.fromhex(key_id(SECRETS[1]))) + good[4:], "forged"),
        ("a key that is not in the file", "open", seal(UNKNOWN, "open", VALID[0][2]),
         "unknown_key"),
        ("bits set that base64 leaves unused", "open", _not_canonical(short), "malformed"),
        ("a character outside the alphabet", "open", good[:9] + "+" + good[10:], "malformed"),
        ("a line break inside", "open", good[:20] + "\n" + good[20:], "malformed"),
        ("padding", "open", good + "=", "malformed"),
        ("characters after the end", "open", good + "AAAA", "forged"),
        ("too short", "open", good[:27], "malformed"),
        ("empty", "open", "", "malformed"),
        ("too long", "open", good + "A" * 4096, "malformed"),
        ("another version", "open", seal_payload(b"\x23" + bytes(4) + names), "content"),
        ("an unknown mode", "open", seal_payload(b"\x14" + bytes(4) + names), "content"),
        ("no campaign", "open", seal_payload(head + b"\x00\x00\x01r"), "content"),
        ("a name that ends behind the payload", "open", seal_payload(head + b"\x01c\x00\x02r"),
         "content"),
        ("no recipient's length", "open", seal_payload(head + b"\x01c\x00"), "content"),
        ("bytes after a pixel's recipient", "open", seal_payload(head + names + b"x"), "content"),
        ("a name that is not UTF-8", "open", seal_payload(head + b"\x01\xff\x00\x01r"), "content"),
        ("a link without a URL", "click", seal_payload(head + names, "click"), "content"),
        ("a script as the URL", "click", seal_payload(head + names + b"javascript:1", "click"),
         "content"),
        ("a user name in the URL", "click",
         seal_payload(head + names + b"https://a@b.example/", "click"), "content"),
        ("a line break in the URL", "click",
         seal_payload(head + names + b"https://b.example/\r\nX: y", "click"), "content"),
    ]  # fmt: skip
    return [
        {"what": what, "purpose": purpose, "token": text, "reason": reason}
        for what, purpose, text, reason in cases
    ]


def build() -> dict[str, object]:
    """The file's content."""
    return {
        "about": "Test vectors of the token, format 1, documented in docs/token.md.",
        "keys": [{"id": key_id(secret), "secret": secret.hex()} for secret in SECRETS],
        "hash": {
            "secret": HASH_SECRET.hex(),
            "recipient": " Anna@Example.ORG ",
            "pseudonym": keyring().hash_recipient(" Anna@Example.ORG "),
        },
        "valid": _valid(),
        "invalid": _invalid(),
    }


def render() -> str:
    """The file's text."""
    return json.dumps(build(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(render(), "utf-8")
