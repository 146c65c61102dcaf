"""The event: whatever bytes arrive, a bounded line of valid JSON comes out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import event

ANY = st.text(st.characters(), max_size=3000)  # lone surrogates included
NAMES = {"campaign": "c", "send": "s", "recipient": "r", "key_id": "abcdef"}


@given(st.sampled_from(event.KINDS), st.lists(ANY, min_size=13, max_size=13))
def test_any_text_becomes_a_bounded_line(kind: event.Kind, texts: list[str]) -> None:
    fields = [name for name in event.BOUNDS if name != "key_id"]
    body = event.event(1, kind, key_id="abcdef", **dict(zip(fields, texts, strict=True)))  # type: ignore[arg-type]
    line = event.block("0" * 28, 7, [body])
    assert len(line) <= event.MAX_LINE
    assert line.count(b"\n") == 1
    told = json.loads(line.decode("utf-8"))
    assert (told["journal"], told["seq"], told["ts"], told["kind"]) == ("0" * 28, 7, 1, kind)
    for name in fields:
        # What is cut inside a character may grow by its replacement.
        assert len(told.get(name, "").encode()) <= 3 * event.BOUNDS[name]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_text_that_fits_is_kept(text: str) -> None:
    assert event.clean(text, 255) == text


@given(st.binary(max_size=100))
def test_header_bytes_that_are_no_utf8_are_replaced(raw: bytes) -> None:
    cleaned = event.clean(raw.decode("utf-8", "surrogateescape"), 1000)
    assert cleaned == raw.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("text", "limit", "kept"),
    [("abc", 2, "ab"), ("äö", 2, "ä"), ("äö", 3, "ä\ufffd"), ("", 5, ""), ("a\0b", 9, "a\0b")],
)
def test_the_limit_counts_bytes(text: str, limit: int, kept: str) -> None:
    assert event.clean(text, limit) == kept


def test_a_block_names_its_lines_one_after_another() -> None:
    bodies = [event.event(1, "sent", **NAMES) for _ in range(3)]  # type: ignore[arg-type]
    lines = event.block("0" * 28, 5, bodies).splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [5, 6, 7]
    assert set(json.loads(lines[0])) == {
        "journal", "seq", "ts", "kind", "sent_at", *event.BOUNDS
    } - {"segment", "detail"}, "these only where they say something"  # fmt: skip
    assert event.block("0" * 28, 5, []) == b""
