"""`from heliograph import Minter`: minting inside an application."""

import http.server
import json
import os
import subprocess
import sys
import threading
import tomllib
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest

from heliograph import Minted, Minter, Refusal, SendRequest
from heliograph.errors import Failure, UsageError
from heliograph.recorder import is_loopback
from heliograph.secrets import make_keys
from schemas.journal.directory import is_sealed, journals
from schemas.keyring import KeyFileError
from schemas.settings import SettingsError
from tests.unit.mint_kit import URL, opened, recorded


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_keys(tmp_path / "keys.json", tmp_path / "journal")
    return tmp_path


def test_a_send_is_on_disk_before_its_urls_are_given(data: Path) -> None:
    minter = Minter(data=data, public_url=URL + "/m")
    minted = minter.mint(
        "spring", "r-1", send="w", sent_at=1_767_225_600, message_id="<1@x>",
        links={"shop": "https://shop.example/"},
    )  # fmt: skip
    (journal,) = journals(data / "journal")
    assert not is_sealed(journal)
    segment = next(journal.glob("*.seg")).read_bytes()
    assert b'"recipient":"r-1"' in segment
    assert minted.pixel_url.startswith(URL + "/m/o/")
    assert minted.links["shop"].startswith(URL + "/m/c/")
    minter.close()
    (event,) = recorded(data)
    assert (event["send"], event["message_id"], event["sent_at"]) == ("w", "<1@x>", 1_767_225_600)


def test_many_are_minted_in_groups_and_the_bad_ones_told(data: Path) -> None:
    def requests() -> Iterator[SendRequest]:
        for number in range(1200):
            yield SendRequest(campaign="c", recipient=str(number) if number != 700 else "")

    with Minter(data=data, public_url=URL) as minter:
        answers = list(minter.mint_many(requests()))
    assert answers[700] == Refusal("recipient is empty")
    assert all(isinstance(answer, Minted) for answer in answers[:700] + answers[701:])
    assert len(recorded(data)) == 1199


def test_what_does_not_fit_is_a_value_error_and_not_recorded(data: Path) -> None:
    with Minter(data=data, public_url=URL) as minter:
        with pytest.raises(ValueError, match="e-mail address"):
            minter.mint("c", "a@b.example")
        with pytest.raises(ValueError, match="link 'x'"):
            minter.mint("c", "r", links={"x": "javascript:1"})
        assert len(minter.mint("c", "a@b.example", hash_recipient=True).recipient) == 32
    assert len(recorded(data)) == 1


def test_keys_and_times_as_applications_hold_them(data: Path) -> None:
    aware = datetime(2026, 3, 1, 10, tzinfo=timezone(timedelta(hours=1)))
    with Minter(data=data, public_url=URL) as minter:
        minter.mint(7, 4711, send=0, sent_at=aware)
        minter.mint("c", "r", sent_at=datetime(2026, 3, 1, 9))
        many = [SendRequest(campaign="c", recipient=1)]  # type: ignore[arg-type]
        assert isinstance(next(minter.mint_many(many)), Minted)
        for wrong in (
            {"recipient": None}, {"recipient": True}, {"campaign": b"c"}, {"sent_at": object()},
            {"links": {"a": 1}}, {"message_id": None},
        ):  # fmt: skip
            given: dict[str, Any] = {"campaign": "c", "recipient": "r", **wrong}
            with pytest.raises(ValueError, match=f"Expected .* `{next(iter(wrong))}"):
                minter.mint(**given)
        ahead = datetime.now(UTC) + timedelta(days=367)
        with pytest.raises(ValueError, match="sent_at is more than a year ahead"):
            minter.mint("c", "r", sent_at=ahead)
        minter.mint("c", "soon", sent_at=ahead - timedelta(days=2))
    first, second, third, soon = recorded(data)
    assert [first[name] for name in ("campaign", "send", "recipient")] == ["7", "0", "4711"]
    assert first["sent_at"] == second["sent_at"] == 1_772_355_600
    assert (third["recipient"], soon["recipient"]) == ("1", "soon")


