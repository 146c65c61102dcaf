"""The consumer's health: /healthz (it moves), /readyz (source and store answered), /metrics."""

import socket

from aiohttp import web
from prometheus_client import generate_latest

from consumer.metrics import Metrics


def health_app(metrics: Metrics) -> web.Application:
    """The three questions, answered from the metrics object."""

    async def healthz(_: web.Request) -> web.Response:
        if metrics.stuck():
            return web.Response(status=503, text="the loop is stuck\n")
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if metrics.source_trouble:
            text = f"the source is in trouble: {metrics.source_trouble}\n"
            return web.Response(status=503, text=text)
        if metrics.trouble:
            return web.Response(status=503, text=f"the store is in trouble: {metrics.trouble}\n")
        if not metrics.started:
            return web.Response(status=503, text="starting\n")
        return web.Response(text="ok\n")

    async def metrics_page(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(metrics.registry),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics_page)
    return app


async def listen(app: web.Application, sock: socket.socket) -> web.AppRunner:
    """Serve an application on a bound socket; close it with `runner.cleanup()`."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    return runner
