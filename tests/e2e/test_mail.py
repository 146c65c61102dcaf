"""A real mail: minted, sent by SMTP, read back, opened in a browser engine, clicked."""

import asyncio
import csv
import email
import email.policy
import http.server
import shutil
import smtplib
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import jinja2
import pytest
from aiosmtpd.controller import Controller
from playwright.async_api import Page, async_playwright

from tests.e2e.line import Lines, ask, hits, rows, wait_for
from tests.ports import free_port
from tests.services import missing

pytestmark = pytest.mark.chromium

AGENT = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Thunderbird/140.5.0"
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
TEMPLATE = """<html><body>
<p>Dear {{ name }}, spring is here: <a id="offer" href="{{ offer_url }}">our offer</a>.</p>
<!-- {{ "long lines are folded by the transfer encoding, " * 10 }} -->
{{ pixel_html | safe }}
</body></html>"""


class Mailbox:
    """What aiosmtpd has taken in, as bytes."""

    def __init__(self) -> None:
        self.mails: dict[str, bytes] = {}

    async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:
        for recipient in envelope.rcpt_tos:
            self.mails[recipient] = envelope.content
        return "250 OK"

    def html(self, recipient: str) -> str:
        """The HTML part of a mail, as a mail program decodes it."""
        mail = email.message_from_bytes(self.mails[recipient], policy=email.policy.default)
        body = mail.get_body(("html",))
        assert body is not None
        return str(body.get_content())


@contextmanager
def smtp() -> Iterator[tuple[Mailbox, int]]:
    """A local SMTP server and its port."""
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port(), ready_timeout=60)
    controller.start()
    try:
        yield mailbox, controller.port
    finally:
        controller.stop()


@contextmanager
def shop() -> Iterator[str]:
    """A page to land on; its URL."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"<title>{self.path}</title>".encode())

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def send(port: int, recipient: str, html: str) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"] = "Shop <shop@example.org>", recipient
    mail["Subject"] = "Frühling"
    mail.set_content("Spring is here.")
    mail.add_alternative(html, subtype="html", cte="quoted-printable")
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.send_message(mail)


@asynccontextmanager
async def mail_program() -> AsyncIterator[Page]:
    """A page of Debian's chromium that names itself as a mail program does."""
    binary = shutil.which("chromium")
    if binary is None:
        missing("chromium is not installed (Debian: apt-get install chromium)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=binary, args=list(FLAGS), timeout=120_000
        )
        context = await browser.new_context(user_agent=AGENT, locale="de-AT")
        context.set_default_timeout(120_000)
        try:
            yield await context.new_page()
        finally:
            await browser.close()


async def test_an_open_and_a_click_are_counted(lines: Lines, tmp_path: Path) -> None:
    data, where = tmp_path / "data", ("--data", tmp_path / "data")
    up = await asyncio.to_thread(lines.up)
    (tmp_path / "template.html").write_text(TEMPLATE)
    with smtp() as (mailbox, port), shop() as target:
        listed = tmp_path / "list.csv"
        offer = f"{target}/offer?a=1&b=%2F#top"
        people = ("ada", "bob", "cleo")
        listed.write_text(
            "customer_id,name,address,offer\n"
            + "".join(f"{p},{p.title()} <&>,{p}@example.net,{offer}\n" for p in people)
        )
        ask("mint", "--campaign", "spring", "--link", "offer", listed, "--sent-at", "2026-01-01",
            "-o", tmp_path / "minted.csv", *where)  # fmt: skip
        loader = jinja2.FileSystemLoader(tmp_path)
        template = jinja2.Environment(loader=loader, autoescape=True).get_template("template.html")
        with (tmp_path / "minted.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                send(port, row["address"], template.render(row))
        opened = tmp_path / "mail.html"
        opened.write_text(mailbox.html("ada@example.net"))
        assert b"/o/" in mailbox.mails["ada@example.net"]

        async with mail_program() as page:
            await page.goto(opened.as_uri(), wait_until="networkidle")
            size = "i => [i.complete, i.naturalWidth, i.naturalHeight]"
            assert await page.locator("img").evaluate(size) == [True, 1, 1]
            await asyncio.to_thread(wait_for, lambda: hits(data, "spring") == 1)
            opened.write_text(mailbox.html("bob@example.net"))
            await page.goto(opened.as_uri(), wait_until="networkidle")
            await page.click("#offer")
            await page.wait_for_url(offer)
            assert await page.title() == "/offer?a=1&b=%2F"

    for kind, count in {"sends": 3, "clicks": 1}.items():
        await asyncio.to_thread(wait_for, lambda k=kind, n=count: _campaign(data)[k] == n)
    spring = _campaign(data)
    print(spring)
    assert spring.items() >= {
        "sends": 3, "delivered": 3, "hits": 2, "opens": 2, "unique_opens": 2, "open_rate": 2 / 3,
        "clicks": 1, "unique_clicks": 1, "confirmed_rate": 1 / 3,
    }.items()  # fmt: skip
    readers = rows("report", "recipients", "--campaign", "spring", *where)
    assert [(row["recipient"], row["opens"], row["clicks"]) for row in readers] == [
        ("ada", 1, 0),
        ("bob", 1, 1),
    ]
    never = rows("report", "recipients", "--never", "--campaign", "spring", *where)
    assert [row["recipient"] for row in never] == ["cleo"]
    events = rows("sql", "SELECT user_agent, accept_language, address, link FROM events "
                  "WHERE campaign = 'spring' AND kind != 'sent' ORDER BY ts", *where)  # fmt: skip
    assert {event["user_agent"] for event in events} == {AGENT}
    assert {event["address"] for event in events} == {"127.0.0.0"}
    assert all(event["accept_language"].startswith("de-AT") for event in events)
    assert [event["link"] for event in events] == ["", "", offer]
    assert (await asyncio.to_thread(up.stop))[0] == 0


def _campaign(data: Path) -> dict[str, Any]:
    (found,) = rows("report", "campaigns", "--campaign", "spring", "--data", data)
    return found