def test_nothing_is_minted_after_close(data: Path) -> None:
    remote = Minter(remote="http://127.0.0.1:1", api_key="k")
    for minter in (Minter(data=data, public_url=URL), remote):
        minter.close()
        with pytest.raises(RuntimeError, match="after close"):
            minter.mint("c", "r")
    assert recorded(data) == []


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("127.0.0.1", True), ("0.0.0.0", True), ("[::1]:80", True), ("[::]", True),
        ("127.1:8080", True), ("[::ffff:127.0.0.1]", True), ("localhost.", True),
        ("a.localhost", True), ("A.LocalHost.", True), ("localhost.localdomain", True),
        ("px.example.org", False), ("192.0.2.1", False), ("[2001:db8::1]", False),
        ("notlocalhost", False), ("127.example.org", False),
    ],
)  # fmt: skip
def test_what_is_this_machine(host: str, found: bool) -> None:
    assert is_loopback(f"https://{host}/m") == found


@pytest.mark.parametrize(
    ("mode", "warned"), [(0o600, 0), (0o640, 0), (0o440, 0), (0o660, 1), (0o644, 1)]
)
def test_a_key_file_open_to_others_is_warned_of(
    data: Path, caplog: pytest.LogCaptureFixture, mode: int, warned: int
) -> None:
    (data / "keys.json").chmod(mode)
    Minter(data=data, public_url=URL).close()
    assert caplog.text.count(f"is open to others (mode {mode:04o})") == warned


def test_threads_share_a_minter(data: Path) -> None:
    with Minter(data=data, public_url=URL) as minter, ThreadPoolExecutor(8) as pool:
        urls = set(pool.map(lambda n: minter.mint("c", str(n)).pixel_url, range(200)))
    events = recorded(data)
    assert len(urls) == 200
    assert sorted(int(e["recipient"]) for e in events) == list(range(200))
    assert sorted(e["seq"] for e in events) == list(range(1, 201))


