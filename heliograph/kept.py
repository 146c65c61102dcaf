"""How long the store keeps what, by its tables' own definitions."""

from typing import TYPE_CHECKING, Final

from heliograph.access import Store
from heliograph.errors import Failure

if TYPE_CHECKING:
    from consumer.retention import Retention

_HYGIENE: Final = (
    "this store is in hygiene mode: of hits it keeps a day, and then only the date of a recipient's"
    " last open, so {} cannot be told; `heliograph inactive` can"
)


def in_force(store: Store) -> "Retention":
    """The retention of a store; raises Failure."""
    from consumer.retention import Retention

    def definition(table: str) -> str:
        answer = store.query(f"SHOW CREATE TABLE {table}", {}, "TSVRaw")
        return b"".join(answer.chunks).decode("utf-8", "replace")

    return Retention.told(definition)


def refuse_hygiene(store: Store, what: str) -> None:
    """Raise Failure where hits are gone from which `what` would be told."""
    if in_force(store).hygiene:
        raise Failure(_HYGIENE.format(what))
