"""The edge's routes in aiohttp: pixels, links, sends, read receipts."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from collector.beacon import Beacon, Client, Recorded
from collector.client import TrustedProxies
from collector.metrics import EdgeMetrics
from collector.pixel import PIXEL, PIXEL_HEADERS
from schemas.token import Purpose

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_NO_STORE: Final = {"Cache-Control": "no-store"}
_OPTOUT: Final = r"/{prefix:(?:[\s\S]*/)?}optout/{token:[\s\S]*}"


class Edge:
    """The handlers of pixels and links."""

    def __init__(self, beacon: Beacon, proxies: TrustedProxies) -> None:
        self._beacon = beacon
        self._proxies = proxies

    async def pixel(self, request: web.Request) -> web.Response:
        """The same image to everyone; a usable token is recorded before it leaves."""
        name = request.match_info["token"]
        token = name[:-4] if name.endswith(".gif") else ""
        stored = self._record("open", token, request).stored
        if stored is not None:
            await asyncio.shield(stored)
        return web.Response(body=PIXEL, headers=PIXEL_HEADERS)

    async def click(self, request: web.Request) -> web.Response:
        """On to the sealed URL, as it was sealed; a plain page where there is none."""
        token = request.match_info["token"]
        link, stored = self._record("click", token, request)
        if stored is not None:
            await asyncio.shield(stored)
        if not link:
            return plain(404, "This link does not work: it is incomplete or was withdrawn.")
        headers = {"Location": link, "Referrer-Policy": "no-referrer", **_NO_STORE}
        return web.Response(status=302, headers=headers)

    def _record(self, purpose: Purpose, token: str, request: web.Request) -> Recorded:
        peer = request.transport.get_extra_info("peername") if request.transport else None
        forwarded = request.headers.getall("X-Forwarded-For", ())
        address = self._proxies.client(peer[0] if peer else "", forwarded)
        client = Client(request.method, request.headers)
        referer = request.headers.get("Referer", "")
        return self._beacon.record(purpose, token, client, address, referer)


def plain(status: int, text: str, *, close: bool = False) -> web.Response:
    """A line of text that no cache keeps; `close` ends the connection, for its body is unread."""
    answer = web.Response(status=status, text=text + "\n", headers=_NO_STORE)
    if close:
        answer.force_close()
    return answer


def make_app(
    edge: Edge,
    page: tuple[Handler, Handler],
    posts: Mapping[str, Handler],
    public_url: str,
    metrics: EdgeMetrics,
    draining: Callable[[], bool],
) -> web.Application:
    """The application; `page` are the handlers of GET and POST of the page that opts out, `posts`
    those of POST by their path.

    A proxy may strip the path of `public_url` or not, and mails that are out
    may have been minted under another one, so pixels and links are served under any prefix.
    While `draining`, every answer ends its connection.
    """
    app = web.Application(
        middlewares=[_leave(draining), _checks({page[1], *posts.values()}, metrics)]
    )
    # Of any character: an escaped line end makes no pixel a 404.
    app.router.add_get(r"/{prefix:(?:[\s\S]*/)?}o/{token:[\s\S]*}", edge.pixel)
    app.router.add_get(r"/{prefix:(?:[\s\S]*/)?}c/{token:[\s\S]*}", edge.click)
    app.router.add_get(_OPTOUT, page[0])
    app.router.add_post(_OPTOUT, page[1])
    for prefix in {"", urlsplit(public_url).path.rstrip("/")}:
        for path, handler in posts.items():
            app.router.add_post(prefix + path, handler)
    app.on_response_prepare.append(_anonymous)
    return app


async def _anonymous(_: web.Request, answer: web.StreamResponse) -> None:
    """A pixel has the bytes it is documented to have, and says nothing of its server."""
    answer.headers.pop("Server", None)


def _leave(draining: Callable[[], bool]) -> Callable[..., Awaitable[web.StreamResponse]]:
    @web.middleware
    async def leave(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        if draining():
            answer.force_close()
        return answer

    return leave


def _checks(
    with_body: Collection[Handler], metrics: EdgeMetrics
) -> Callable[..., Awaitable[web.StreamResponse]]:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.body_exists and request.match_info.handler not in with_body:
            metrics.bad_requests.inc()
            status = 400 if request.method in ("GET", "HEAD") else 405
            answer = plain(status, "No body belongs here.", close=True)
            if status == 405:
                answer.headers["Allow"] = "GET, HEAD"
            return answer
        try:
            return await handler(request)
        except web.HTTPMethodNotAllowed as error:
            answer = plain(405, "This is not allowed here.")
            answer.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
            return answer
        except web.HTTPNotFound:
            return plain(404, "There is nothing here.")

    return check
