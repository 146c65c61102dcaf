"""The real edge behind the sample nginx: https, a path prefix, the reader's own address."""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.e2e.line import Lines, Up, rows, wait_for
from tests.e2e.readers import PIXEL
from tests.nginx import Nginx, nginx_before

pytestmark = pytest.mark.nginx

READER = "127.0.9.2"  # whom nginx sees; the proxy itself is 127.0.0.1
NETWORK = "127.0.9.0"  # what is kept of it
TARGET = "https://shop.example.org/a%20b?q=1&r=%2F#x"


class Client:
    """Asks the proxy, from an address that is not the proxy's."""

    def __init__(self, nginx: Nginx, session: aiohttp.ClientSession) -> None:
        self._nginx, self._session = nginx, session

    async def ask(self, method: str, url: str, **more: Any) -> tuple[int, bytes, str]:
        """Status, body and Location of a URL, wherever its host may really be."""
        parts = urlsplit(url)
        headers = {"Host": parts.netloc} | more.pop("headers", {})
        async with self._session.request(
            method,
            self._nginx.url(parts.path),
            ssl=self._nginx.trust,
            server_hostname=parts.netloc,
            headers=headers,
            allow_redirects=False,
            **more,
        ) as answer:
            return answer.status, await answer.read(), answer.headers.get("Location", "")


async def through(client: Client, key: str, base: str, recipient: str) -> None:
    """Mint by /v1/sends, open and click, all by the URLs that were answered."""
    send = {"campaign": "c", "recipient": recipient, "links": {"shop": TARGET}}
    status, body, _ = await client.ask(
        "POST", f"{base}/v1/sends", data=json.dumps(send) + "\n",
        headers={"Authorization": f"Bearer {key}"},
    )  # fmt: skip
    assert status == 200, body
    minted = json.loads(body)
    assert minted["pixel_url"].startswith("https://example.org/px/o/")
    spoof = {"X-Forwarded-For": "203.0.113.9", "User-Agent": recipient}
    assert await client.ask("GET", minted["pixel_url"], headers=spoof) == (200, PIXEL, "")
    status, _, location = await client.ask("GET", minted["links"]["shop"], headers=spoof)
    assert (status, location) == (302, TARGET)
    refused = await client.ask("POST", f"{base}/v1/sends", data=json.dumps(send))
    assert refused[0] == 401


async def test_through_nginx(lines: Lines, tmp_path: Path) -> None:
    data = tmp_path / "data"
    up: Up = await asyncio.to_thread(
        lines.up,
        HELIOGRAPH_TRUSTED_PROXIES="127.0.0.1",
        HELIOGRAPH_PUBLIC_URL="https://example.org/px",
    )
    key = (data / "api.key").read_text().strip()
    for pass_on in (False, True):
        home = tmp_path / f"nginx-{pass_on}"
        async with (
            nginx_before(up.port, home, pass_prefix_on=pass_on) as nginx,
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(local_addr=(READER, 0)),
                timeout=aiohttp.ClientTimeout(total=60),
            ) as session,
        ):
            client = Client(nginx, session)
            await through(client, key, "https://example.org/px", f"prefix-{pass_on}")
            await through(client, key, "https://px.example.org", f"root-{pass_on}")

    question = (
        "SELECT kind, recipient, address, user_agent, link FROM events "
        "WHERE campaign = 'c' AND kind != 'sent' ORDER BY seq"
    )

    def events() -> list[dict[str, Any]]:
        return rows("sql", question, "--data", data)

    await asyncio.to_thread(wait_for, lambda: len(events()) >= 8)
    expected = [
        (kind, recipient, NETWORK, recipient, link)
        for recipient in ("prefix-False", "root-False", "prefix-True", "root-True")
        for kind, link in (("open", ""), ("click", TARGET))
    ]
    assert [tuple(event.values()) for event in events()] == expected
    assert (await asyncio.to_thread(up.stop))[0] == 0
