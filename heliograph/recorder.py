"""Minting with a record: by the journal of this process, or by a collector over HTTP.

What comes back may be used: its event is in a journal already.
"""

import contextlib
import http.client
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from collector.journal import Journal
from collector.keys import Keys
from collector.mint import Mint, Minted, SendRequest, unix_seconds
from collector.optouts import Optouts
from collector.receipt import Receipt, parse
from collector.ring import claim
from collector.settings import CollectorSettings
from heliograph import data_dir
from heliograph.errors import Failure, UsageError
from heliograph.http import connect
from heliograph.secrets import warn_of_mode
from heliograph.settings import MintSettings
from schemas.consent import Mode
from schemas.event import optout as optout_event
from schemas.journal.directory import journal_id
from schemas.optout import FILE

_RELOAD_SECONDS: Final = 5.0


class Refusal(NamedTuple):
    """Why one send was not minted; the others were."""

    reason: str


def open_recorder(settings: MintSettings) -> "Recorder":
    """The recorder that the settings name; raises KeyFileError, UsageError or Failure."""
    return RemoteRecorder(settings) if settings.remote else JournalRecorder(settings)


def is_loopback(url: str) -> bool:
    """Whether only this machine can reach a URL."""
    host = (urlsplit(url).hostname or "").removesuffix(".")
    if host in ("localhost", "localhost.localdomain") or host.endswith(".localhost"):
        return True
    try:
        with contextlib.suppress(OSError):
            host = socket.inet_ntoa(socket.inet_aton(host))  # 127.1 is an address too
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


