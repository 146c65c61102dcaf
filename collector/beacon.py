"""Recording a hit: one call, whatever recognised the request.

A usable token becomes an event in the journal's next group; anything else is counted by its
reason and leaves no trace. What is answered does not depend on it.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from collector.clock import event_time
from collector.group_commit import GroupCommit
from collector.keys import Keys
from collector.metrics import EdgeMetrics
from schemas import event
from schemas.token import Mode, Purpose, TokenError

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
#: Browsers and mail programs announce a prefetch in one of these; the first that is set counts.
PREFETCH_HEADERS: Final = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")


class Hit(NamedTuple):
    """What a request tells of its sender: header values as they came, "" where absent."""

    method: str
    address: str
    user_agent: str
    accept_language: str
    referer: str
    prefetch: str


class Recorded(NamedTuple):
    """Where a usable click's token leads, and whether the event is in the journal, once done.

    The future is shared by a whole group: shield it. It may say False, for a full disk must not
    keep a mail from being shown.
    """

    link: str
    stored: asyncio.Future[bool] | None


_NOTHING: Final = Recorded("", None)


class Beacon:
    """Opens tokens and records hits."""

    def __init__(
        self, keys: Keys, commit: GroupCommit, clock: Callable[[], float], metrics: EdgeMetrics
    ) -> None:
        self._keys = keys
        self._commit = commit
        self._clock = clock
        self._hits = metrics.hits

    def record(self, purpose: Purpose, text: str, hit: Hit) -> Recorded:
        """Take a hit on the token `text`. Answer only when `stored`, if there is one, is done."""
        try:
            sealed, key_id = self._keys.unseal(purpose, text)
        except TokenError as error:
            self._hits[purpose, error.reason].inc()
            return _NOTHING
        if sealed.mode == Mode.OFF:
            self._hits[purpose, "off"].inc()
            return Recorded(sealed.link, None)
        full = sealed.mode == Mode.FULL  # the other modes keep nothing of the client
        body = event.event(
            event_time(self._clock(), sealed.sent_at),
            purpose,
            campaign=sealed.campaign,
            send=sealed.send,
            recipient=sealed.recipient,
            key_id=key_id,
            sent_at=sealed.sent_at,
            link=sealed.link,
            method=hit.method,
            address=hit.address if full else "",
            user_agent=hit.user_agent if full else "",
            accept_language=hit.accept_language if full else "",
            referer=hit.referer if full else "",
            prefetch=hit.prefetch,
        )
        self._hits[purpose, "recorded"].inc()
        return Recorded(sealed.link, self._commit.record(body))
