"""The docs say what the code does: every setting, command, table and link in them is real."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from collector.settings import CollectorSettings
from consumer.settings import ConsumerSettings
from heliograph.options import choices
from heliograph.settings import MintSettings
from schemas.settings import Settings, variable

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SIDES: dict[str, type[Settings]] = {
    "collector": CollectorSettings,
    "consumer": ConsumerSettings,
    "mint": MintSettings,
}
HEAD = """# Settings

Every option of a command has a variable; options win over variables, variables over defaults.
They are read once, at the start; a value that can't be used ends the command with its name.
`up` takes the settings of the collector and the consumer. Lists are separated by commas.

| variable | default | | read by |
|---|---|---|---|
"""


def settings_page() -> str:
    """docs/settings.md as it should be. To write it: python -m tests.test_docs"""
    defaults: dict[str, dict[str, list[str]]] = {}
    texts: dict[str, str] = {}
    for side, kind in SIDES.items():
        for field in msgspec.structs.fields(kind):
            if side == "mint" and field.name in CollectorSettings.__struct_fields__:
                continue
            name = variable(field.name)
            default = "" if field.default in (None, "", ()) else f"`{field.default}`"
            defaults.setdefault(name, {}).setdefault(default, []).append(side)
            metas = getattr(field.type, "__metadata__", ())
            text = next(m.description for m in metas if m.description)
            if named := choices(field):
                text += f" (one of {', '.join(named)})"
            texts.setdefault(name, text)
    rows = []
    for name, found in sorted(defaults.items()):
        several = [f"{default} ({', '.join(sides)})" for default, sides in found.items()]
        default = ", ".join(several) if len(found) > 1 else next(iter(found))
        sides = ", ".join(side for some in found.values() for side in some)
        rows.append(f"| `{name}` | {default} | {texts[name]} | {sides} |")
    return HEAD + "\n".join(rows) + "\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_metrics_are_called_what_they_are_called(page: Path) -> None:
    sources = [ROOT / "collector" / "metrics.py", ROOT / "consumer" / "metrics.py"]
    known = re.findall(r'"(heliograph_[a-z_]+)"', "".join(path.read_text() for path in sources))
    named = set(re.findall(r"`(heliograph_[a-z_]+)", page.read_text()))
    assert {name.removesuffix("_total") for name in named} <= set(known)


def test_every_setting_is_documented() -> None:
    assert (ROOT / "docs" / "settings.md").read_text("utf-8") == settings_page()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_variables_and_links_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    known = {variable(f.name) for kind in SIDES.values() for f in msgspec.structs.fields(kind)}
    known |= {
        "HELIOGRAPH_COMPILE",
        "HELIOGRAPH_REQUIRE_ALL",
        "HELIOGRAPH_TEST_CLICKHOUSE",
        "HELIOGRAPH_LOADTEST_URLS",
    }
    named = set(re.findall(r"HELIOGRAPH_[A-Z_]*[A-Z]", text))
    assert named <= known
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / target).exists(), target


def test_every_command_of_the_readme_exists() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    shell = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    named = set(re.findall(r"\bheliograph ([a-z]+)", shell))
    assert {"mint", "report", "sql", "collect", "consume", "migrate"} <= named
    for command in named:
        done = subprocess.run(
            [Path(sys.executable).with_name("heliograph"), command, "--help"], capture_output=True
        )
        assert done.returncode == 0, command


def test_every_view_is_documented() -> None:
    sql = "\n".join(f.read_text("utf-8") for f in (ROOT / "schemas" / "clickhouse").glob("*.sql"))
    page = (ROOT / "docs" / "sql.md").read_text("utf-8")
    for view in re.findall(r"VIEW \{database\}\.(\w+)", sql):
        assert f"`{view}`" in page, view


if __name__ == "__main__":
    (ROOT / "docs" / "settings.md").write_text(settings_page(), "utf-8")