class JournalRecorder:
    """Writes a journal of its own beside those of the collector. Threads and forks may share it."""

    def __init__(self, settings: CollectorSettings) -> None:
        """Load the keys; the journal is made at the first record. Raises KeyFileError, Failure."""
        data_dir.check_format(settings.data)
        self._keys = Keys(settings.key_file)
        warn_of_mode(settings.key_file)
        data_dir.prepare(settings.data)
        claim(settings.journal, self._keys.ring.ring_id)
        up = data_dir.running(settings.data)
        self.url = up.url if up and not settings.public_url else settings.url(settings.port)
        self._mode = min(settings.mode, Mode.of(up.consent if up else "full"))
        self._settings = settings
        self._lock = threading.Lock()
        self._journal: Journal | None = None
        self._pid = os.getpid()
        self._closed = False
        self._optouts = Optouts(settings.data / FILE, self._keys.ring.content.hash_secret)
        self._checked = time.monotonic()

    def record(
        self, requests: Sequence[SendRequest], *, sync: bool = True
    ) -> list[Minted | Refusal]:
        """One answer a request, in order, each Minted recorded; raises Failure if none could be.

        `sync`: also safe from a power loss when it returns.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("nothing can be minted after close()")
            self._maintain()
            mint = Mint(self._keys.ring, self.url, time.time, self._mode)
            answers = [_mint(mint, request) for request in requests]
            bodies = [told.body for told in answers if isinstance(told, Minted) and told.body]
            if bodies:
                journal = self._open()
                if not journal.append(bodies):
                    raise Failure(f"the journal cannot be written ({journal.trouble})")
                if sync:
                    journal.sync()
        return answers

    def receive(self, raw: bytes) -> Receipt:
        """Record the read receipt in a message; raises ValueError if there is none, Failure."""
        receipt = parse(raw)
        with self._lock:
            journal = self._open()
            if not journal.append([receipt.body(time.time())]):
                raise Failure(f"the journal cannot be written ({journal.trouble})")
            journal.sync()
        return receipt

    def opt_out(
        self, recipients: Sequence[str], out: bool, *, hash_recipients: bool = False
    ) -> int:
        """Opt recipients out or in again, as they were minted or by what is to be hashed; how many
        were not. Running collectors of this directory obey within seconds. Raises ValueError or
        Failure.
        """
        ring = self._keys.ring
        names = map(ring.hash_recipient, recipients) if hash_recipients else recipients
        optouts = self._optouts
        with self._lock:
            optouts.refresh()
            names = list(dict.fromkeys(names))
            changed = optouts.changes(names, out) if optouts.is_sure() else names
        now = time.time()
        lines = optouts.seal(changed, out, int(now * 1000))
        with self._lock:
            journal = self._open()
            if changed and not journal.append([optout_event(name, out, now) for name in changed]):
                raise Failure(f"the journal cannot be written ({journal.trouble})")
            journal.sync()
        try:
            optouts.append(lines)
        except OSError as error:
            raise Failure(f"the opt-outs cannot be written: {error}") from None
        return len(changed)

    def preview(self, request: SendRequest) -> Minted:
        """Mint without a record, for a send that is recorded already; raises ValueError."""
        then = unix_seconds(request.sent_at or time.time())
        return Mint(self._keys.ring, self.url, lambda: then, self._mode).send(request)

    def _open(self) -> Journal:
        """This process's journal. After a fork it is a new one: two writers would share its seqs,
        and the parent's is the parent's to close."""
        if self._journal is None or self._pid != os.getpid():
            name = journal_id(int(time.time() * 1000), os.urandom(8))
            limit, segment = self._settings.journal_max_bytes, self._settings.journal_segment_bytes
            self._journal = Journal(
                self._settings.journal, name, time.time, max_bytes=limit, segment_bytes=segment
            )
            self._pid = os.getpid()
        return self._journal

    def _maintain(self) -> None:
        if time.monotonic() - self._checked < _RELOAD_SECONDS:
            return
        self._checked = time.monotonic()
        self._keys.refresh()
        if self._journal and self._pid == os.getpid():
            self._journal.maintain()

    def close(self) -> None:
        """Sync and seal the journal."""
        with self._lock:
            if self._journal and self._pid == os.getpid():
                self._journal.close()
            self._journal = None
            self._closed = True


def _mint(mint: Mint, request: SendRequest) -> Minted | Refusal:
    try:
        return mint.send(request)
    except ValueError as error:
        return Refusal(str(error))


class _Answer(msgspec.Struct):
    """A line of what POST /v1/sends answers."""

    line: int
    recipient: str = ""
    pixel_url: str = ""
    pixel_html: str = ""
    links: dict[str, str] = {}
    optout_url: str = ""
    error: str = ""


class RemoteRecorder:
    """Asks a collector's POST /v1/sends. Repeating a request changes nothing, so it may."""

    def __init__(self, settings: MintSettings) -> None:
        """Raises UsageError without an API key."""
        self.url = settings.remote.rstrip("/")
        key = settings.api_key
        if not key and settings.api_key_path.exists():
            key = settings.api_key_path.read_text().strip()
        if not key:
            raise UsageError("no API key: set HELIOGRAPH_API_KEY, or name it by --api-key-file")
        self._headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/x-ndjson",
        }
        self._lock = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None
        self._pid = os.getpid()
        self._closed = False

    def record(
        self, requests: Sequence[SendRequest], *, sync: bool = True
    ) -> list[Minted | Refusal]:
        """As JournalRecorder.record; `sync` is the collector's setting."""
        body = b"".join(msgspec.json.encode(request) + b"\n" for request in requests)
        with self._lock:
            if self._closed:
                raise RuntimeError("nothing can be minted after close()")
            text = self._post("/v1/sends", body)
        answers: dict[int, Minted | Refusal] = {}
        try:
            for line in text.splitlines():
                told = msgspec.json.decode(line, type=_Answer)
                answers[told.line] = Refusal(told.error) if told.error else Minted(
                    told.recipient, told.pixel_url, told.pixel_html, told.links, b"",
                    told.optout_url,
                )  # fmt: skip
            return [answers[number] for number in range(1, len(requests) + 1)]
        except (msgspec.MsgspecError, KeyError):
            raise Failure(f"the answer of {self.url} broke off: run it again") from None

    def receive(self, raw: bytes) -> Receipt:
        """As JournalRecorder.receive."""
        receipt = parse(raw)
        with self._lock:
            self._post("/v1/receipts", raw)
        return receipt

    def opt_out(
        self, recipients: Sequence[str], out: bool, *, hash_recipients: bool = False
    ) -> int:
        """As JournalRecorder.opt_out; how many are kept, changed or not."""
        more = {"out": out, "hash_recipient": hash_recipients, "allow_address": True}
        lines = [msgspec.json.encode({"recipient": name, **more}) for name in recipients]
        with self._lock:
            text = self._post("/v1/optouts", b"\n".join(lines))
        told = [msgspec.json.decode(line, type=_Answer) for line in text.splitlines()]
        if failed := [answer for answer in told if answer.error]:
            raise Failure(f"{len(failed)} were refused: {failed[0].error}")
        if len(told) != len(lines):
            raise Failure(f"the answer of {self.url} broke off: run it again")
        return len(told)

    def _post(self, where: str, body: bytes) -> bytes:
        """What is answered with status 200; raises Failure."""
        status, text = self._send(where, body)
        if status != 200:
            why = text.decode("utf-8", "replace").strip().partition("\n")[0][:200]
            raise Failure(f"{self.url} answered {status}: {why}")
        return text

    def _send(self, where: str, body: bytes) -> tuple[int, bytes]:
        for last in (False, True):
            try:
                if self._connection is None or self._pid != os.getpid():  # a fork shares no socket
                    self._connection = connect(urlsplit(self.url), (80, 443), 120)
                    self._pid = os.getpid()
                path = urlsplit(self.url).path + where
                self._connection.request("POST", path, body, self._headers)
                answer = self._connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException) as error:
                self._hang_up()
                if last:
                    raise Failure(f"{self.url} does not answer: {error}") from None
        raise AssertionError

    def close(self) -> None:
        """Hang up for good."""
        self._closed = True
        self._hang_up()

    def _hang_up(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None


Recorder = JournalRecorder | RemoteRecorder
