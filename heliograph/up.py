"""The whole line on one machine: the collector's processes, and one that counts and answers SQL."""

import asyncio
import os
import shlex
import shutil
import signal
import sys
import time
from typing import Final

import msgspec

from collector.collect import Running, StartError, serve
from collector.mint import Minted, SendRequest
from collector.settings import CollectorSettings
from collector.supervisor import Child, bind
from consumer.settings import ConsumerSettings
from heliograph import data_dir
from heliograph.recorder import JournalRecorder
from heliograph.secrets import make_api_key, make_keys
from schemas.files import write_whole
from schemas.settings import encode

AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.4.0"
_LEFTOVER_SECONDS: Final = 12.0


def say(text: str) -> None:
    """Tell the one at the terminal."""
    print(text, flush=True)


def run(collector: CollectorSettings, consumer: ConsumerSettings, *, any_health_port: bool) -> int:
    """Until SIGINT or SIGTERM; 0 after an orderly end. Raises StartError or Failure.

    `any_health_port`: a free one will do where the one of the settings is taken.
    """
    data = collector.data
    data_dir.prepare(data)
    lock = data_dir.lock(data, "up")
    try:
        if make_keys(collector.key_file, collector.journal):
            say(f"made the key file {collector.key_file}: keep a copy, tokens open by no other")
        if make_api_key(collector.api_key_path):
            say(f"made the API key {collector.api_key_path}")
        if (data / "up.json").exists():
            for host, port in (collector.host, collector.port), ("127.0.0.1", consumer.sql_port):
                _outwait(host, port)
        if any_health_port:  # a second line on a machine has its health where there is room
            collector = _with_free_health_port(collector)
        return asyncio.run(_serve(collector, consumer))
    finally:
        data_dir.withdraw(data)
        os.close(lock)


def _outwait(host: str, port: int) -> None:
    """Children of an `up` that was killed still drain, and hold its ports for a moment."""
    deadline = time.monotonic() + _LEFTOVER_SECONDS
    while time.monotonic() < deadline:
        try:
            bind(host, port).close()
            return
        except OSError:
            time.sleep(0.1)


def _with_free_health_port(settings: CollectorSettings) -> CollectorSettings:
    try:
        bind(settings.health_host, settings.health_port).close()
    except OSError:
        return msgspec.structs.replace(settings, health_port=0)
    return settings


async def _serve(collector: CollectorSettings, consumer: ConsumerSettings) -> int:
    say("starting …")
    try:
        sql = bind("127.0.0.1", consumer.sql_port)
    except OSError as error:
        raise StartError(error.strerror) from None
    health = bind("127.0.0.1", 0)
    descriptors = ("--sql-fd", str(sql.fileno()), "--health-fd", str(health.fileno()))
    argv = (sys.executable, "-m", "consumer.embedded", *descriptors)
    port = health.getsockname()[1]
    counting = Child("consumer", argv, encode(consumer), (sql, health), order=1, health_port=port)
    sql_url = f"http://127.0.0.1:{sql.getsockname()[1]}"

    def ready(running: Running) -> None:
        addresses = data_dir.Running(
            os.getpid(), running.public_url, sql_url, running.health_url, collector.consent
        )
        data_dir.announce(collector.data, addresses)
        _greet(collector, addresses, running.port)
        for number in (signal.SIGINT, signal.SIGTERM):  # beside the supervisor's own reaction
            signal.signal(number, _farewell)

    code = await serve(collector, extra=[counting], on_ready=ready)
    say("stopped; `heliograph up` goes on from here" if code == 0 else
        "stopped in a hurry; nothing is lost, the rest is counted at the next start")  # fmt: skip
    return code


def _farewell(*_: object) -> None:
    say("\nstopping: finishing what is in flight and counting it, 10 s at most …")


def _greet(settings: CollectorSettings, addresses: data_dir.Running, port: int) -> None:
    demo = _demo(settings, addresses.url)
    local = msgspec.structs.replace(settings, public_url="").url(port)
    here = f"{local}/o/{demo.pixel_url.rpartition('/')[2]}"
    # `make up` runs it by its path, and a shell then finds it by nothing else.
    command = shlex.quote("heliograph" if shutil.which("heliograph") else sys.argv[0])
    data = "" if str(settings.data) == "data" else f" --data {shlex.quote(str(settings.data))}"
    say(f"""
Heliograph is up.
  pixels and links   {addresses.url}
  SQL, read-only     {addresses.sql}
  health, metrics    {addresses.health}

A pixel for a mail of the campaign "demo", sent an hour ago:
  {demo.pixel_html}
Open it as a mail program would, and look at the rate:
  curl -s -o /dev/null -A '{AGENT}' '{here}'
  {command} report campaigns{data}

Ctrl-C stops it.""")


def _demo(settings: CollectorSettings, url: str) -> Minted:
    """The demo's URLs. Its send is recorded once, an hour back from the first start."""
    told = settings.data / "demo.json"
    sent_at = msgspec.json.decode(told.read_bytes(), type=int) if told.exists() else 0
    recorder = JournalRecorder(msgspec.structs.replace(settings, public_url=url))
    request = SendRequest(
        campaign="demo", recipient="you", sent_at=sent_at or int(time.time()) - 3600
    )
    if sent_at:
        return recorder.preview(request)
    (demo,) = recorder.record([request])
    recorder.close()
    if not isinstance(demo, Minted):
        raise StartError(demo.reason)
    write_whole(told, msgspec.json.encode(request.sent_at))
    return demo
