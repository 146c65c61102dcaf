"""Recording a hit: one call, whatever recognised the request.

A usable token becomes an event in the journal's next group; anything else is counted by its
reason and leaves no trace. What is answered does not depend on it.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from collector.bound import Bound
from collector.clock import event_time
from collector.group_commit import GroupCommit
from collector.keys import Keys
from collector.metrics import EdgeMetrics
from collector.opted_out import OptedOut
from schemas import event
from schemas.consent import JOURNALLED, Mode
from schemas.token import Purpose, TokenError

# An enum's members are looked up by name each time.
_OFF: Final = Mode.OFF
_FULL: Final = Mode.FULL
_NAMED: Final = JOURNALLED["recipient"]
_ADDRESSED: Final = JOURNALLED["address"]
_MOST_PARTS: Final = 4096


class Client:
    """What a request tells of its sender, as parts of an event: all of it, and what of it the modes
    below full let into the journal.
    """

    __slots__ = ("_agent", "_less", "_method", "_prefetch", "full")

    def __init__(self, method: str, headers: Mapping[str, str]) -> None:
        """From a request's headers, as they came."""
        prefetch = event.announced(headers)
        agent, language = headers.get("user-agent", ""), headers.get("accept-language", "")
        self.full = event.client_part(method, agent, language, prefetch)
        self._method, self._agent, self._prefetch = method, agent, prefetch
        self._less = [b""] * len(Mode)

    def less(self, mode: Mode) -> bytes:
        """The part in a mode below full."""
        part = self._less[mode]
        if not part:
            agent = self._agent if mode >= JOURNALLED["user_agent"] else ""
            part = event.client_part(self._method, agent, "", self._prefetch, mode.word)
            self._less[mode] = part
        return part


class Recorded(NamedTuple):
    """Where a usable click's token leads, and whether the event is in the journal, once done.

    The future is shared by a whole group: shield it. It may say False, for a full disk must not
    keep a mail from being shown.
    """

    link: str
    stored: asyncio.Future[bool] | None


class Beacon:
    """Opens tokens and makes events of hits."""

    def __init__(
        self,
        keys: Keys,
        commit: GroupCommit,
        clock: Callable[[], float],
        metrics: EdgeMetrics,
        opted_out: OptedOut,
        bound: Bound,
        most: Mode,
    ) -> None:
        """`opted_out` are recipients of whom nothing is recorded, `most` is the installation's
        consent mode: of a token's and this the lower one holds. `bound` is of anonymous hits.
        """
        self._keys = keys
        self._commit = commit
        self._clock = clock
        self._hits = metrics.hits
        self.knows_optouts = True  # until it does, nothing is recorded
        self._opted_out = opted_out
        self._bound = bound
        self._most = most
        self._send_parts: dict[tuple[str, str], bytes] = {}
        self._start, self._start_ts, self._start_kind = b"", -1, ""  # of the last event

    def record(
        self, purpose: Purpose, text: str, client: Client, address: str, referer: str
    ) -> Recorded:
        """Take a hit on the token `text`. Answer only when `stored`, if there is one, is done."""
        try:
            token = text.encode("utf-8", "surrogatepass")  # what is not ASCII is malformed
            link, body = self.take(purpose, token, client, address, referer, self._clock())
        except TokenError as error:
            self.refuse(purpose, error)
            return Recorded("", None)
        if not body:
            return Recorded(link, None)
        self.count(purpose, 1)
        return Recorded(link, self._commit.record(body))

    def count(self, purpose: Purpose, events: int) -> None:
        """Count what `take` gave and is to be recorded."""
        self._hits[purpose, "recorded"] += events

    def refuse(self, purpose: Purpose, error: TokenError) -> None:
        """Count a text that is no token of ours."""
        self._hits[purpose, error.reason] += 1

    def take(
        self, purpose: Purpose, text: bytes, client: Client, address: str, referer: str, now: float
    ) -> tuple[str, bytes]:
        """Where a click's token leads, and the event's body, b"" where nothing is to be kept.

        Raises TokenError, which is not counted yet, nor is an event.
        """
        fields, key_id = self._keys.unseal(purpose, text)
        campaign, send, recipient, sent_at, mode, link = fields
        if not self.knows_optouts:
            self._hits[purpose, "unread"] += 1
            return link, b""
        if self._opted_out.count and self._opted_out.has(recipient):
            self._hits[purpose, "opted_out"] += 1
            return link, b""
        full = mode is _FULL and self._most is _FULL
        kept = link
        if not full:
            mode = self._lower(purpose, campaign, mode, now)
            if mode is _OFF:
                return link, b""
            if mode < _ADDRESSED:
                address = ""
            if mode < _NAMED:
                recipient, sent_at, kept = "", 0, _shared(link)
        ts = event_time(now, sent_at)
        if ts != self._start_ts or purpose != self._start_kind:
            self._start = event.hit_start(ts, purpose)
            self._start_ts, self._start_kind = ts, purpose
        body = event.hit(
            self._start,
            sent_at,
            recipient,
            address,
            referer if full else "",
            key_id,
            kept,
            self._send_parts.get((campaign, send)) or self._send_part(campaign, send),
            client.full if full else client.less(mode),
        )
        return link, body

    def _lower(self, purpose: Purpose, campaign: str, mode: Mode, now: float) -> Mode:
        """The mode that a hit is recorded in, where that is below full; OFF, and counted, if it is
        not to be.
        """
        mode = min(mode, self._most)
        if mode is _OFF:
            self._hits[purpose, "off"] += 1
        elif mode < _NAMED and not self._bound.take(purpose, campaign, now):
            self._hits[purpose, "excess"] += 1
            return _OFF
        return mode

    def _send_part(self, campaign: str, send: str) -> bytes:
        """See `event.send_part`. Remembered, and forgotten as a whole when they are too many."""
        if len(self._send_parts) >= _MOST_PARTS:
            self._send_parts.clear()
        part = self._send_parts[campaign, send] = event.send_part(campaign, send)
        return part


def _shared(link: str) -> str:
    """What all recipients of a link share: not its query and fragment, which may name one."""
    return link.partition("?")[0].partition("#")[0]
