"""The house rules, held by tests."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import pytest

import hatch_build
from tests.services import require

ROOT = Path(__file__).parents[1]
PACKAGES = ("heliograph", "collector", "consumer", "schemas")
#: What each package may import of the others. Data flows one way.
ALLOWED = {
    "schemas": {"schemas"},
    "collector": {"collector", "schemas"},
    "consumer": {"consumer", "schemas"},
    "heliograph": set(PACKAGES),
}
SERVERS = {"aiohttp", "aiokafka", "chdb", "clickhouse_connect", "prometheus_client", "uvloop"}
FILES = sorted(chain.from_iterable((ROOT / package).rglob("*.py") for package in PACKAGES))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def package(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_keeps_to_its_place(path: Path) -> None:
    used = tops(path)
    assert used & set(PACKAGES) <= ALLOWED[package(path)]
    assert not used & {"tests", "loadtest"}
    if package(path) == "schemas":
        assert not used & SERVERS


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_environment_is_read_only_in_settings(path: Path) -> None:
    names = {
        node.attr for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
    }  # fmt: skip
    assert not names & {"environ", "getenv"} or path.name in ("settings.py", "data_dir.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines"


def test_no_cycles() -> None:
    modules = {str(p.relative_to(ROOT).with_suffix("")).replace("/", "."): p for p in FILES}
    edges = {name: {i for i in imports(p) if i in modules} for name, p in modules.items()}
    done: set[str] = set()

    def walk(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above, name))
        if name not in done:
            for other in edges[name]:
                walk(other, (*above, name))
            done.add(name)

    for name in modules:
        walk(name, ())


def test_the_minter_needs_no_server_library() -> None:
    code = "import sys, heliograph; heliograph.Minter; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {name.partition(".")[0] for name in out.stdout.split()} & SERVERS


def test_the_edge_is_compiled_where_it_can_be() -> None:
    """The tests run what users run. Stale modules are refused before any test (conftest.py)."""
    reason = hatch_build.why_not()
    told = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    for path in told["targets"]["wheel"]["hooks"]["custom"]["modules"]:
        found = find_spec(path.removesuffix(".py").replace("/", "."))
        assert found
        assert str(found.origin).endswith(".py") == bool(reason), (
            f"{path}: `make install` tells why it is not compiled (or HELIOGRAPH_COMPILE=0)"
        )
    require(not reason, reason)
