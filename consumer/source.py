"""Where blocks come from. The Kafka topic and the journals of this machine look the same."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol

from consumer.batch import Block, Partition

#: Called before partitions go to somebody else; returns when nothing of them is in flight.
OnRelease = Callable[[Collection[Partition]], Awaitable[None]]


class Source(Protocol):
    """Gives every block at least once, in order per partition, from the last commit on.

    `finite` says that at a stop there is an end to come to, which is worth waiting for.
    """

    finite: bool

    async def start(self, on_release: OnRelease) -> None:
        """Begin; blocks are not given before."""

    async def poll(self, timeout: float) -> Mapping[Partition, Sequence[Block]]:
        """The next blocks, or nothing after `timeout` seconds."""

    async def confirm(self, partition: Partition) -> None:
        """Return if this partition is ours at this moment; raise Fenced if it is not."""

    async def commit(self, partition: Partition, blocks: Sequence[Block]) -> None:
        """Never give these blocks (the oldest given) again; raise Fenced if they are not ours."""

    async def rejoin(self) -> None:
        """Forget everything given since the last commits and give it again."""

    async def close(self) -> None:
        """Leave."""
