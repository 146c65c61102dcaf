"""The page behind a mail's `optout_url`: one button, no script, nothing loaded from anywhere.

Only its POST opts out, for mail scanners follow every link.
"""

from typing import Final

from aiohttp import web

from collector.app import plain
from collector.keys import Keys
from collector.opting import Keeper
from schemas.token import TokenError

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}
_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex, nofollow">
<title>Reading statistics</title>
</head>
<body>
<h1>Reading statistics</h1>
{}
</body>
</html>
"""
_ASK: Final = """<p>The sender of the mail that led you here counts whether its mails are opened
and its links clicked. You can stop this for yourself: for all mails of this sender, also those that
you already have. You go on receiving mails; their images load and their links work as before.</p>
<form method="post"><p><button type="submit">Do not count me any more</button></p></form>"""
_DONE: Final = """<p><strong>You are not counted any more.</strong> This holds from now on, for all
mails of this sender, also those that you already have. Their images load and their links work as
before. If you change your mind, write to the sender.</p>"""
_FAILED: Final = """<p><strong>This could not be kept: you are still counted.</strong> Please try
again in a few minutes.</p>
<form method="post"><p><button type="submit">Try again</button></p></form>"""


class Page:
    """The handlers of the page."""

    def __init__(self, keys: Keys, keeper: Keeper) -> None:
        self._keys = keys
        self._keeper = keeper

    async def show(self, request: web.Request) -> web.Response:
        """The button, or that it was pressed already."""
        recipient = self._recipient(request)
        if not recipient:
            return _unknown()
        return _page(200, _DONE if self._keeper.optouts.recipients.has(recipient) else _ASK)

    async def take(self, request: web.Request) -> web.Response:
        """Opt out."""
        recipient = self._recipient(request)
        if not recipient:
            return _unknown()
        kept = await self._keeper.keep([recipient], True)
        return _page(200, _DONE) if kept else _page(503, _FAILED)

    def _recipient(self, request: web.Request) -> str:
        text = request.match_info["token"].encode("utf-8", "surrogatepass")
        try:
            fields, _ = self._keys.unseal("optout", text)
        except TokenError:
            return ""
        return fields[2]


def _page(status: int, text: str) -> web.Response:
    return web.Response(
        status=status, text=_PAGE.format(text), content_type="text/html", headers=_HEADERS
    )


def _unknown() -> web.Response:
    return plain(404, "This link does not work: it is incomplete or was withdrawn.")
