"""POST /v1/receipts: one read receipt, as it came by mail."""

import asyncio
from collections.abc import Callable
from typing import Final

import orjson
from aiohttp import web

from collector.app import plain
from collector.group_commit import GroupCommit
from collector.receipt import MAX_MESSAGE, parse
from collector.sends import authorized, refused
from collector.settings import CollectorSettings

BODY_SECONDS: Final = 30.0


class Receipts:
    """The handler of POST /v1/receipts."""

    def __init__(
        self, settings: CollectorSettings, commit: GroupCommit, clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._commit = commit
        self._clock = clock

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Check the key, take the message, answer when it is in the journal."""
        if not authorized(request, self._settings):
            return refused()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                raw = await request.content.read(MAX_MESSAGE + 1)
                while raw and len(raw) <= MAX_MESSAGE and (more := await request.content.readany()):
                    raw += more
        except TimeoutError:
            return plain(408, "The body did not come in time.", close=True)
        except web.RequestPayloadError:
            return plain(400, "The body is broken.", close=True)
        if len(raw) > MAX_MESSAGE:
            return plain(413, f"The body is longer than {MAX_MESSAGE} bytes.", close=True)
        try:
            receipt = await asyncio.to_thread(parse, raw)
        except ValueError as error:
            return plain(422, f"This is no read receipt: {error}.")
        if not await asyncio.shield(self._commit.record(receipt.body(self._clock()))):
            return plain(503, "Not recorded, for the journal cannot be written.")
        headers = {"Cache-Control": "no-store"}
        body = orjson.dumps(receipt._asdict(), option=orjson.OPT_APPEND_NEWLINE)
        return web.Response(body=body, content_type="application/json", headers=headers)
