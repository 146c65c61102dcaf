"""The corpus of raw requests against the real edge, and against nginx, over sockets."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from schemas import keyring
from tests.collecting import collecting, events, settings
from tests.nginx import TEMP_PATHS, await_answer
from tests.ports import free_port
from tests.raw_requests import TARGET, Answer, Case, Places, cases, fill, read
from tests.services import missing

CASES = cases()
PROBE = "GET {pixel} HTTP/1.1\r\nHost: px\r\n\r\n"
#: How long nothing comes of a server that is to be silent, in seconds.
SILENCE_SECONDS = 1.5
AT_ONCE = 60


class Told(NamedTuple):
    """What a connection brought, and what it was afterwards."""

    data: bytes
    after: str


async def ask(
    server: "Server", sent: bytes, expected: list[Answer], probe: bytes, silent: bool
) -> Told:
    """Send; then see by a probe, if there is one, whether the connection is in step. Where it is to
    be `silent` after what is expected, nobody waits long for more.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(sent)
    got, probed = b"", -1
    try:
        while True:
            over = read(got, expected) == expected
            if over and probe and probed < 0:
                writer.write(probe)
                probed = len(got)
            if probed >= 0 and read(got[probed:], ["pixel"]) == ["pixel"]:
                return Told(got[:probed], "open")
            silence = SILENCE_SECONDS if over and silent else server.patience
            async with asyncio.timeout(silence):
                part = await reader.read(1 << 16)
            if not part:
                return Told(got, "closed")
            got += part
    except TimeoutError:
        return Told(got, "waiting")
    except ConnectionResetError:
        return Told(got, "closed")
    finally:
        writer.close()


class Server(NamedTuple):
    """A server that is measured, and the tokens that it knows."""

    port: int
    places: Places
    data: Path
    patience: float  # how long it may think, in seconds


class Done(NamedTuple):
    """A case that was run, behind `before`; its events have the recipient."""

    case: Case
    before: list[Answer]
    recipient: str
    told: Told

    def exact(self) -> bool:
        """Whether just what is expected has come."""
        expected = self.before + self.case.answers
        return self.told.after == self.case.after and read(self.told.data, expected) == expected

    def allowed(self) -> bool:
        """Whether it is at least what the RFC allows. A server may end any connection."""
        if self.told.after in (self.case.after, "closed"):
            expected = self.before + self.case.answers
            if read(self.told.data, expected) == expected:
                return True
        others = [self.before + other for other in self.case.also]
        return any(read(self.told.data, other) == other for other in others)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    wanted = settings(tmp_path_factory.mktemp("edge"), public_url="https://px.example.org/m")
    with collecting(wanted) as collector:
        places = Places(keyring.load(collector.data / "keys.json"))
        yield Server(collector.port, places, collector.data, 30.0)  # the machine may be busy


async def run(server: Server, before: str = "") -> list[Done]:
    """Every case, with another request glued in front."""
    gate = asyncio.Semaphore(AT_ONCE)
    glued: list[Answer] = ["pixel"] if before else []
    probe = fill(PROBE, server.places.of("probe"))

    async def one(case: Case) -> Done:
        recipient = f"{case.id} {len(before)}"
        sent = fill(before + case.raw, server.places.of(recipient))
        expected = glued + case.answers
        async with gate:
            told = await ask(
                server, sent, expected, probe if case.after == "open" else b"",
                case.after == "waiting",
            )  # fmt: skip
        return Done(case, glued, recipient, told)

    return await asyncio.gather(*map(one, CASES))


@pytest.mark.parametrize("before", ["", PROBE], ids=["alone", "behind another"])
async def test_every_case(edge: Server, before: str) -> None:
    """Answers, events, and whether the connection is open and in step afterwards."""
    done = await run(edge, before)
    recorded: dict[str, list[str]] = {}
    for event in events(edge.data):
        recorded.setdefault(event["recipient"], []).append(event["kind"])
    wrong = [f"{one.case.id}: {one.told}" for one in done if not one.exact()]
    for one in done:
        kinds = [*(["open"] if before else []), *one.case.events]
        if (found := recorded.get(one.recipient, [])) != kinds:
            wrong.append(f"{one.case.id}: recorded {found}, not {kinds}")
    assert not wrong, f"{len(wrong)} of {len(done)}:\n" + "\n".join(wrong)


NGINX = """
{user}
daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log crit;
events {{}}
http {{
{temp_paths}    access_log off;
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 404; }}
        location ~ ^/(.*/)?o/ {{ empty_gif; }}
        location ~ "^/c/[A-Za-z0-9_-]{{60,}}" {{ return 302 {target}; }}
    }}
}}
"""


@pytest.fixture
async def nginx(edge: Server, tmp_path: Path) -> AsyncIterator[Server]:
    """nginx with the pixel and the redirect that it can answer by itself."""
    binary = shutil.which("nginx", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")
    if binary is None:
        missing("nginx is not installed (Debian: apt-get install nginx)")
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    (tmp_path / "nginx.conf").write_text(
        NGINX.format(user=user, port=port, target=TARGET, temp_paths=TEMP_PATHS)
    )
    process = subprocess.Popen(
        [binary, "-p", tmp_path, "-c", "nginx.conf", "-e", tmp_path / "error.log"],
        stdin=subprocess.DEVNULL,
    )
    try:
        await await_answer(process, tmp_path, port)
        yield Server(port, edge.places, tmp_path, 2.0)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 10)


@pytest.mark.nginx
async def test_nginx_does_no_better(
    edge: Server, nginx: Server, record_property: Callable[[str, object], None]
) -> None:
    """The same corpus, the same judge; nginx by itself, whose events nobody counts."""
    scores = {}
    for name, server in (("edge", edge), ("nginx", nginx)):
        done = [one for before in ("", PROBE) for one in await run(server, before)]
        scores[name] = sum(one.allowed() for one in done)
        missed = sorted({one.case.id for one in done if not one.allowed()})
        print(f"{name}: {scores[name]} of {len(done)}; not {missed}")
        record_property(name, scores[name])
    assert scores["edge"] >= scores["nginx"]
