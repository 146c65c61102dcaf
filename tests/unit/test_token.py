"""The token: published vectors, round trips, and everything that must be refused."""

import hashlib
import hmac
import json
import string
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import token
from schemas.consent import Mode
from schemas.keyring import Keyring
from schemas.token import Sealed, TokenError
from tests.unit import token_vectors

VECTORS = json.loads(token_vectors.FILE.read_text("utf-8"))
RING = token_vectors.keyring()
GOOD = RING.seal("open", Sealed("campaign", "send", "recipient", 1_700_000_000))
PURPOSES: tuple[token.Purpose, ...] = ("open", "click")
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=63)
LINKS = st.text(string.ascii_letters + string.digits + "/?&=%#._~-", max_size=300).map(
    lambda tail: "https://example.org/" + tail
)


def reason(ring: Keyring, purpose: token.Purpose, text: str) -> str:
    with pytest.raises(TokenError) as caught:
        ring.unseal(purpose, text)
    return caught.value.reason


def test_the_published_file_is_what_this_code_makes() -> None:
    assert token_vectors.FILE.read_text("utf-8") == token_vectors.render()


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda v: v["token"][:12])
def test_valid_vectors_in_both_directions(vector: dict[str, str]) -> None:
    sealed = Sealed(
        vector["campaign"], vector["send"], vector["recipient"], int(vector["sent_at"]),
        Mode(int(vector["mode"])), vector["link"],
    )  # fmt: skip
    purpose = cast(token.Purpose, vector["purpose"])
    secret = next(bytes.fromhex(k["secret"]) for k in VECTORS["keys"] if k["id"] == vector["key"])
    assert token.pack(purpose, sealed).hex() == vector["payload"]
    assert token_vectors.seal(secret, purpose, sealed) == vector["token"]
    assert RING.unseal(purpose, vector["token"]) == (sealed, vector["key"])


@pytest.mark.parametrize("vector", VECTORS["invalid"], ids=lambda v: v["what"])
def test_invalid_vectors(vector: dict[str, str]) -> None:
    purpose = cast(token.Purpose, vector["purpose"])
    assert reason(RING, purpose, vector["token"]) == vector["reason"]


