"""Opting out at a running edge: what is answered for is in the journal, for the store, and on disk.

An opt-out holds for all mails to the recipient, those already sent too.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec
import orjson

from collector.group_commit import GroupCommit
from collector.keys import Keys
from collector.mint import recipient_key
from collector.optouts import Optouts
from collector.sends import Lines, read_line, refuse_line
from collector.settings import CollectorSettings
from schemas import event

log = logging.getLogger(__name__)


class Keeper:
    """Takes opt-outs of a worker: into the journal, into the file, and into what it knows."""

    def __init__(self, optouts: Optouts, commit: GroupCommit, clock: Callable[[], float]) -> None:
        """`clock` gives Unix seconds."""
        self.optouts = optouts
        self._commit = commit
        self._clock = clock

    async def keep(self, recipients: Sequence[str], out: bool) -> bool:
        """Opt recipients out, or in again; whether that is kept. Repeating it changes nothing."""
        everyone = list(dict.fromkeys(recipients))
        changed = self.optouts.changes(everyone, out)
        if len(changed) < len(everyone) and not await asyncio.to_thread(self.optouts.is_sure):
            changed = everyone  # who is known was read, but may not be on disk
        if not changed:
            return True
        now = self._clock()
        lines = self.optouts.seal(changed, out, int(now * 1000))
        stored = [self._commit.record(event.optout(name, out, now)) for name in changed]
        if not await asyncio.shield(stored[-1]):
            return False
        try:
            await asyncio.to_thread(self.optouts.append, lines)
        except OSError as error:
            log.error("an opt-out could not be kept: %s", error)
            return False
        for name in changed:  # as when the file is read again
            self.optouts.recipients.put(name, out)
        return True


class OptoutRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of POST /v1/optouts: `out` false takes an opt-out back. The recipient is named as it
    was minted, or by what was hashed with `hash_recipient`.
    """

    recipient: str
    out: bool = True
    hash_recipient: bool = False
    allow_address: bool = False


_decode = msgspec.json.Decoder(OptoutRequest).decode


class OptoutLines(Lines):
    """The handler of POST /v1/optouts."""

    def __init__(self, settings: CollectorSettings, keys: Keys, keeper: Keeper) -> None:
        super().__init__(settings)
        self._keys = keys
        self._keeper = keeper

    async def _record(self, group: list[tuple[int, bytes | None]]) -> list[bytes]:
        answers: dict[int, bytes] = {}
        wanted: dict[bool, dict[int, str]] = {True: {}, False: {}}
        for number, line in group:
            try:
                request = read_line(_decode, line)
                wanted[request.out][number] = recipient_key(self._keys.ring, request)
            except ValueError as error:
                answers[number] = refuse_line(number, str(error))
        for out, recipients in wanted.items():
            kept = await self._keeper.keep(list(recipients.values()), out)
            for number, recipient in recipients.items():
                told = {"line": number, "recipient": recipient, "out": out}
                answers[number] = (
                    orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE) if kept
                    else refuse_line(number, "not kept: send it again later")
                )  # fmt: skip
        return [answers[number] for number, _ in group]
