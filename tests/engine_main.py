"""The ClickHouse engine behind its HTTP interface, in a process of its own.

Run as `python -m tests.engine_main PATH PORT LIMITS`: prints its port and the port of the
read-only front of the same engine (with LIMITS, as JSON), and serves until its stdin ends, so that
it never outlives the tests.
"""

import asyncio
import json
import sys

import chdb
import uvloop
from aiohttp import web

from consumer.sql import Limits, sql_app


async def main(path: str, port: int, limits: Limits) -> None:
    """Serve the engine on `path` at the loopback port, 0 for any."""
    keep = await asyncio.to_thread(chdb.connect, path)  # the engine lives while one is open
    roomy = Limits(concurrency=32, queue=1000, queue_seconds=60)
    whole = sql_app(lambda: chdb.connect(path), read_only=False, limits=roomy)
    reader = sql_app(lambda: chdb.connect(path), read_only=True, limits=limits)
    runners = [await _serve(whole, port), await _serve(reader, 0)]
    print(*(runner.addresses[0][1] for runner in runners), flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)
    for runner in runners:
        await runner.cleanup()
    keep.close()


async def _serve(app: web.Application, port: int) -> web.AppRunner:
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), Limits(**json.loads(sys.argv[3]))))
