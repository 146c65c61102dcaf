"""Verdicts of a running line: networks, a revision and a preview by the command line."""

import json
import subprocess
from pathlib import Path

from tests.e2e.line import Lines, ask, rows, run, wait_for

APPLE = "Mozilla/5.0"


def test_networks_and_reclassify_while_up_runs_and_when_it_does_not(
    lines: Lines, tmp_path: Path
) -> None:
    up = lines.up("--trusted-proxies", "127.0.0.1")
    pixel = up.curl.split()[-1].strip("'\"")
    (tmp_path / "me.csv").write_text("id\nme\n")
    given = ("--data", up.data, "--campaign", "spring", "--preview", "--format", "csv")
    preview = ask("mint", *given, tmp_path / "me.csv", HELIOGRAPH_PUBLIC_URL=up.url)
    mine = next(word for word in preview.split(",") if "/o/" in word)
    for url in (pixel, f"{up.url.rstrip('/')}/o/{mine.rpartition('/')[2]}"):
        curl = ["curl", "-s", "-A", APPLE, "-H", "X-Forwarded-For: 203.0.113.9", "-o", "/dev/null"]
        subprocess.run([*curl, url], check=True, timeout=60)
    asked = "SELECT class, rule FROM hits ORDER BY class"
    where = ("--data", up.data)
    wait_for(lambda: len(rows("sql", asked, *where)) == 2)
    assert rows("sql", asked, *where) == [
        {"class": "prefetch", "rule": "apple-mpp"},
        {"class": "self", "rule": "preview"},
    ]
    (tmp_path / "egress.txt").write_text("172.224.224.0/27,GB\n# and no more\n")
    loaded = ask("networks", "load", tmp_path / "egress.txt", "--list", "apple-egress", *where)
    assert loaded.startswith("1 networks in apple-egress; ")
    changed = [{"old_class": "prefetch", "old_rule": "apple-mpp", "new_class": "unknown",
                "new_rule": "apple-mpp-elsewhere", "hits": 1}]  # fmt: skip
    assert json.loads(ask("reclassify", *where, "--since", "1d", "--format", "json")) == changed
    assert json.loads(ask("reclassify", *where, "--format", "json")) == []
    refused = run("networks", "load", "-", "--list", "self", *where, text="10.0.0.0/99\n")
    assert (refused.returncode, "line 1" in refused.stderr) == (1, True)
    for command in (("networks", "drop", "--list", "apple-egress"), ("reclassify",)):
        other = run(*command, *where, HELIOGRAPH_RULES=str(tmp_path))
        assert (other.returncode, "judges by no rules of your own" in other.stderr) == (1, True)
    stranger = ["curl", "-s", "-w", "%{http_code}", "-d", "", f"{up.sql}/orders/reclassify"]
    assert subprocess.run(stranger, capture_output=True, text=True).stdout.endswith("403")
    assert up.stop()[0] == 0
    assert ask("networks", "drop", "--list", "apple-egress", *where).startswith("apple-egress is")
    (back,) = json.loads(ask("reclassify", *where, "--format", "json"))
    assert (back["new_class"], back["hits"]) == ("prefetch", 1)
