"""What the commands that take a list of recipients share: options, files, rows, and the tally."""

import contextlib
import fcntl
import glob
import io
import itertools
import os
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

from collector.clock import SLACK_SECONDS
from collector.mint import AHEAD, SendRequest, unix_seconds
from heliograph.errors import Failure, UsageError, one_line
from heliograph.recipients import BadRow, Row, Table, guess
from schemas.consent import Mode

GROUP: Final = 500
_SHOWN: Final = 20


def say(message: str) -> None:
    """One line on stderr."""
    print(f"heliograph: {one_line(message)}", file=sys.stderr)


def add_options(parser: ArgumentParser) -> None:
    """Declare what names a list of recipients and a send."""
    parser.add_argument("file", metavar="FILE", nargs="?", help="CSV or JSONL (-: standard input)")
    parser.add_argument("--campaign", required=True, help="the campaign's name")
    parser.add_argument("--send", default="", metavar="ID", help="tells one sending of a campaign "
                        "from another (default: the campaign's name)")  # fmt: skip
    parser.add_argument("--sent-at", metavar="TIME", help="when it is mailed: ISO 8601 (UTC unless "
                        "it says otherwise) or Unix seconds, at most a year ahead "
                        "(default: now)")  # fmt: skip
    parser.add_argument("--format", choices=("csv", "jsonl"), default="",
                        help="of FILE (default: by its suffix)")  # fmt: skip
    parser.add_argument("--recipient-column", metavar="COLUMN", help="whose values are the "
                        "recipients' keys (default: guessed by its name)")  # fmt: skip
    addresses = parser.add_mutually_exclusive_group()
    addresses.add_argument("--hash-recipients", action="store_true",
                           help="seal a keyed hash in place of the recipient")  # fmt: skip
    addresses.add_argument("--allow-addresses", action="store_true",
                           help="accept recipients that look like e-mail addresses")  # fmt: skip


def sent_at(args: Namespace) -> int:
    """The time of --sent-at in Unix seconds, now by default; raises UsageError."""
    now = int(time.time())
    if args.sent_at is None:
        return now
    text: str = args.sent_at
    try:
        moment = unix_seconds(float(text) if text.isdigit() and len(text) > 8 else text)
    except ValueError:
        raise UsageError(f"--sent-at {text!r} is neither ISO 8601 nor Unix seconds") from None
    if moment > now + SLACK_SECONDS:
        raise UsageError(f"--sent-at {text!r} is {AHEAD}")
    return moment


class Tally:
    """Counts rows, and names the refused ones on stderr."""

    def __init__(self) -> None:
        self.done = 0
        self.refused = 0

    def refuse(self, line: int, reason: str) -> None:
        """Count and name a row."""
        self.refused += 1
        if self.refused <= _SHOWN:
            say(f"line {line}: {reason}")

    def report(self, verb: str) -> int:
        """Say how many; the exit code."""
        if self.refused > _SHOWN:
            say(f"… and {self.refused - _SHOWN} more lines")
        say(f"{self.done} {verb}" + (f", {self.refused} refused" if self.refused else ""))
        return 1 if self.refused else 0


class Requests:
    """Makes sends of a table's rows, some hundred at a time."""

    def __init__(
        self,
        args: Namespace,
        table: Table,
        *,
        links: Sequence[str] = (),
        message_id: str = "",
        segment: str = "",
        consent: str = "full",
        consent_column: str = "",
    ) -> None:
        """Says on stderr which column it guessed; raises UsageError where one is missing."""
        self._args, self._table = args, table
        self._links, self._message_id, self._segment = links, message_id, segment
        self._consent, self._consent_column = Mode.of(consent), consent_column
        self._column: str = args.recipient_column or ""
        if not self._column:
            self._column = guess(table.columns)
            say(f"recipients: column {self._column!r}")
        self._used = [self._column, *links, *filter(None, [message_id, segment, consent_column])]
        table.require(self._column, self._used[1:])
        self._sent_at = sent_at(args)

    def groups(self, tally: Tally) -> Iterator[Sequence[Row]]:
        """The rows that can be read; the others are counted and named."""
        rows = self._good(tally)
        while group := list(itertools.islice(rows, GROUP)):
            yield group

    def _good(self, tally: Tally) -> Iterator[Row]:
        for row in self._table:
            if isinstance(row, BadRow):
                tally.refuse(row.line, row.reason)
            elif any(not _is_utf8(row.values.get(column, "")) for column in self._used):
                tally.refuse(row.line, "not UTF-8: save the file in UTF-8")
            else:
                yield row

    def of(self, row: Row, **more: Any) -> SendRequest:
        """The send of a row."""
        links = {name: row.values.get(name, "").strip() for name in self._links}
        return SendRequest(
            campaign=self._args.campaign,
            recipient=row.values.get(self._column, ""),
            send=self._args.send,
            sent_at=self._sent_at,
            message_id=row.values.get(self._message_id, ""),
            segment=row.values.get(self._segment, ""),
            links={name: url for name, url in links.items() if url},
            hash_recipient=self._args.hash_recipients,
            allow_address=self._args.allow_addresses,
            consent=self._allowed(row),
            **more,
        )

    def _allowed(self, row: Row) -> Any:
        """What campaign and recipient both allow; a word that is no mode is refused by the mint."""
        if not self._consent_column:
            return self._consent.word
        own = row.values.get(self._consent_column, "")
        try:
            return min(self._consent, Mode.of(own)).word
        except ValueError:
            return own


def _is_utf8(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


@contextlib.contextmanager
def source(name: str) -> Iterator[IO[bytes]]:
    """A file to read, or standard input; raises UsageError."""
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115 - an error here is not one of the body's
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from None
    with file:
        yield file


@contextlib.contextmanager
def output(name: str) -> Iterator[IO[str]]:
    """A file that takes its name only when the body has succeeded, or standard output.

    A pipe or device is written as it is, a link's target in its place. Raises Failure.
    """
    if name == "-":
        out = io.TextIOWrapper(
            open(1, "wb", closefd=False), "utf-8", "surrogateescape", newline=""  # noqa: SIM115
        )  # fmt: skip
        with out:
            yield out
        return
    whole = not Path(name).exists() or Path(name).is_file()
    path = Path(os.path.realpath(name))
    draft = path.with_name(f".{path.name}.{os.getpid()}") if whole else Path(name)
    try:
        if whole:
            _clear_drafts(path)
        with draft.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            if whole:
                fcntl.flock(file, fcntl.LOCK_EX)
            yield file
            file.flush()
            if whole:
                os.fsync(file.fileno())
                draft.replace(path)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failure(f"cannot write {name}: {error.strerror}") from None
    finally:
        if whole:
            draft.unlink(missing_ok=True)


def _clear_drafts(path: Path) -> None:
    """Remove what runs that were killed have left: nobody holds its lock."""
    for draft in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if draft.suffix[1:].isdigit():
            with contextlib.suppress(OSError), draft.open("r+b") as left:
                fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
                draft.unlink()


@contextlib.contextmanager
def progress(file: IO[bytes], what: str) -> Iterator[Callable[[], None]]:
    """A bar on stderr, if that is a terminal; call the function it gives as the file is read."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    seekable = file.seekable()
    columns = (TextColumn(what), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=os.fstat(file.fileno()).st_size if seekable else None)
        yield lambda: bar.update(task, completed=file.tell() if seekable else None)
