"""What makes a line an event, and what is wrong with one that is none."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from schemas.event import MAX_LINE, UNNAMED, Kind


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """A whole line, as it may come from anywhere: what `flaw` holds it against."""

    journal: Annotated[str, Meta(pattern="^[0-9a-f]{28}$")]
    seq: Annotated[int, Meta(ge=1, lt=10**15)]
    ts: Annotated[int, Meta(ge=946_684_800_000, le=4_102_444_800_000)]
    kind: Kind
    campaign: str
    send: str = ""
    recipient: str = ""
    message_id: str = ""
    sent_at: Annotated[int, Meta(ge=0, lt=1 << 32)] = 0
    link: str = ""
    method: str = ""
    address: str = ""
    user_agent: str = ""
    accept_language: str = ""
    referer: str = ""
    prefetch: str = ""
    key_id: str = ""
    segment: str = ""
    detail: str = ""
    consent: Literal["", "pseudonymous", "anonymous"] = ""

    def __post_init__(self) -> None:
        if not self.campaign and self.kind not in UNNAMED:
            raise ValueError("campaign is empty")


_decoder: Final = msgspec.json.Decoder(Line)
_decode: Final = _decoder.decode


def flaw(line: bytes) -> str:
    """Why a line is no event; "" if nothing is wrong with it."""
    try:
        _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return str(error)
    return "" if len(line) <= MAX_LINE else f"longer than {MAX_LINE} bytes"


def sound_lines(data: bytes) -> int:
    """How many events there are, one a line; 0 if anything is none."""
    try:
        return len(_decoder.decode_lines(data)) if is_bounded_text(data) else 0
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return 0


def is_bounded_text(data: bytes) -> bool:
    """Whether it is UTF-8 in lines that are not too long: ClickHouse takes any."""
    try:
        text = data.isascii() or data.decode() != ""
    except UnicodeDecodeError:
        return False
    return text and not _is_long(data)


def _is_long(data: bytes) -> bool:
    """Whether a line has MAX_LINE bytes. The last end of line in each stretch of so many is looked
    for: to split all of the lines would take longer than the store takes to parse a third of them.
    """
    start = 0
    while len(data) - start >= MAX_LINE:
        end = data.rfind(b"\n", start, start + MAX_LINE)
        if end < 0:
            return True
        start = end + 1
    return False
