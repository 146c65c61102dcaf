"""The pixel's answer: the same bytes for every token, but for Date."""

from collections.abc import Mapping
from email.utils import formatdate
from typing import Final

#: A transparent GIF of one pixel; shorter ones lack the LZW end code.
PIXEL: Final = bytes.fromhex(
    "47494638396101000100800000ffffff00000021f90401000000002c00000000010001000002024401003b"
)
PIXEL_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "image/gif",
    "Cache-Control": "no-cache, no-store, must-revalidate, max-age=0",
    "Pragma": "no-cache",
    "Expires": "0",
}
_FIELDS: Final = "".join(f"{name}: {value}\r\n" for name, value in PIXEL_HEADERS.items())


class PixelAnswer:
    """The answer as bytes, dated: what aiohttp makes of PIXEL and PIXEL_HEADERS."""

    def __init__(self) -> None:
        self.more = self.last = b""
        self._second = -1

    def date(self, now: float) -> None:
        """Set `more`, behind which another answer may follow, and `last`, with Connection: close.

        `now` is in Unix seconds.
        """
        second = int(now)
        if second == self._second:
            return
        self._second = second
        date = formatdate(second, usegmt=True)
        head = f"HTTP/1.1 200 OK\r\n{_FIELDS}Content-Length: {len(PIXEL)}\r\nDate: {date}\r\n"
        self.more = head.encode() + b"\r\n" + PIXEL
        self.last = head.encode() + b"Connection: close\r\n\r\n" + PIXEL