def test_the_vectors_are_made_by_the_document_alone() -> None:
    """The seal by RFC 5297 from its primitives, not by the library's AES-SIV."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.cmac import CMAC

    def cmac(key: bytes, data: bytes) -> bytes:
        mac = CMAC(algorithms.AES(key))
        mac.update(data)
        return mac.finalize()

    def double(block: bytes) -> bytes:
        number = int.from_bytes(block, "big") << 1
        return ((number & (1 << 128) - 1) ^ (0x87 if number >> 128 else 0)).to_bytes(16, "big")

    def xor(a: bytes, b: bytes) -> bytes:
        return bytes(x ^ y for x, y in zip(a, b, strict=True))

    for vector in VECTORS["valid"]:
        secret = next(
            bytes.fromhex(k["secret"]) for k in VECTORS["keys"] if k["id"] == vector["key"]
        )
        plain = bytes.fromhex(vector["payload"])
        d = xor(double(cmac(secret[:32], bytes(16))),
                cmac(secret[:32], b"heliograph/1/" + vector["purpose"].encode()))  # fmt: skip
        last = plain[:-16] + xor(plain[-16:], d) if len(plain) >= 16 else xor(
            double(d), (plain + b"\x80").ljust(16, b"\0")
        )  # fmt: skip
        tag = cmac(secret[:32], last)
        counter = bytearray(tag)
        counter[8] &= 0x7F
        counter[12] &= 0x7F
        stream = Cipher(algorithms.AES(secret[32:]), modes.CTR(bytes(counter))).encryptor()
        made = tag + stream.update(plain)
        assert vector["token"] == token.encode64(bytes.fromhex(vector["key"])) + token.encode64(
            made
        )
        assert hashlib.sha256(secret).hexdigest()[:6] == vector["key"]


def test_the_pseudonym_vector() -> None:
    told = VECTORS["hash"]
    text = told["recipient"].strip().lower().encode()
    plain = hashlib.blake2b(text, key=bytes.fromhex(told["secret"]), digest_size=16).hexdigest()
    assert hmac.compare_digest(plain, told["pseudonym"])
    assert RING.hash_recipient("anna@example.org") == told["pseudonym"]


@given(NAMES.filter(bool), NAMES, NAMES, st.integers(0, (1 << 32) - 1), st.sampled_from(Mode))
def test_a_pixel_says_what_was_sealed(
    campaign: str, send: str, recipient: str, sent_at: int, mode: Mode
) -> None:
    sealed = Sealed(campaign, send, recipient, sent_at, mode)
    text = RING.seal("open", sealed)
    assert set(text) <= set(string.ascii_letters + string.digits + "-_")
    told, key = RING.unseal("open", text)
    assert told == sealed._replace(send=send or campaign)
    assert key == RING.minting_id
    assert RING.seal("open", sealed) == text
    assert reason(RING, "click", text) == "forged"


@given(LINKS)
def test_a_link_says_what_was_sealed(link: str) -> None:
    sealed = Sealed("c", "c", "r", 5, link=link)
    assert RING.unseal("click", RING.seal("click", sealed))[0] == sealed


def test_every_flipped_bit_is_refused() -> None:
    raw = token.decode64(GOOD[4:].encode())
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        assert reason(RING, "open", GOOD[:4] + token.encode64(bytes(changed))) == "forged"


def test_every_other_character_is_refused() -> None:
    for at in range(len(GOOD)):
        for other in {"A", "b", "9", "_", ".", "%", "é"} - {GOOD[at]}:
            assert reason(RING, "open", GOOD[:at] + other + GOOD[at + 1 :]) in (
                "malformed", "unknown_key", "forged",
            )  # fmt: skip


@pytest.mark.parametrize("length", range(4))
def test_a_token_has_one_spelling(length: int) -> None:
    good = RING.seal("open", Sealed("c" * (length + 1), "c" * (length + 1), "r?>", 5))
    for text in (good + "=", good + "==", good.replace("-", "+"), good.replace("_", "/")):
        assert text == good or reason(RING, "open", text) == "malformed"


@settings(max_examples=300)
@given(st.text(max_size=200) | st.text(string.ascii_letters + string.digits + "-_", min_size=24))
def test_junk_is_refused(text: str) -> None:
    assert reason(RING, "open", text) in ("malformed", "unknown_key", "forged")


@given(st.binary(max_size=80))
def test_any_payload_is_read_or_refused(payload: bytes) -> None:
    for purpose in PURPOSES:
        try:
            sealed = Sealed(*token.unpack(purpose, payload))
        except TokenError:
            continue
        assert token.unpack(purpose, token.pack(purpose, sealed)) == sealed


@pytest.mark.parametrize(
    "link",
    [
        "", "/x", "//evil.example", "javascript:alert(1)", "ftp://a.example", "https:///x",
        "https://a@b.example", "https://a.example/ x", "https://a.example\\@b.example",
        "https://a.example/\r\nSet-Cookie: x", "https://ä.example", "https://a.example:99999/",
        "https://[::1", "https://a.example/" + "x" * 2048,
    ],
)  # fmt: skip
def test_links_that_are_no_plain_web_address_are_not_sealed(link: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        RING.seal("click", Sealed("c", "c", "r", link=link))


@pytest.mark.parametrize(
    ("sealed", "what"),
    [
        (Sealed("", "", "r"), "campaign is empty"),
        (Sealed("c" * 256, "", "r"), "campaign is longer"),
        (Sealed("c", "s" * 256, "r"), "send is longer"),
        (Sealed("c", "s", "é" * 128), "recipient is longer"),
        (Sealed("c", "s", "r", -1), "sent_at"),
        (Sealed("c", "s", "r", 1 << 32), "sent_at"),
        (Sealed("c", "s", "r", link="https://a.example"), "only a link has a target"),
    ],
)
def test_what_does_not_fit_is_named(sealed: Sealed, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        RING.seal("open", sealed)


def test_the_document_shows_the_first_vector() -> None:
    text = (token_vectors.FILE.parents[1] / "docs" / "token.md").read_text("utf-8")
    first = VECTORS["valid"][0]
    secret = next(key["secret"] for key in VECTORS["keys"] if key["id"] == first["key"])
    for part in (secret[:64], secret[64:], first["payload"], first["key"], first["token"][:44],
                 first["token"][44:], str(first["sent_at"]), first["recipient"]):  # fmt: skip
        assert part in text
    assert set(token.Reason.__args__) == {vector["reason"] for vector in VECTORS["invalid"]}  # type: ignore[attr-defined]
