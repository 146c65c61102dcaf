"""The bound of anonymous hits: their token is all recipients', and anyone may repeat it."""

from typing import Final

from collector.settings import CollectorSettings

_MINUTE: Final = 60.0


class Bound:
    """At most so many of each campaign and kind in a minute of the clock."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._minute = 0
        self._taken: dict[tuple[str, str], int] = {}

    @classmethod
    def of(cls, settings: CollectorSettings) -> "Bound":
        """A worker's part of what a collector may record, one at least."""
        return cls(max(1, settings.anonymous_per_minute // settings.workers))

    def take(self, kind: str, campaign: str, now: float) -> bool:
        """Whether one more is within the bound at a time in Unix seconds."""
        minute = int(now // _MINUTE)
        if minute != self._minute:
            self._minute, self._taken = minute, {}
        taken = self._taken.get((kind, campaign), 0)
        if taken >= self._most:
            return False
        self._taken[kind, campaign] = taken + 1
        return True
