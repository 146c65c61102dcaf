"""Erasure: gone from every table and file, and nothing brings them back; the audit stays exact."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from consumer import erasures as module
from consumer.audit import audit
from consumer.erasures import Erasures
from consumer.store import execute, rows
from tests.integration.test_cli_lists import ask, data, happen, happened
from tests.store import HUMAN, NOW, batch, block, body, client, raw, writer
from tests.unit.mint_kit import heliograph

__all__ = ["client", "data"]
WHO, MAIL, AGENT = "zqxj-4711-wvkp", "<kjqz-77@mail>", "Qzxwv/5.1 (ymnbk)"


def silent(_: str) -> None:
    """Progress is for people."""


def holds(place: Path, *texts: str) -> list[Path]:
    """The files under a place that hold any of the texts."""
    found = []
    for folder, _, names in os.walk(place):  # the engine works on: what is gone is passed over
        for path in (Path(folder, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                data = path.read_bytes()
                found += [path for text in texts if text.encode() in data]
    return found


def everything() -> list[bytes]:
    return [
        body("sent", recipient=WHO, message_id=MAIL),
        body(recipient=WHO, user_agent=AGENT, address="203.0.113.9"),
        body("click", recipient=WHO, link="https://x/1"),
        body("receipt", campaign="", send="", recipient="", message_id=MAIL, detail="displayed"),
        body("sent", recipient="other", message_id="<other@mail>"),
        body(recipient="other"),
        b'{"recipient":"%b","broken"\n' % WHO.encode(),
        body("receipt", campaign="", send="", recipient="", message_id="<other@mail>"),
    ]


def test_all_of_a_person_goes_and_old_copies_bring_nothing_back(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = writer(client)
    made.write(batch(block(everything())))
    made.write(batch(block([body(recipient="other")] * 5, 9)))
    dates = "SELECT recipient FROM heliograph.last_opens"
    for who in (WHO, "other"):
        execute(client, f"INSERT INTO heliograph.last_opens VALUES ('{who}', today(), today())")
    store = tmp_path / "store"
    assert holds(store, WHO)
    assert holds(store, AGENT)
    erasures = Erasures(client, "heliograph")
    found = erasures.find([WHO])
    assert found == (4, 1, [MAIL.strip("<>")], True)
    assert rows(client, "SELECT count() FROM heliograph.events") == [(12,)]
    assert erasures.erase([WHO], silent) == found
    assert holds(store, WHO, AGENT, MAIL) == []
    left = "SELECT recipient, count() FROM heliograph.events GROUP BY ALL ORDER BY ALL"
    assert rows(client, dates) == [("other",)]
    remaining = [("", 1), ("other", 7)]
    assert rows(client, left) == remaining
    assert rows(client, "SELECT reason, raw FROM heliograph.dead_letter FINAL") == [("erased", "")]
    hours = (
        "SELECT sum(n) FROM (SELECT count() AS n FROM heliograph.events GROUP BY campaign, kind)"
    )
    assert rows(client, hours) == rows(client, f"{hours} SETTINGS optimize_use_projections = 0")
    # The topic again, and what is new of them or was on its way.
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0.0)
    made.write(batch(block(everything())))
    late = body(recipient=WHO, user_agent=AGENT, ts=(NOW + 9) * 1000)
    made.write(batch(block([late, body(recipient="other"), late], 14)))
    made.write(batch(raw(b'{"recipient": "%b", "x":1}\n' % WHO.encode())))
    assert rows(client, left) == [("", 1), ("other", 8)]
    assert holds(store, WHO, AGENT, MAIL) == []
    (told,) = audit(client, "heliograph")
    assert told.sound
    assert (told.stored, told.dead, told.erased) == (9, 1, 6)
    assert erasures.erase([WHO], silent).events == 0
    # Taken back, what is old stays away.
    erasures.lift([WHO])
    after = int(time.time() + 60) * 1000
    made.write(batch(block([late, body(recipient=WHO, ts=after)], 17)))
    assert rows(client, left) == [("", 1), ("other", 8), (WHO, 1)]
    (told,) = audit(client, "heliograph")
    assert (told.sound, told.erased) == (True, 7)


def test_the_name_alone_is_no_match(client: Client) -> None:
    """A key is a whole word in the dead letter, and all of the recipient in events."""
    made = writer(client)
    made.write(batch(block([body(recipient="r10"), body(recipient="r1"), b'{"r10":1}\n'])))
    assert Erasures(client, "heliograph").find(["r1"])[:2] == (1, 0)
    assert Erasures(client, "heliograph").find(["r10"])[:2] == (1, 1)
    assert Erasures(client, "heliograph").find(["(r1|.*)"])[:2] == (0, 0)


def test_an_insert_that_began_before_is_waited_for(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asked the erasures before ours was written, and is seen until it has come to its end."""
    erasures = Erasures(client, "heliograph")
    asked: list[list[tuple[str]]] = [[("before",)], [("before",), ("after",)], [("after",)]]
    ask = erasures._ask
    monkeypatch.setattr(
        erasures,
        "_ask",
        lambda sql, **more: asked.pop(0) if "processes" in sql else ask(sql, **more),
    )
    erasures._outwait()
    assert asked == []


