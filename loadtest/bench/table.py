"""The table of figures, for a terminal and as Markdown, headed by the machine."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from rich.table import Table

from heliograph.compiled import is_compiled
from loadtest.bench.figures import Figure

Section = tuple[str, Sequence[Figure]]
_COLUMNS: Final = ("what", "measured", "spread", "beside", "goal", "met")
NOTE: Final = (
    "The requests are synthesised (loadtest/traffic.py). Compare within a run: machines differ."
)
_POM: Final = Path(__file__).parents[2] / "tests" / "kafka" / "pom.xml"


def machine() -> str:
    """What this runs on, in a few words."""
    told = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", told)
    kafka = re.search(r"<version>([\d.]+)</version>\s*</dependency>", _POM.read_text())
    parts = [
        f"{os.cpu_count()} cores of {model[1] if model else platform.machine()}",
        f"Linux {platform.release()}",
        f"Python {platform.python_version()}, the edge {'' if is_compiled() else 'not '}compiled",
        _told("nginx", "-v", r"nginx/([\d.]+)"),
        _told("wrk", "-v", r"wrk \S*?([\d.]+\d)"),
        _told("go", "version", r"go([\d.]+)"),
        f"Kafka {kafka[1] if kafka else '?'}",
        f"chDB {version('chdb-core')}",
        f"load {os.getloadavg()[0]:.1f}",
    ]
    return ", ".join(parts)


def _told(program: str, option: str, pattern: str) -> str:
    """A program's name and version."""
    path = shutil.which(program, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")
    if path is None:
        return f"no {program}"
    done = subprocess.run([path, option], capture_output=True, text=True)
    found = re.search(pattern, done.stdout + done.stderr)
    return f"{program} {found[1] if found else '?'}"


def met(figure: Figure) -> str:
    """A word on whether a figure is good enough."""
    if figure.met is None:
        return ""
    if figure.met:
        return "yes"
    return "NO" if figure.failed else "not yet"


def _row(figure: Figure) -> list[str]:
    return [*figure[:5], met(figure)]


def render(title: str, sections: Sequence[Section]) -> Table:
    """The table for a terminal."""
    table = Table(*_COLUMNS, title=title, title_justify="left", caption=NOTE)
    for name, figures in sections:
        table.add_section()
        table.add_row(f"[bold]{name}[/bold]")
        for figure in figures:
            table.add_row(*(cell.replace("[", "\\[") for cell in _row(figure)))
    return table


def markdown(title: str, sections: Sequence[Section]) -> str:
    """The same for a README."""
    lines = [title, ""]
    for name, figures in sections:
        rows = [[name, *_COLUMNS[1:]], ["---"] * len(_COLUMNS), *map(_row, figures)]
        lines += ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in rows]
        lines.append("")
    return "\n".join([*lines, NOTE, ""])
