"""The time an event is given."""

from typing import Final

#: How long before its sealed send time a mail may plausibly be opened (tests, a planned time).
SLACK_SECONDS: Final = 366 * 86_400


def event_time(now: float, sent_at: int) -> int:
    """Unix milliseconds of an event that happens at `now`, about a mail sent at `sent_at` (0:
    unknown).

    A clock that is far behind would make rows that the table's TTL eats at once; the send time,
    sealed when some clock was right, bounds the error.
    """
    earliest = float(sent_at - SLACK_SECONDS)
    return int((now if now > earliest else earliest) * 1000.0)