def test_a_forked_child_writes_a_journal_of_its_own(data: Path) -> None:
    program = f"""
import os
from heliograph import Minter
minter = Minter(data={str(data)!r}, public_url={URL!r})
minter.mint("c", "before")
child = os.fork()
minter.mint("c", "child" if child == 0 else "parent")
minter.close()
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    events = recorded(data)
    assert sorted(e["recipient"] for e in events) == ["before", "child", "parent"]
    assert len({(e["journal"], e["seq"]) for e in events}) == 3
    assert len(journals(data / "journal")) == 2


def test_a_full_journal_is_a_failure(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(fd: int, raw: bytes) -> int:
        raise OSError(28, "No space left on device")

    minter = Minter(data=data, public_url=URL)
    with monkeypatch.context() as broken:
        broken.setattr(os, "write", no_space)
        with pytest.raises(Failure, match=r"journal cannot be written \(full\)"):
            minter.mint("c", "r")
    minter.mint("c", "r")
    minter.close()
    assert [event["seq"] for event in recorded(data)] == [2], "what failed used up its seq"


def test_a_retired_key_mints_nothing_more(data: Path) -> None:
    from heliograph.cli import main

    minter = Minter(data=data, public_url=URL)
    first = minter.mint("c", "r", sent_at=1).pixel_url
    for action in ("new", "rotate"):
        assert main(["key", action, "--data", str(data)]) == 0
    minter._recorder._checked -= 10  # type: ignore[attr-defined]  # the time is up
    second = minter.mint("c", "r", sent_at=1).pixel_url
    minter.close()
    assert opened(data, first)[1] != opened(data, second)[1]


def test_a_loopback_address_is_warned_of(data: Path) -> None:
    with pytest.warns(UserWarning, match=r"http://127\.0\.0\.1:8080 is this machine"):
        Minter(data=data).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Minter(data=data, public_url=URL).close()


def test_settings_come_from_the_environment_too(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELIOGRAPH_DATA", str(data))
    monkeypatch.setenv("HELIOGRAPH_PUBLIC_URL", URL)
    with Minter() as minter:
        assert minter.mint("c", "r").pixel_url.startswith(URL)
    with pytest.raises(SettingsError, match="public_url must be"):
        Minter(public_url="ftp://x")
    with pytest.raises(KeyFileError, match="no key file"):
        Minter(data=data / "none", public_url=URL)
    assert not (data / "none").exists()


class _Collector(http.server.BaseHTTPRequestHandler):
    """Answers as told: each entry of `script` is for one request."""

    protocol_version = "HTTP/1.1"
    script: list[str]
    seen: list[tuple[str, str | None, list[dict[str, object]]]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        lines = [json.loads(line) for line in body.splitlines()]
        self.seen.append((self.path, self.headers["Authorization"], lines))
        what = self.script.pop(0)
        if what == "hang up":
            self.close_connection = True
            return
        answers = [
            {"line": n, "recipient": line["recipient"], "pixel_url": f"{URL}/o/{n}",
             "pixel_html": "<img>", "links": {}} if line["recipient"] else
            {"line": n, "error": "recipient is empty"}
            for n, line in enumerate(lines, 1)
        ]  # fmt: skip
        text = "".join(json.dumps(a) + "\n" for a in answers[: 1 if what == "cut" else None])
        raw = text.encode() if what != "refuse" else b"The API key is missing or wrong.\nx"
        self.send_response(401 if what == "refuse" else 200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def collector() -> Iterator[tuple[str, type[_Collector]]]:
    handler = type("Handler", (_Collector,), {"script": [], "seen": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/px/", handler
        server.shutdown()


def test_a_remote_collector_mints(collector: tuple[str, type[_Collector]]) -> None:
    url, handler = collector
    handler.script[:] = ["answer", "hang up", "answer"]
    with Minter(remote=url, api_key="k3y") as minter:
        answers = list(minter.mint_many(
            SendRequest(campaign="c", recipient=r, sent_at=1) for r in ("a", "", "b")
        ))  # fmt: skip
        assert [a.pixel_url if isinstance(a, Minted) else a.reason for a in answers] == [
            f"{URL}/o/1", "recipient is empty", f"{URL}/o/3",
        ]  # fmt: skip
        assert minter.mint("c", "again").pixel_url == f"{URL}/o/1", "asked again after a hang-up"
    paths = {(path, key) for path, key, _ in handler.seen}
    assert paths == {("/px/v1/sends", "Bearer k3y")}
    assert handler.seen[0][2][0]["sent_at"] == 1


def test_a_remote_collector_that_fails_is_named(
    collector: tuple[str, type[_Collector]], tmp_path: Path
) -> None:
    url, handler = collector
    with pytest.raises(UsageError, match="HELIOGRAPH_API_KEY"):
        Minter(remote=url, data=tmp_path)
    minter = Minter(remote=url, api_key="k")
    for script, message in [
        (["refuse"], "answered 401: The API key is missing or wrong"),
        (["cut"], "broke off"),
        (["hang up", "hang up"], "does not answer"),
    ]:
        handler.script[:] = script
        with pytest.raises(Failure, match=message):
            list(minter.mint_many(SendRequest(campaign="c", recipient=r) for r in "ab"))


def test_importing_needs_no_servers_libraries() -> None:
    """In a process of its own: what it imports is the standard library and the base's own."""
    program = "import sys; from heliograph import Minter, SendRequest; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    top = {name.partition(".")[0] for name in done.stdout.split()}
    assert "cryptography" in top
    assert not top & {"aiohttp", "aiokafka", "chdb", "clickhouse_connect", "numpy", "rich"}
    assert not top & {"prometheus_client", "uvloop"}

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    declared = {_plain(text) for text in project["dependencies"]}
    base = set(declared)
    for name in declared:  # and what these need themselves
        base |= {_plain(text) for text in requires(name) or () if "extra ==" not in text}
    owners = packages_distributions()
    needed = {_plain(owners[name][0]) for name in top & set(owners)} - {"heliograph"}
    needed -= {"setuptools", "pip"}  # what site-packages' .pth files import at start
    assert needed <= base, f"not declared: {needed - base}"


def _plain(requirement: str) -> str:
    name = requirement.split(";")[0]
    for mark in "<>=!~ [(":
        name = name.split(mark)[0]
    return name.strip().lower().replace("_", "-")
