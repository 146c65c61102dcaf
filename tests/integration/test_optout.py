"""Opting out at a running edge: by the page, by the API, by the command; and what then is kept."""

import contextlib
import errno
import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector import optout_compact, optout_index
from collector.optouts import Optouts
from schemas import keyring
from schemas.optout import FILE
from schemas.settings import encode
from tests.collecting import API_KEY, Collector, collecting, events, mint, settings, wait_for
from tests.integration.test_edge import PIXEL, PIXEL_HEAD, URL, Edge, edge_of, path_of
from tests.unit.mint_kit import heliograph

Capture = pytest.CaptureFixture[str]


def kinds(data: Path, recipient: str) -> list[str]:
    return [e["kind"] for e in events(data) if e["recipient"] == recipient]


def counted(edge: Edge, kind: str) -> float:
    return edge.counted(kind, "opted_out")


async def test_the_page_opts_out_and_only_by_its_button(tmp_path: Path) -> None:
    async with edge_of(tmp_path / "data") as edge:
        minted = mint(edge.data, URL, "kåre <b>", links={"a": "https://x.org/?q=1"})
        page, pixel = path_of(minted.optout_url), path_of(minted.pixel_url)
        click = path_of(minted.links["a"])
        before = await edge.get(click)
        for method in ("GET", "HEAD"):
            asked = await edge.get(page, method=method)
            assert asked.startswith(b"HTTP/1.1 200 OK\r\n")
            for line in (b"Content-Type: text/html; charset=utf-8", b"Cache-Control: no-store",
                         b"X-Robots-Tag: noindex, nofollow", b"Referrer-Policy: no-referrer",
                         b"default-src 'none'; form-action 'self'"):  # fmt: skip
                assert line in asked
        shown = await edge.get(page)
        assert shown.count(b'<form method="post">') == shown.count(b"<button") == 1
        assert b"<script" not in shown
        assert b"re" not in set(re.findall(rb"(?:src|href|action)=", shown))
        assert "kåre".encode() not in shown
        assert await edge.get(pixel) == PIXEL_HEAD + PIXEL
        assert kinds(edge.data, "kåre <b>") == ["click", "open"]
        chunked = "Transfer-Encoding: chunked\r\n\r\n3\r\na=b\r\n0"  # a proxy's, or a program's
        for way in ("Content-Length: 0", chunked):  # again changes nothing
            done = await edge.get(page, way, method="POST")
            assert done.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"You are not counted any more" in done
            assert b"<form" not in done
        assert await edge.get(pixel) == PIXEL_HEAD + PIXEL
        assert await edge.get(pixel, method="HEAD") == PIXEL_HEAD
        assert await edge.get(click) == before
        assert b"You are not counted any more" in await edge.get(page)
        assert kinds(edge.data, "kåre <b>") == ["click", "open", "optout"]
        assert (counted(edge, "open"), counted(edge, "click")) == (2, 1)
        other = mint(edge.data, URL, "other")
        await edge.get(path_of(other.pixel_url))
        assert kinds(edge.data, "other") == ["open"]
        kept = (edge.data / "optouts").read_bytes()
        assert kept.count(b"\n") == 1
        assert "kåre".encode() not in kept


async def test_tokens_of_other_purposes_open_no_page(tmp_path: Path) -> None:
    async with edge_of(tmp_path / "data") as edge:
        minted = mint(edge.data, URL, links={"a": "https://x.org/"})
        good = path_of(minted.optout_url).removeprefix("/optout/")
        pixel = path_of(minted.pixel_url)[3:-4]
        click = path_of(minted.links["a"])[3:]
        anonymous = mint(edge.data, URL, consent="anonymous")
        assert anonymous.optout_url == ""
        for token in ("", "x", pixel, click, good[:-1], good + "A"):
            for method in ("GET", "POST"):
                answer = await edge.get(f"/optout/{token}", method=method)
                assert answer.startswith(b"HTTP/1.1 404 ")
        for path in (f"/o/{good}.gif", f"/c/{good}"):
            await edge.get(path)
        assert [e["kind"] for e in edge.events()] == []
        assert not (edge.data / "optouts").exists()
        for prefix in ("/m", "/of/old"):
            answer = await edge.get(f"{prefix}/optout/{good}")
            assert answer.startswith(b"HTTP/1.1 200 ")


