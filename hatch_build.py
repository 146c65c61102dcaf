"""The package's own build: compiles the edge's hot modules, the very same files, with mypyc.

Where that can't be done the package is built without: the same edge, only slower. So it is where
HELIOGRAPH_COMPILE is 0. An editable install gets the compiled modules beside their sources.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from itertools import chain
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGES = ("collector", "schemas")
#: What is kept of a build, so that the next one compiles only what has changed.
KEPT = ".mypyc"
#: All compiled modules are one library, which the base package has too.
LIBRARY = "schemas.compiled"


def why_not() -> str:
    """Why nothing can be compiled here; "" if it can."""
    if os.environ.get("HELIOGRAPH_COMPILE") == "0":
        return "HELIOGRAPH_COMPILE is 0"
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
    if not shutil.which(os.environ.get("CC", compiler)):
        return f"there is no C compiler ({compiler})"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's C headers are missing (Debian: python3-dev)"
    return ""


class Compile(BuildHookInterface[Any]):
    """Runs before each wheel is made, also before an editable one."""

    def dependencies(self) -> list[str]:
        """What an isolated build needs."""
        return [] if why_not() else ["mypy>=2.4", "setuptools>=65"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; on failure go on without."""
        root, kept = Path(self.root), Path(self.root, KEPT)
        kept.mkdir(exist_ok=True)
        built: list[Path] = []
        began = time.time()
        if not (reason := why_not()):
            built, reason = _compile(root, kept, self.config["modules"])
        outcome = f"runs uncompiled, slower: {reason}" if reason else "is compiled"
        (kept / "outcome").write_text(f"heliograph: the edge {outcome}\n")
        self.app.display_warning(f"heliograph: the edge {outcome}")
        if version == "editable":
            _place(root, kept, built, began)
        elif built:
            build_data.update(pure_python=False, infer_tag=True)
            build_data["force_include"].update({path: path.relative_to(kept) for path in built})


def _compile(root: Path, kept: Path, modules: list[str]) -> tuple[list[Path], str]:
    """The compiled files, or why there are none. In a copy, so that only whole results count."""
    for package in PACKAGES:
        shutil.rmtree(kept / package, ignore_errors=True)
        shutil.copytree(root / package, kept / package, ignore=shutil.ignore_patterns("*.so"))
    done = subprocess.run(
        [sys.executable, __file__, *modules],
        cwd=kept, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return [], (done.stdout.strip().splitlines() or ["mypyc failed"])[-1]
    return sorted(chain.from_iterable((kept / name).rglob("*.so") for name in PACKAGES)), ""


def _place(root: Path, kept: Path, built: list[Path], began: float) -> None:
    """Put them beside their sources, as old as the sources that were read; clear away others."""
    places = [root / path.relative_to(kept) for path in built]
    for path in chain.from_iterable((root / name).rglob("*.so") for name in PACKAGES):
        if path not in places:
            path.unlink()
    for path, place in zip(built, places, strict=True):
        draft = place.with_suffix(".draft")
        shutil.copyfile(path, draft)
        os.utime(draft, (began, began))
        draft.replace(place)  # a running process keeps the one it has


def _main() -> None:
    from setuptools import setup  # isort: skip - before mypyc, which takes it or distutils
    from mypyc.build import mypycify

    extensions = mypycify(
        ["--ignore-missing-imports", *sys.argv[1:]], group_name=LIBRARY, target_dir="build"
    )
    setup(ext_modules=extensions, packages=[], script_args=["--quiet", "build_ext", "--inplace"])


if __name__ == "__main__":
    _main()
