"""The wheel: what an application installs."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=ROOT, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    (built,) = out.glob("*.whl")
    return zipfile.ZipFile(built)


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