async def test_what_cannot_be_kept_is_not_said_to_be(tmp_path: Path) -> None:
    async with edge_of(tmp_path / "data") as edge:
        (edge.data / "optouts").mkdir()
        page = path_of(mint(edge.data, URL).optout_url)
        answer = await edge.get(page, method="POST")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"you are still counted" in answer
        (edge.data / "optouts").rmdir()
        assert b"You are not counted any more" in await edge.get(page, method="POST")


async def test_a_repetition_is_no_proof_that_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a sync has failed for is read all the same, by all workers; a sync of it again says
    nothing.
    """

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "")

    async with edge_of(tmp_path / "data") as edge:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fail)
            for _ in range(2):
                assert "error" in (await post(edge, {"recipient": "a"}))[1][0]
                edge.worker._step_optouts()
                assert edge.worker.optouts.recipients.has("a")
        before = (edge.data / "optouts").read_bytes().count(b"\n")
        assert (await post(edge, {"recipient": "a"}))[1] == [
            {"line": 1, "recipient": "a", "out": True}
        ]
        assert (edge.data / "optouts").read_bytes().count(b"\n") == before + 1


async def test_nothing_is_recorded_before_the_topic_is_read(tmp_path: Path) -> None:
    """A new machine: all is answered, no hit is kept, and it is not ready."""
    async with edge_of(tmp_path / "data", kafka=("127.0.0.1:1",)) as edge:
        minted = mint(edge.data, URL, links={"a": "https://x.org/"})
        hit = [path_of(minted.pixel_url), path_of(minted.links["a"])]
        assert await edge.get(hit[0]) == PIXEL_HEAD + PIXEL
        assert b"Location: https://x.org/" in await edge.get(hit[1])
        assert edge.events() == []
        assert "before the opt-outs are read" in edge.worker.state().reasons[0]
        assert edge.counted("open", "unread") == edge.counted("click", "unread") == 1
        (edge.data / "optouts.read").touch()
        edge.worker._step_optouts()
        assert edge.worker.state().reasons == ()
        await edge.get(hit[0])
        assert [e["kind"] for e in edge.events()] == ["open"]


async def post(
    edge: Edge, *lines: object, key: str = API_KEY
) -> tuple[bytes, list[dict[str, object]]]:
    body = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    answer = await edge.raw(
        f"POST /v1/optouts HTTP/1.1\r\nHost: px\r\nConnection: close\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    told = re.findall(rb"^\{.*\}$", answer, re.MULTILINE)
    return answer, [json.loads(line) for line in told]


async def test_the_api(tmp_path: Path) -> None:
    async with edge_of(tmp_path / "data") as edge:
        ring = edge.worker.keys.ring
        answer, _ = await post(edge, {"recipient": "a"}, key="x")
        assert answer.startswith(b"HTTP/1.1 401 ")
        _, told = await post(
            edge, {"recipient": "a"}, {"recipient": " b "}, {"recipient": "a"}, "{",
            {"recipient": "x@example.org"}, {"recipient": "x@example.org", "hash_recipient": True},
            {"recipient": "y@example.org", "allow_address": True}, {"recipient": ""},
            {"recipient": "é" * 128}, {"recipient": "a", "other": 1},
        )  # fmt: skip
        hashed = ring.hash_recipient("x@example.org")
        assert [(line["line"], line.get("recipient")) for line in told] == [
            (1, "a"), (2, "b"), (3, "a"), (4, None), (5, None), (6, hashed), (7, "y@example.org"),
            (8, None), (9, None), (10, None),
        ]  # fmt: skip
        known = edge.worker.optouts.recipients
        assert all(map(known.has, ("a", "b", hashed, "y@example.org")))
        assert known.count == 4
        _, told = await post(
            edge, {"recipient": "a", "out": False}, {"recipient": "z", "out": False}
        )
        assert [line["out"] for line in told] == [False, False]
        assert not known.has("a")
        assert known.count == 3
        assert sorted((e["recipient"], e["kind"]) for e in edge.events()) == sorted(
            [
                ("a", "optin"),
                ("y@example.org", "optout"),
                *((n, "optout") for n in ("a", "b", hashed)),
            ]
        )


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    with collecting(settings(tmp_path / "data", workers=2)) as running:
        yield running


def test_a_long_file_gets_an_index(tmp_path: Path) -> None:
    """Which those know too who start later; and nobody else is taken for one of them."""
    wanted = settings(tmp_path / "data")
    optouts = Optouts(wanted.data / FILE, keyring.load(wanted.key_file).content.hash_secret)
    optouts.append(optouts.seal((f"customer-number-{number}" for number in range(90_000)), True, 1))
    with collecting(wanted) as running:
        wait_for(optout_index.beside(optouts.path).exists)
        (pid,) = running.children("collector.worker")
        os.kill(pid, signal.SIGKILL)
        for name in ("customer-number-0", "customer-number-89999", "next"):
            assert ask(running, "GET", mint(wanted.data, "", name).pixel_url)[1] == PIXEL
        optouts.append(optouts.seal(["next"], True, 2))
        wait_for(lambda: " 90001.0\n" in running.ask("/metrics")[1])
        assert ask(running, "GET", mint(wanted.data, "", "next").pixel_url)[1] == PIXEL
        page = running.ask("/metrics")[1]
    found = re.findall(r'hits_total\{kind="open",.*result="(\w+)"\} ([\d.]+)', page)
    counts = {result: float(count) for result, count in found}
    assert (counts["opted_out"], counts["recorded"]) == (3, 1)


async def test_where_much_is_to_be_read_there_is_an_index_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = settings(tmp_path / "data")
    optouts = Optouts(wanted.data / FILE, keyring.load(wanted.key_file).content.hash_secret)
    optouts.append(optouts.seal(map(str, range(100)), True, 1))
    await optout_compact.begin(wanted)
    assert not optout_index.made_at(optouts.path)
    monkeypatch.setattr(optout_compact, "LONG", 3000)
    await optout_compact.begin(wanted)
    assert optout_index.made_at(optouts.path) == optouts.path.stat().st_size


COMPACT = "from collector import optout_compact as c; print(flush=True); c.main()"


def test_a_compaction_that_is_killed_costs_nobody(tmp_path: Path) -> None:
    """Whoever starts then, and whoever runs on, knows all; and the next one clears up."""
    wanted, rng = settings(tmp_path / "data"), random.Random(5)
    path, secret = wanted.data / FILE, keyring.load(wanted.key_file).content.hash_secret
    lives = Optouts(path, secret)
    draft = path.with_name(f".{optout_index.beside(path).name}.1")
    took, names = 0.0, 0
    for turn in range(6):
        lives.append(lives.seal((f"r{n}" for n in range(names, names + 3000)), True, 1))
        names += 3000
        lives.append(lives.seal([f"r{turn}"], False, 2))
        draft.touch()
        with subprocess.Popen(
            [sys.executable, "-c", COMPACT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin
            assert process.stdout
            process.stdout.readline()
            began = time.monotonic()
            process.stdin.write(encode(wanted))
            process.stdin.close()
            if turn in (0, 5):
                assert process.wait() == 0
                took = time.monotonic() - began
            time.sleep(rng.uniform(0, took) if turn else 0)
            process.kill()
        starts = Optouts(path, secret)
        for found in (lives, starts):
            found.refresh()
            assert found.recipients.count == names - turn - 1
            assert not found.recipients.has(f"r{turn}")
            assert all(found.recipients.has(f"r{n}") for n in range(10, names, 7))
        if turn in (0, 5):
            assert optout_index.made_at(path) == path.stat().st_size
            assert not [*path.parent.glob(".optouts.index*")]


def ask(collector: Collector, method: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", collector.port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_every_worker_obeys(
    collector: Collector, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the page, and by the command; undone by the command."""
    data = collector.data
    minted = mint(data, "")

    def results() -> tuple[int, int]:
        for _ in range(12):  # a connection each: both workers get some
            assert ask(collector, "GET", minted.pixel_url)[1] == PIXEL
        page = collector.ask("/metrics")[1]
        found = re.findall(r'hits_total\{kind="open",.*result="(\w+)"\} ([\d.]+)', page)
        counts = {"recorded": 0, "opted_out": 0}
        for result, count in found:
            if result in counts:
                counts[result] += int(float(count))
        return counts["recorded"], counts["opted_out"]

    def settled(result: int) -> bool:
        before = results()
        after = results()
        return after[result] - before[result] == 12

    wait_for(lambda: settled(0))
    assert ask(collector, "POST", minted.optout_url)[0] == 200
    wait_for(lambda: settled(1))
    for action, result in (("remove", 0), ("add", 1)):
        assert heliograph("optout", action, "r1", "--data", data) == 0
        wait_for(lambda result=result: settled(result))
    capfd.readouterr()
    assert heliograph("optout", "list", "--data", data) == 0
    assert re.fullmatch(r"recipient,since\nr1,20\S+Z\n", capfd.readouterr().out)
    # From elsewhere, by the API.
    monkeypatch.setenv("HELIOGRAPH_API_KEY", API_KEY)
    names = data.parent / "names"
    names.write_text("\ufeffr2\n\n  r3\n")  # some programs begin a file so
    url = f"http://127.0.0.1:{collector.port}"
    assert heliograph("optout", "add", "--file", names, "--remote", url) == 0
    assert heliograph("optout", "remove", "r1", "--remote", url) == 0
    assert "2 opted out" in capfd.readouterr().err
    assert heliograph("optout", "list", "--data", data) == 0
    assert re.findall(r"^r\d", capfd.readouterr().out, re.MULTILINE) == ["r2", "r3"]


