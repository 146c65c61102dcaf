"""The wheel: what an application installs, where it could be compiled and where not."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hatch_build import why_not

ROOT = Path(__file__).parents[2]
NEEDED = ("README.md", "LICENSE", "pyproject.toml", "hatch_build.py", ".gitignore")


@pytest.fixture(
    scope="module",
    params=[{}, {"CC": "no-such-compiler"}, {"CC": "false"}, {"HELIOGRAPH_COMPILE": "0"}],
    ids=["as it comes", "no compiler", "a compiler that fails", "not wanted"],
)
def wheel(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> zipfile.ZipFile:
    """Made of a copy of the tree, with what was compiled beside the sources."""
    tree = tmp_path_factory.mktemp("tree")
    for name in NEEDED:
        shutil.copy(ROOT / name, tree)
    for name in ("heliograph", "collector", "consumer", "schemas"):
        shutil.copytree(ROOT / name, tree / name)
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist"],
        cwd=tree, env={**os.environ, **request.param}, check=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
    )  # fmt: skip
    (built,) = (tree / "dist").glob("*.whl")
    compiled = not request.param and not why_not()
    assert ("the edge is compiled" in done.stdout) == compiled
    assert ("the edge runs uncompiled, slower: " in done.stdout) != compiled
    assert built.name.endswith("-py3-none-any.whl") != compiled
    return zipfile.ZipFile(built)


def is_compiled(wheel: zipfile.ZipFile) -> bool:
    return "py3-none-any" not in str(wheel.filename)


def test_what_is_compiled_is_one_build_and_has_its_sources(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    compiled = {name.partition(".")[0] for name in names if name.endswith(".so")}
    assert bool(compiled) == is_compiled(wheel)
    assert {f"{name}.py" for name in compiled if "mypyc" not in name} <= set(names)
    (record,) = (name for name in names if name.endswith(".dist-info/WHEEL"))
    assert f"Root-Is-Purelib: {str(not compiled).lower()}" in wheel.read(record).decode()


def test_it_installs_our_four_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    top = {name.partition("/")[0] for name in wheel.namelist()}
    packages = {name for name in top if not name.endswith(".dist-info")}
    assert packages == {"heliograph", "collector", "consumer", "schemas"}


def test_it_holds_what_the_code_reads(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for path in (ROOT / "schemas").rglob("*.sql"):
        assert str(path.relative_to(ROOT)) in names
    assert "schemas/token_vectors.json" in names
    assert "consumer/sql/functions.txt" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_it_makes_the_command_and_needs_no_server(wheel: zipfile.ZipFile) -> None:
    (folder,) = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    entries = wheel.read(f"{folder}/entry_points.txt").decode()
    assert "heliograph = heliograph.cli:main" in entries
    told = wheel.read(f"{folder}/METADATA").decode()
    base = [line for line in told.splitlines() if line.startswith("Requires-Dist:")]
    assert {"edge", "store"} <= {line.rpartition("'")[0].rpartition("'")[2] for line in base}
    for line in base:
        if "extra ==" not in line:
            assert not line.split()[1].startswith(("aiohttp", "aiokafka", "chdb", "clickhouse"))


def test_an_unpacked_wheel_mints(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import heliograph;"
        "assert heliograph.__file__.startswith(sys.argv[1]), heliograph.__file__;"
        "from heliograph.compiled import is_compiled;"
        f"assert is_compiled() is {is_compiled(wheel)};"
        "from heliograph.cli import main; sys.exit(main(sys.argv[2:]))"
    )
    (tmp_path / "r.csv").write_text("id\n1\n")
    data = str(tmp_path / "data")
    for argv in (
        ["key", "new", "--data", data],
        ["mint", str(tmp_path / "r.csv"), "--campaign", "c", "--data", data],
    ):
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "site"), *argv],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert "/o/" in done.stdout
