"""Read receipts: those that mail programs send, and what strangers send in their place."""

import base64
import contextlib
import time
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.receipt import MAX_MESSAGE, Receipt, parse

SAMPLES = Path(__file__).parents[1] / "data" / "receipts"
FIELDS = (
    "Reporting-UA: joes-pc.cs.example.com; Foomail 97.1\r\n"
    "Final-Recipient: rfc822;joe@example.com\r\n{id}"
    "Disposition: {disposition}\r\n"
)


def receipt(
    disposition: str, id: str = "Original-Message-ID: <a@b>\r\n", more: str = "", head: str = ""
) -> bytes:
    fields = FIELDS.format(disposition=disposition, id=id)
    return (
        f"From: joe@example.com\r\n{head}MIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=disposition-notification; boundary="x"\r\n\r\n'
        "--x\r\nContent-Type: text/plain\r\n\r\nRead.\r\n"
        f"--x\r\nContent-Type: message/disposition-notification\r\n\r\n{fields}\r\n{more}--x--\r\n"
    ).encode()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rfc8098", Receipt("199509192301.23456@example.org", "displayed")),
        ("outlook-read", Receipt("ORIGINAL123@mail.example.org", "displayed")),
        ("outlook-deleted", Receipt("ORIGINAL123@mail.example.org", "deleted")),
        ("cyrus-rejected", Receipt("a.b@mail.example.org", "deleted")),
    ],
)
def test_samples(name: str, expected: Receipt) -> None:
    """See the README beside them for where their form is from."""
    raw = (SAMPLES / f"{name}.eml").read_bytes()
    assert parse(raw) == expected
    assert parse(raw.replace(b"\n", b"\r\n")) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("manual-action/MDN-sent-manually; displayed", "displayed"),
        ("MANUAL-ACTION/mdn-sent-manually;\r\n Displayed/error", "displayed"),
        ("manual-action/MDN-sent-manually; denied", "denied"),
        ("automatic-action/MDN-sent-automatically; deleted/warning", "deleted"),
        ("automatic-action/MDN-sent-automatically; processed", "processed"),
        ("automatic-action/MDN-sent-automatically; x-" + "y" * 99, "other"),
        ("manual-action/MDN-sent-manually; displayed (denied; by nobody)", "displayed"),
        ("manual-action/MDN-sent-manually; displayed; x", "displayed"),
    ],
)
def test_displayed_is_told_from_what_is_not(text: str, expected: str) -> None:
    assert parse(receipt(text)).disposition == expected


SHOWN = "manual-action/MDN-sent-manually; displayed"
RFC822 = "--x\r\nContent-Type: {}\r\n\r\nMessage-ID: <quoted@b>\r\nSubject: Hi\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (receipt(SHOWN, "Original-Message-ID: bare@b\r\n"), "bare@b"),
        (receipt(SHOWN, "", RFC822.format("message/rfc822")), "quoted@b"),
        (receipt(SHOWN, "", RFC822.format("text/rfc822-headers")), "quoted@b"),
        (receipt(SHOWN, "", head="In-Reply-To: <replied@b>\r\n"), "replied@b"),
        (receipt(SHOWN, "", head="References: <first@b>\r\n <last@b>\r\n"), "last@b"),
        (receipt(SHOWN, "Original-Message-ID: (was <old@b>) <long-\r\n id@b>\r\n"), "long-id@b"),
        (receipt(SHOWN).replace(b"Reporting-UA", b"\r\nReporting-UA"), "a@b"),
        (receipt(SHOWN).replace(b"-Type: message/dis", b"-Type: message/global-dis"), "a@b"),
    ],
)
def test_the_mail_that_it_is_about(raw: bytes, expected: str) -> None:
    assert parse(raw).message_id == expected


def test_an_encoded_notification() -> None:
    fields = FIELDS.format(disposition=SHOWN, id="Original-Message-ID: <a@b>\r\n").encode()
    raw = receipt(SHOWN).replace(fields, base64.encodebytes(fields).replace(b"\n", b"\r\n"))
    head = b"Content-Type: message/disposition-notification\r\n"
    raw = raw.replace(head, head + b"Content-Transfer-Encoding: base64\r\n")
    assert b"Foomail" not in raw
    assert parse(raw) == Receipt("a@b", "displayed")


def test_what_is_none_is_refused_with_a_reason() -> None:
    mail = EmailMessage()
    mail.set_content("Thank you, I read it.")
    for raw, reason in [
        (bytes(mail), "no part of the message"),
        (b"", "no part of the message"),
        (receipt(""), "no disposition"),
        (receipt(SHOWN, ""), "no original message id"),
        (b"x" * (MAX_MESSAGE + 1), "longer than"),
    ]:
        with pytest.raises(ValueError, match=reason):
            parse(raw)


def test_a_header_without_end_takes_no_time() -> None:
    """A million bytes of it took seven seconds, in which no pixel was answered."""
    began = time.process_time()
    with contextlib.suppress(ValueError):
        parse(b"Content-Type: multipart/mixed" + b"; a=b" * 200_000 + b"\r\n\r\n")
    assert time.process_time() - began < 3


PIECES = st.sampled_from(
    [b"--x", b"\r\n", b"\r\n\r\n", b"<a@b>", b";", b": ", b"\xff", b"=?x?q?a?="]
)
LINES = st.lists(st.binary(max_size=20) | PIECES, max_size=30).map(b"".join)


@given(LINES, LINES)
def test_whatever_comes_is_a_receipt_or_refused(front: bytes, back: bytes) -> None:
    whole = receipt(SHOWN)
    for raw in (front, front + whole, whole[:-9] + back, whole.replace(b"rfc822;", front)):
        try:
            found = parse(raw)
        except ValueError:
            continue
        assert 0 < len(found.message_id) <= 255
        assert b'"kind":"receipt"' in found.body(1.0)
