"""The edge as most would write it in Python, to be measured beside Heliograph's: an aiohttp route
that opens the token and hands the event to aiokafka.

`python -m loadtest.bench.route KEYS KAFKA TOPIC` prints its port and serves until SIGTERM.
"""

import asyncio
import contextlib
import signal
import sys
import time
from ipaddress import ip_address, ip_network
from pathlib import Path

import orjson
import uvloop
from aiohttp import web
from aiokafka import AIOKafkaProducer

from schemas import keyring
from schemas.token import TokenError

PIXEL = bytes.fromhex(
    "47494638396101000100800000ffffff00000021f90401000000002c00000000010001000002024401003b"
)
HEADERS = {
    "Content-Type": "image/gif",
    "Cache-Control": "no-cache, no-store, must-revalidate, max-age=0",
    "Pragma": "no-cache",
    "Expires": "0",
}
TRUSTED = ip_network("127.0.0.1/32")


class Route:
    """The handler and what it needs."""

    def __init__(self, keys: Path, producer: AIOKafkaProducer, topic: str) -> None:
        self._ring = keyring.load(keys)
        self._producer = producer
        self._topic = topic

    async def pixel(self, request: web.Request) -> web.Response:
        """The pixel; a good token is an event first."""
        try:
            sealed, key_id = self._ring.unseal("open", request.match_info["token"])
        except TokenError:
            return web.Response(body=PIXEL, headers=HEADERS)
        headers = request.headers
        event = {
            "ts": time.time_ns() // 1_000_000,
            "kind": "open",
            "campaign": sealed.campaign,
            "send": sealed.send,
            "recipient": sealed.recipient,
            "message_id": "",
            "sent_at": sealed.sent_at,
            "link": "",
            "method": request.method,
            "address": client(request.remote or "", headers.get("X-Forwarded-For", "")),
            "user_agent": headers.get("User-Agent", ""),
            "accept_language": headers.get("Accept-Language", ""),
            "referer": headers.get("Referer", ""),
            "prefetch": headers.get("Sec-Purpose", ""),
            "key_id": key_id,
        }
        await self._producer.send(self._topic, orjson.dumps(event))
        return web.Response(body=PIXEL, headers=HEADERS)


def client(peer: str, forwarded: str) -> str:
    """The address the proxy was asked from, or the peer's where it is no proxy of ours."""
    with contextlib.suppress(ValueError):
        if ip_address(peer) in TRUSTED:
            return str(ip_address(forwarded))
    return peer


async def serve(keys: Path, kafka: str, topic: str) -> None:
    """Until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=1)
    await producer.start()
    app = web.Application()
    app.router.add_get("/o/{token}.gif", Route(keys, producer, topic).pixel)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    print(f"listening on 127.0.0.1:{runner.addresses[0][1]}", file=sys.stderr, flush=True)
    await ended.wait()
    await runner.cleanup()
    await producer.stop()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
