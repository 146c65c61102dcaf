"""`heliograph mint`: lists in, the same lists with URLs out, and the sends in a journal."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.mint_kit import URL, heliograph, opened, recorded

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def data(tmp_path: Path, capfd: Capture) -> Path:
    assert heliograph("key", "new", "--data", tmp_path / "data") == 0
    capfd.readouterr()
    return tmp_path / "data"


def mint(data: Path, text: str | bytes, *argv: object, name: str = "in.csv") -> tuple[int, bytes]:
    """The exit code, and the bytes of the output file (b"" if there is none)."""
    source, out = data.parent / name, data.parent / "out"
    source.write_bytes(text.encode() if isinstance(text, str) else text)
    out.unlink(missing_ok=True)
    base = ("--data", data, "--public-url", URL, "--campaign", "spring", "-o", out)
    code = heliograph("mint", source, *base, *argv)
    return code, out.read_bytes() if out.exists() else b""


def table(raw: bytes, delimiter: str = ",") -> list[dict[str, str]]:
    text = io.StringIO(raw.decode("utf-8-sig"), newline="")
    return list(csv.DictReader(text, delimiter=delimiter))


def test_a_preview_is_no_send(data: Path) -> None:
    code, out = mint(data, "id,shop\n1,https://shop.example/\n", "--preview", "--link", "shop")
    assert code == 0
    (row,) = table(out)
    for url in (row["pixel_url"], row["shop_url"]):
        assert opened(data, url)[0][:3] == ("spring", "~preview", "1")
    assert [(e["kind"], e["send"]) for e in recorded(data)] == [("cancelled", "~preview")]
    assert mint(data, "id\n1\n", "--preview", "--send", "wave-1")[0] == 2


def test_the_lists_consent(data: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the installation's, the campaign's and the recipient's the most restrictive is sealed."""
    text = "id,ok\n1,full\n2,Pseudonymous \n3,anonymous\n4,anonymous\n5,off\n6,yes\n7,\n"
    sealed = {}
    for campaign, most in (("full", ""), ("full", "anonymous"), ("pseudonymous", "full")):
        monkeypatch.setenv("HELIOGRAPH_CONSENT", most)
        code, out = mint(data, text, "--consent", campaign, "--consent-column", "ok")
        assert code == 1
        told = capfd.readouterr().err
        assert "line 7: consent 'yes' is none of off, anonymous, pseudonymous, full" in told
        assert "line 8: consent ''" in told
        assert "5 minted, 2 refused" in told
        urls = [row["pixel_url"] for row in table(out)]
        optouts = [bool(row["optout_url"]) for row in table(out)]
        assert optouts == [opened(data, url)[0].recipient != "" for url in urls], "off has none"
        assert (urls[0] == urls[1]) == (most == "anonymous")
        assert urls[2] == urls[3] != urls[4]
        sealed[campaign, most] = [opened(data, url)[0].mode.word for url in urls]
    assert sealed == {
        ("full", ""): ["full", "pseudonymous", "anonymous", "anonymous", "off"],
        ("full", "anonymous"): ["anonymous"] * 4 + ["off"],
        ("pseudonymous", "full"): ["pseudonymous"] * 2 + ["anonymous"] * 2 + ["off"],
    }
    assert [event["recipient"] for event in recorded(data)] == ["1", "2", "1", "2"]
    assert mint(data, text, "--consent", "some")[0] == 2


def test_rows_come_back_with_urls_and_are_recorded(data: Path, capfd: Capture) -> None:
    text = "id,name,shop\n1,Ann,https://shop.example/?a=1\n2,Bo,\n"
    code, out = mint(data, text, "--link", "shop", "--sent-at", "2026-03-01T10:00:00+01:00",
                     "--send", "wave-1", "--message-id-column", "name")  # fmt: skip
    first, second = table(out)
    assert code == 0
    new = ["pixel_url", "pixel_html", "optout_url", "shop_url"]
    assert list(first) == ["id", "name", "shop", *new]
    assert (first["id"], first["name"], first["shop"]) == ("1", "Ann", "https://shop.example/?a=1")
    assert first["pixel_html"].count(first["pixel_url"]) == 1
    sealed, key = opened(data, first["pixel_url"])
    assert sealed[:4] == ("spring", "wave-1", "1", 1_772_355_600)
    assert opened(data, first["shop_url"])[0].link == "https://shop.example/?a=1"
    assert opened(data, first["optout_url"]) == opened(data, first["pixel_url"])
    assert second["shop_url"] == ""
    events = recorded(data)
    assert [(e["kind"], e["campaign"], e["send"], e["recipient"]) for e in events] == [
        ("sent", "spring", "wave-1", "1"), ("sent", "spring", "wave-1", "2"),
    ]  # fmt: skip
    assert [e["message_id"] for e in events] == ["Ann", "Bo"]
    assert {(e["sent_at"], e["key_id"]) for e in events} == {(1_772_355_600, key)}
    assert "2 minted" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("id,b\r\n1,x\r\n", ","),
        ("id;b\n1;x,y\n", ";"),
        ("id\tb\n1\tx;y,z\n", "\t"),
        ('\ufeffid;"b,c,d"\n1;x\n', ";"),
        ('"id","b"\n"1","say ""hi"", twice\nand on"\n', ","),
        ("id\n1\n", ","),
        ('id,b\n1,5" disk\n', ","),
        ("id,b\n\n1,x\n\n", ","),
        ("id,b\n1,x", ","),
    ],
)
def test_dialects_pass_through(data: Path, text: str, delimiter: str) -> None:
    code, out = mint(data, text)
    assert code == 0
    (row,) = table(out, delimiter)
    (given,) = table(text.encode(), delimiter)
    assert {name: row[name] for name in given} == given
    assert row["pixel_url"].startswith(URL)
    assert out.startswith(b"\xef\xbb\xbf") == text.startswith("\ufeff")
    assert (b"\r\n" in out) == ("\r\n" in text)
    assert opened(data, row["pixel_url"])[0].recipient == "1"


