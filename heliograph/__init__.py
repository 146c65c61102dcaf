"""Heliograph: an e-mail open beacon. `from heliograph import Minter` mints in an application."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collector.mint import Minted, SendRequest
    from heliograph.minter import Minter
    from heliograph.recorder import Refusal

__all__ = ["Minted", "Minter", "Refusal", "SendRequest"]


def __getattr__(name: str) -> object:
    """Import on first use: the command line starts without what it does not need."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import collector.mint
    import heliograph.minter
    import heliograph.recorder

    for module in (heliograph.minter, heliograph.recorder, collector.mint):
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(name)
