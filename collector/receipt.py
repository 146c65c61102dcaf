"""A read receipt: a message disposition notification (RFC 8098) as mail programs send it."""

import re
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import Message
from typing import Final, NamedTuple

from schemas import event

MAX_MESSAGE: Final = 1 << 20
#: What is read of it, bytes: the notification comes before the mail that may be quoted, and a
#: stranger's header takes time by the square of its length.
_READ: Final = 64 << 10
#: What may have become of the mail; RFC 2298 had the last two, and programs still say so.
_DISPOSITION: Final = re.compile(
    r"\b(?:displayed|deleted|dispatched|processed|denied|failed)\b", re.ASCII
)
_NOTIFICATIONS: Final = (
    "message/disposition-notification",
    "message/global-disposition-notification",
)
_COMMENT: Final = re.compile(r"\([^()]*\)")
#: A long one may be folded.
_ID: Final = re.compile(r"<([^<>]{1,255})>|^\s*([^<>\s]{1,255})\s*$")


class Receipt(NamedTuple):
    """Which mail it is about, by its message id without < and >, and what became of it."""

    message_id: str
    disposition: str

    def body(self, now: float) -> bytes:
        """The body of the event that records it. The store knows whose mail it is."""
        return event.event(
            int(now * 1000), "receipt", campaign="", send="", recipient="", key_id="",
            message_id=self.message_id, detail=self.disposition,
        )  # fmt: skip


def parse(raw: bytes) -> Receipt:
    """The receipt in a message; raises ValueError with a reason fit for the one who sent it."""
    if len(raw) > MAX_MESSAGE:
        raise ValueError(f"the message is longer than {MAX_MESSAGE} bytes")
    try:
        message = message_from_bytes(raw[:_READ], policy=policy.compat32)
        parts = list(message.walk())
    except (LookupError, RecursionError) as error:  # a charset or a nesting of the stranger's
        raise ValueError(f"the message cannot be read: {error}") from None
    notices = [p for p in parts if p.get_content_type() in _NOTIFICATIONS]
    if not notices:
        raise ValueError("no part of the message is a message/disposition-notification")
    fields = _fields(notices[0])
    said = _COMMENT.sub("", str(fields.get("Disposition", ""))).lower()
    said = said.partition(";")[2] or said
    if not said.strip():
        raise ValueError("the notification says no disposition")
    known = _DISPOSITION.search(said)
    for text in _ids(fields, message, parts):
        named = _ID.search(_COMMENT.sub("", text))
        if named and (name := "".join((named[1] or named[2]).split())):
            return Receipt(name, known[0] if known else "other")
    raise ValueError("the notification names no original message id")


def _fields(part: Message) -> Message:
    """The notification's fields. They are parsed as a message's header already, unless encoded."""
    inner = part.get_payload()
    held = inner[0] if isinstance(inner, list) and inner else Message()
    if str(part.get("Content-Transfer-Encoding", "")).strip().lower() in (
        "base64",
        "quoted-printable",
    ):
        shell = Message()
        shell["Content-Transfer-Encoding"] = str(part["Content-Transfer-Encoding"]).strip()
        shell.set_payload(held.as_string() if isinstance(held, Message) else str(held))
        decoded = shell.get_payload(decode=True)
        return message_from_bytes(bytes(decoded) if isinstance(decoded, bytes) else b"")
    if not isinstance(held, Message) or "Disposition" in held:
        return held if isinstance(held, Message) else Message()
    try:  # some programs put an empty line before the fields, or between them
        lines = held.as_bytes().splitlines()
    except (LookupError, TypeError) as error:
        raise ValueError(f"the notification cannot be read: {error}") from None
    return message_from_bytes(b"\n".join(line for line in lines if line.strip()))


def _ids(fields: Message, message: Message, parts: list[Message]) -> Iterator[str]:
    """Texts that may name the mail, the best first: the field is optional in RFC 8098."""
    yield str(fields.get("Original-Message-ID", ""))
    for part in parts[1:]:
        if part.get_content_type() == "text/rfc822-headers":
            quoted = part.get_payload(decode=True)
            yield str(
                message_from_bytes(quoted if isinstance(quoted, bytes) else b"")["Message-ID"] or ""
            )
        elif "Message-ID" in part:
            yield str(part["Message-ID"])
    yield str(message.get("In-Reply-To", ""))
    yield "".join(str(message.get("References", "")).split()[-1:])