def some(who: str, count: int = 40) -> Iterable[bytes]:
    yield happened("sent", who, 9, message_id=f"<{who}@mail>")
    for n in range(count):
        yield happened("open", who, 8 - n / 100, agent=f"{HUMAN} {who}")


def test_killed_in_the_middle_and_run_again_and_a_restored_journal(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for who in (WHO, "other", "third"):
        happen(data, some(who))
    shutil.copytree(data / "journal", tmp_path / "kept")
    before = ask(capsys, data, "export", WHO)
    assert len(before["events"]) == 41
    (data / "quarantine").mkdir()
    (data / "quarantine" / "x.bin").write_bytes(b'..."recipient":"%b"...' % WHO.encode())
    argv = [Path(sys.executable).with_name("heliograph"), "erase", WHO, "--data", str(data)]
    for line in (b"named as erased", b"waiting for the engine"):
        with subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as erasing:
            assert erasing.stderr
            for said in erasing.stderr:
                if line in said:
                    break
            os.kill(erasing.pid, signal.SIGKILL)
    assert heliograph("erase", WHO, "--data", data) == 0
    assert holds(data / "store", WHO) == holds(data / "journal", WHO) == []
    assert holds(data / "quarantine", WHO) == []
    assert len(holds(data / "journal", "other")) == 1
    # A restored copy of the journals, shipped again.
    shutil.rmtree(data / "journal")
    shutil.copytree(tmp_path / "kept", data / "journal")
    assert heliograph("reship", "--data", data) == 0
    after = ask(capsys, data, "export", WHO)
    assert after["events"] == []
    assert after["opted_out_since"]
    assert after["erasures"][0]["kept_out_until"] == "for good"
    told = ask(capsys, data, "audit")
    assert sum(journal["erased"] for journal in told) == 42, "and the opt-out that it recorded"
    assert sum(journal["missing"] for journal in told) == 0
    assert len(ask(capsys, data, "export", "other")["events"]) == 41


def test_dry_run_export_and_addresses(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    happen(data, [*some("a@x.org", 2), b'"x":"a@x.org","n":"\\\\"}\n'])
    capsys.readouterr()
    assert heliograph("erase", "a@x.org", "--dry-run", "--data", data) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["events"], told["dead"], told["journal_events"]) == (3, 1, 4)
    assert told["dry_run"]
    whole = ask(capsys, data, "export", "a@x.org")
    assert len(whole["keys"]) == 2, "as it is, and hashed"
    assert [row["kind"] for row in whole["events"]] == ["sent", "open", "open"]
    assert whole["opted_out_since"] is None
    assert whole["erasures"] == []
    (dead,) = whole["dead_letter"]
    assert dead["raw"].endswith('"x":"a@x.org","n":"\\\\"}\n')
    for command in ("export", "erase"):  # cut to what a key may be, it would be another's
        assert heliograph(command, "a@x.org" + "x" * 249, "--data", data) == 2
        assert heliograph(command, " ", "--data", data) == 2
    capsys.readouterr()
    for command in (("export",), ("erase", "--dry-run")):
        assert heliograph(*command, "A@x.org", "--data", data) == 0
        assert "no event is stored of this key" in capsys.readouterr().err
    assert heliograph("export", "a@x.org", "--format", "csv", "--data", data) == 0
    assert capsys.readouterr().out.count("\n") == 4


def test_whatever_a_name_holds_the_dead_letter_takes_it_no_more(client: Client) -> None:
    """Neither overlooked nor brought back, whichever way JSON escapes it, in whichever field."""
    made, erasures = writer(client), Erasures(client, "heliograph")
    names = ["a,b", 'c"d', "e}f", "g\\h", "gö", 'gö"x', "new\nline"]
    written = {json.dumps(name, ensure_ascii=ascii) for name in names for ascii in (True, False)}
    lines = "".join(f'{{"recipient": {name}, "x": 1}}\n{{"note": {name}}}\n' for name in written)
    made.write(batch(raw(lines.encode())))
    assert erasures.find(names).dead == 2 * len(written)
    erasures._do(module._ADD, until=module._FOREVER, **erasures._whose(names))
    made.write(batch(raw(lines.encode())))
    kept = rows(client, "SELECT DISTINCT raw, reason FROM heliograph.dead_letter FINAL")
    assert kept == [("", "erased")]


def test_many_bad_lines_are_asked_of_in_parts(client: Client) -> None:
    """Else the statement grows too long, and nothing is taken any more."""
    erasures = Erasures(client, "heliograph")
    erasures._do(module._ADD, until=module._FOREVER, **erasures._whose(["n8999", "n1"]))
    asked = [{f"n{n}", f"{n}" * 50} for n in range(9000)]
    assert erasures.of(asked) == {"n1", "n8999"}


def test_who_is_not_erased_is_not_lifted(client: Client) -> None:
    """It would keep out what is on its way."""
    made, erasures = writer(client), Erasures(client, "heliograph")
    erasures.lift(["lina"])
    made.write(batch(block([body(recipient="lina")])))
    assert rows(client, "SELECT recipient FROM heliograph.events") == [("lina",)]