def test_bytes_that_are_no_utf8_pass_through_unless_they_are_used(
    data: Path, capfd: Capture
) -> None:
    code, out = mint(data, b"id,city\n1,Z\xfcrich\n\xff,Ulm\n2,Ulm\n")
    assert code == 1
    assert out.splitlines()[1].startswith(b"1,Z\xfcrich,https://")
    assert [line[:2] for line in out.splitlines()[1:]] == [b"1,", b"2,"]
    assert "line 3: not UTF-8" in capfd.readouterr().err


def test_bad_rows_are_named_and_the_others_go_through(data: Path, capfd: Capture) -> None:
    text = 'id,b\n1,x\n2\n3,x,y\n"4"4,x\n,x\n5,"two\nlines"\n' + "r" * 300 + ",x\n6,x\n"
    code, out = mint(data, text)
    errors = capfd.readouterr().err
    assert code == 1
    assert [row["id"] for row in table(out)] == ["1", "5", "6"]
    assert [event["recipient"] for event in recorded(data)] == ["1", "5", "6"]
    for message in (
        "line 3: 1 fields, the header has 2",
        "line 4: 3 fields, the header has 2",
        "line 5: no CSV",
        "line 6: recipient is empty",
        "line 9: recipient is longer than 255 bytes",
        "3 minted, 5 refused",
    ):
        assert message in errors


def test_a_quote_that_never_closes_is_an_error_not_a_hang(data: Path, capfd: Capture) -> None:
    code, _ = mint(data, 'id,b\n1,x\n2,"' + "never\n" * 50_000)
    assert code == 1
    assert "a quote that is not closed?" in capfd.readouterr().err
    assert recorded(data)[0]["recipient"] == "1"


def test_many_bad_rows_do_not_flood_the_terminal(data: Path, capfd: Capture) -> None:
    assert mint(data, "id\n" + "a@b.example\n" * 3000)[0] == 1
    errors = capfd.readouterr().err
    assert errors.count("\n") < 30
    assert "0 minted, 3000 refused" in errors
    assert recorded(data) == []


def test_addresses_are_refused_with_advice(data: Path, capfd: Capture) -> None:
    text = "email\nAnn@Example.org\n"
    assert mint(data, text)[0] == 1
    errors = capfd.readouterr().err
    assert "line 2" in errors
    assert "--hash-recipients" in errors
    assert "Ann@" not in errors

    code, out = mint(data, text, "--hash-recipients")
    (row,) = table(out)
    assert code == 0
    assert row["email"] == "Ann@Example.org"
    assert len(row["recipient_key"]) == 32
    assert opened(data, row["pixel_url"])[0].recipient == row["recipient_key"]
    (again,) = table(mint(data, "email\n ann@example.ORG\n", "--hash-recipients")[1])
    assert again["recipient_key"] == row["recipient_key"], "one person, one key"

    (plain,) = table(mint(data, text, "--allow-addresses")[1])
    assert opened(data, plain["pixel_url"])[0].recipient == "Ann@Example.org"


