"""Whether the edge runs compiled. What is compiled, and how: hatch_build.py."""

from importlib.util import find_spec
from itertools import chain
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def is_compiled() -> bool:
    """Whether a request goes through compiled modules."""
    spec = find_spec("collector.plain")
    return spec is not None and not str(spec.origin).endswith(".py")


def stale() -> list[str]:
    """The compiled modules of a source tree that are older than their sources, which `make` renews.

    An installed package was made as a whole.
    """
    if not (_ROOT / "hatch_build.py").exists():
        return []
    found = chain.from_iterable((_ROOT / name).rglob("*.so") for name in ("collector", "schemas"))
    sources = {path: path.with_name(path.name.partition(".")[0] + ".py") for path in found}
    return sorted(
        str(source.relative_to(_ROOT))
        for path, source in sources.items()
        if source.exists() and source.stat().st_mtime > path.stat().st_mtime
    )
