"""Consent modes: what of a hit may be kept, by the edge until it is judged and by the store.

The most restrictive of what the installation, the campaign and the recipient allow is sealed in a
token, and the installation's holds for tokens of before too. `off` keeps nothing but a count,
`anonymous` no name and no address (all recipients of a campaign share one token) and of a link no
query, `pseudonymous` the recipient's key and the verdict, `full` also the client: its address's
network, its agent, its language and the referer.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, Literal

Consent = Literal["off", "anonymous", "pseudonymous", "full"]


class Mode(IntEnum):
    """The modes; of two the lower one is the more restrictive."""

    OFF = 0
    ANONYMOUS = 1
    PSEUDONYMOUS = 2
    FULL = 3

    @classmethod
    def of(cls, name: str) -> "Mode":
        """The mode of a name, in any case; raises ValueError."""
        try:
            return cls[name.strip().upper()]
        except KeyError:
            names = ", ".join(mode.word for mode in cls)
            raise ValueError(f"consent {name!r} is none of {names}") from None

    @property
    def word(self) -> str:
        """The mode's name, as settings and events have it."""
        return self.name.lower()


#: The least mode in which the store keeps a field; what is not named here, all but `off` keep.
STORED: Final[Mapping[str, Mode]] = {
    "recipient": Mode.PSEUDONYMOUS,
    "sent_at": Mode.PSEUDONYMOUS,
    "message_id": Mode.PSEUDONYMOUS,
    "segment": Mode.PSEUDONYMOUS,
    "address": Mode.FULL,  # of its network: /24, /48
    "user_agent": Mode.FULL,
    "accept_language": Mode.FULL,
    "referer": Mode.FULL,
}
#: The least mode in which journal and topic carry it. They do so for a bounded time, and the
#: verdict at the insert needs what they carry beyond the store.
JOURNALLED: Final[Mapping[str, Mode]] = {
    **STORED,
    "address": Mode.PSEUDONYMOUS,
    "user_agent": Mode.ANONYMOUS,
}