@pytest.mark.parametrize(
    ("header", "argv", "message"),
    [
        ("a,b", [], "which column is the recipient's key?"),
        ("user_id,subscriber_id", [], "one of: 'user_id', 'subscriber_id'"),
        ("id,b", ["--recipient-column", "c"], "no column 'c', but: 'id', 'b'"),
        ("id,b", ["--link", "c"], "no column 'c'"),
        ("id,b", ["--message-id-column", "c"], "no column 'c'"),
        ("id,id", [], "two columns have the name 'id'"),
        ("id,b,b", ["--link", "b"], "two columns have the name 'b'"),
        ("id", ["--sent-at", ""], "--sent-at '' is neither"),
        ("id", ["--sent-at", "2100-01-01"], "'2100-01-01' is more than a year ahead"),
        ("", [], "the first line must name the columns"),
        ('"id', [], "the header is no CSV"),
        ("id", ["--sent-at", "yesterday"], "--sent-at 'yesterday' is neither"),
        ("id", ["--public-url", "px.example"], "public_url must be an absolute http"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(
    data: Path, capfd: Capture, header: str, argv: list[str], message: str
) -> None:
    code, out = mint(data, f"{header}\n1,2\n" if header else "", *argv)
    errors = capfd.readouterr().err
    assert (code, out, recorded(data)) == (2, b"", [])
    assert message in errors
    assert "Traceback" not in errors


def test_columns_nobody_uses_may_have_any_name(data: Path) -> None:
    code, out = mint(data, "id,x,x,,\n1,a,b,,\n")
    assert code == 0
    assert out.splitlines()[0] == b"id,x,x,,,pixel_url,pixel_html,optout_url"
    assert out.splitlines()[1].startswith(b"1,a,b,,,https://")


def test_white_space_around_a_key_is_not_part_of_it(data: Path) -> None:
    assert mint(data, "id\n 1\n1\t\n")[0] == 0
    assert [event["recipient"] for event in recorded(data)] == ["1", "1"]


def test_utf16_is_named(data: Path, capfd: Capture) -> None:
    assert mint(data, "id\n1\n".encode("utf-16"))[0] == 2
    assert "is UTF-16" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("header", "column"),
    [("id,email", "id"), ("email,Recipient-ID,id", "Recipient-ID"), ("E-Mail,x", "E-Mail"),
     ("name, User ID ", " User ID ")],
)  # fmt: skip
def test_the_recipient_column_is_guessed(
    data: Path, capfd: Capture, header: str, column: str
) -> None:
    values = ",".join("key" if name == column else "x" for name in header.split(","))
    assert mint(data, f"{header}\n{values}\n")[0] == 0
    assert f"recipients: column {column!r}" in capfd.readouterr().err
    assert recorded(data)[0]["recipient"] == "key"


def test_jsonl_keeps_every_value_as_it_was(data: Path, capfd: Capture) -> None:
    lines = [
        '{"id": 7, "big": 123456789012345678901234567890, "x": {"a": [1.50]}, "pixel_url": "old"}',
        '{"id": "ü\\u0000", "n": null}',
        "not json",
        "",
        '[1]',
        '{"id": null}',
        '{"id": "8", "s": "\\ud83d\\ude00 <>"}',
    ]  # fmt: skip
    code, out = mint(data, "\ufeff" + "\n".join(lines), name="in.jsonl")
    errors = capfd.readouterr().err
    told: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert "line 3: no JSON object" in errors
    assert "line 5: no JSON object" in errors
    assert "line 6: recipient is empty" in errors
    assert b"123456789012345678901234567890" in out
    assert b"[1.50]" in out
    assert [row["id"] for row in told] == [7, "ü\0", "8"]
    assert told[0]["pixel_url"].startswith(URL)
    assert opened(data, told[0]["pixel_url"])[0].recipient == "7"
    assert [event["recipient"] for event in recorded(data)] == ["7", "ü\0", "8"]


def test_lines_before_the_first_object_are_refused_too(data: Path, capfd: Capture) -> None:
    text = 'nonsense\n"' + "x" * (3 << 20) + '"\n\n{"id": 1}\n{"id": 2\n'
    code, out = mint(data, text, name="in.jsonl")
    errors = capfd.readouterr().err
    assert code == 1
    assert [json.loads(line)["id"] for line in out.splitlines()] == [1]
    assert "line 1: no JSON object" in errors
    assert "line 2: longer than" in errors
    assert "line 5: no JSON object" in errors
    assert "1 minted, 3 refused" in errors
    for nothing in ("", "x\n[]\n"):
        assert mint(data, nothing, name="in.jsonl") == (2, b"")
        assert "in.jsonl is a JSON object" in capfd.readouterr().err


def test_an_object_may_lack_what_another_one_has(data: Path, capfd: Capture) -> None:
    text = '{"id": 1}\n{"id": 2, "shop": "https://x.example/", "mid": "m"}\n{"shop": ""}\n'
    argv = ("--link", "shop", "--message-id-column", "mid")
    code, out = mint(data, text, *argv, name="in.jsonl")
    first, second = map(json.loads, out.splitlines())
    assert code == 1
    assert first["shop_url"] == ""
    assert opened(data, second["shop_url"])[0].link == "https://x.example/"
    assert [event["message_id"] for event in recorded(data)] == ["", "m"]
    assert "line 3: recipient is empty" in capfd.readouterr().err


def test_a_list_that_was_minted_before_gets_new_urls_in_place(data: Path) -> None:
    _, once = mint(data, "id,b\n1,x\n", "--sent-at", "1767225600")
    _, twice = mint(data, once, "--sent-at", "1767225600")
    assert twice == once
    _, other = mint(data, once, "--sent-at", "1767225601")
    assert table(other)[0]["pixel_url"] != table(once)[0]["pixel_url"]
    assert list(table(other)[0]) == list(table(once)[0])


def test_without_keys_nothing_is_made(tmp_path: Path, capfd: Capture) -> None:
    code, _ = mint(tmp_path / "none", "id\n1\n")
    assert code == 2
    assert "no key file at" in capfd.readouterr().err
    assert not (tmp_path / "none").exists()
