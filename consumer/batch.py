"""Blocks as they come from a source, and the batch they are gathered in."""

from dataclasses import dataclass, field

#: Who writes a part of the stream alone: a Kafka partition, or all journals of one machine.
Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Block:
    """A run of NDJSON lines and where it stands: `offset` is the record's, or the first seq.

    `events` is what the block is said to hold (0: not said); the seqs of its lines then run from
    `first_seq` on.
    """

    topic: str
    partition: int
    offset: int
    journal: str
    first_seq: int
    events: int
    data: bytes


#: The look for what is there names each journal; the batch closes before that is too long.
MAX_JOURNALS = 125


@dataclass(slots=True)
class Batch:
    """Blocks of one partition that go to the store together."""

    max_rows: int
    max_bytes: int
    max_seconds: float
    blocks: list[Block] = field(default_factory=list)
    rows: int = 0
    size: int = 0
    opened_at: float = 0.0
    journals: set[str] = field(default_factory=set)

    def add(self, block: Block, now: float) -> None:
        """Append a block; `now` is monotonic seconds."""
        if not self.blocks:
            self.opened_at = now
        self.blocks.append(block)
        self.journals.add(block.journal)
        self.rows += block.events or block.data.count(b"\n")
        self.size += len(block.data)

    @property
    def full(self) -> bool:
        """Whether it has reached a limit: in rows, bytes or journals."""
        return (
            self.rows >= self.max_rows
            or self.size >= self.max_bytes
            or len(self.journals) >= MAX_JOURNALS
        )

    def due(self, now: float) -> bool:
        """Whether it should be written now."""
        return bool(self.blocks) and (self.full or now - self.opened_at >= self.max_seconds)
