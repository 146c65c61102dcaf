"""Whatever is posted as sends: one answer a line, and only what is right becomes an event."""

import io
import os

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from collector.mint import Mint, SendRequest
from collector.sends import MAX_LINE, _lines, _mint_line
from schemas import event, keyring

MINT = Mint(keyring.Keyring(keyring.create(os.urandom, 1)), "https://x", lambda: 1_790_000_000.0)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from([*SendRequest.__struct_fields__, "other"])
ROWS = st.dictionaries(FIELDS, JSON, max_size=6) | st.fixed_dictionaries(
    {"campaign": st.text(max_size=300), "recipient": st.text(max_size=300)},
    optional={
        "send": st.text(),
        "sent_at": JSON,
        "message_id": st.text(),
        "links": st.dictionaries(st.text(), st.just("https://x.org/") | st.text(), max_size=3),
        "cancelled": st.booleans(),
        "bounced": st.booleans(),
        "segment": st.text(max_size=300),
        "no_pixel": st.booleans(),
        "hash_recipient": st.booleans(),
        "allow_address": st.booleans(),
        "consent": st.sampled_from(["off", "anonymous", "pseudonymous", "full", "Full", ""]),
    },
)


def mint_line(line: bytes | None) -> dict[str, object] | None:
    """The event of a line that is taken, None of one that is refused with a reason."""
    try:
        told, body = _mint_line(MINT, 1, line)
    except ValueError:
        return None
    assert msgspec.json.decode(told)["line"] == 1
    if not body:
        assert msgspec.json.decode(told)["recipient"] == ""
        return None
    found: dict[str, object] = msgspec.json.decode(b"{" + body)
    return found


@given(ROWS)
def test_rows(row: dict[str, object]) -> None:
    found = mint_line(msgspec.json.encode(row))
    if found is None:
        return
    assert set(row) <= set(SendRequest.__struct_fields__)
    assert row.get("consent", "full") in ("pseudonymous", "full")
    assert found["campaign"] == row["campaign"]
    assert found["send"] == (row.get("send") or row["campaign"])
    taken_back, back = row.get("cancelled"), row.get("bounced")
    assert found["kind"] == ("cancelled" if taken_back else "bounced" if back else "sent")
    assert not (taken_back and back)
    assert found.get("segment", "") == row.get("segment", "")
    assert str(found["message_id"]) == str(found["message_id"]).strip()
    assert found.get("detail", "") == ("no pixel" if row.get("no_pixel") else "")
    if not row.get("hash_recipient"):
        assert found["recipient"] == str(row["recipient"]).strip()
    for name, bound in event.BOUNDS.items():
        assert len(str(found.get(name, "")).encode()) <= bound


@given(st.binary(max_size=300))
def test_bytes(line: bytes) -> None:
    mint_line(line)


@given(st.lists(st.binary(max_size=12).map(lambda raw: raw.replace(b"\n", b"")), max_size=12))
def test_lines_keep_their_numbers(rows: list[bytes]) -> None:
    expected = [(n, row) for n, row in enumerate(rows, 1) if row.strip()]
    for body in (b"\n".join(rows), b"\n".join(rows) + b"\n"):
        found = [(n, (line or b"").rstrip(b"\n")) for n, line in _lines(io.BytesIO(body))]
        assert found == expected


def test_a_line_too_long_is_one_line() -> None:
    for length in (MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 3 * MAX_LINE):
        body = b"x" * length + b"\nnext\n"
        found = list(_lines(io.BytesIO(body)))
        assert [number for number, _ in found] == [1, 2]
        assert (found[0][1] is None) == (length >= MAX_LINE)
        assert found[1][1] == b"next\n"