def test_of_an_address_it_has_to_be_said_how_it_was_minted(tmp_path: Path, capfd: Capture) -> None:
    """Of a person minted as a hash, the address opted out as it is would change nothing."""
    assert heliograph("key", "new", "--data", tmp_path) == 0
    for action in ("add", "remove"):
        for how, done in (("", 2), ("--hash-recipients", 0), ("--allow-addresses", 0)):
            given = ["optout", action, "r1", "ann@example.org", "--data", tmp_path, how]
            assert heliograph(*filter(None, given)) == done
    assert "--hash-recipients or --allow-addresses" in capfd.readouterr().err


def test_an_answered_opt_out_survives_kill_9(tmp_path: Path) -> None:
    """Workers and the whole collector are killed while recipients opt out from several sides."""
    wanted = settings(tmp_path / "data", workers=2)
    rng = random.Random(6)
    answered: set[str] = set()
    for turn in range(2):
        collector = Collector(wanted)
        ended = threading.Event()

        def opt_out(side: int, turn: int = turn, collector: Collector = collector,
                    ended: threading.Event = ended) -> None:  # fmt: skip
            for number in range(100_000):
                if ended.is_set():
                    return
                name = f"r{turn}-{side}-{number}"
                page = mint(wanted.data, "", name).optout_url
                with contextlib.suppress(OSError, http.client.HTTPException):
                    if ask(collector, "POST", page)[0] == 200:
                        answered.add(name)

        sides = [threading.Thread(target=opt_out, args=(side,)) for side in range(4)]
        for side in sides:
            side.start()
        wait_for(lambda turn=turn: len(answered) > 6 * (turn + 1))
        time.sleep(rng.random() / 3)
        for pid in collector.children("collector.worker"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            time.sleep(rng.random() / 5)
        children = collector.children()
        collector.process.kill()
        ended.set()
        for side in sides:
            side.join()
        collector.stop()
        for pid in children:
            wait_for(lambda pid=pid: not (Path("/proc") / str(pid)).exists())
        if turn == 1:  # as a kill in the middle of a write leaves it
            with (wanted.data / "optouts").open("ab") as file:
                file.write(b"cut")
    assert len(answered) > 10
    some = rng.sample(sorted(answered), min(100, len(answered)))
    with collecting(wanted) as collector:
        for name in some:
            assert ask(collector, "GET", mint(wanted.data, "", name).pixel_url)[1] == PIXEL
        page = collector.ask("/metrics")[1]
        counts = re.findall(r'hits_total\{kind="open",.*result="opted_out"\} ([\d.]+)', page)
        assert sum(map(float, counts)) == len(some)
    stored = {e["recipient"] for e in events(wanted.data) if e["kind"] == "optout"}
    assert answered <= stored
