"""What is sent to the edge: sends and receipts."""

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from collector import receipts, sends
from tests.collecting import API_KEY
from tests.integration.test_edge import URL, Edge, edge, edge_of, path_of

__all__ = ["edge"]


def lines(*rows: object) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


async def post(
    edge: Edge, body: Any, key: str = API_KEY, prefix: str = "", path: str = "/v1/sends"
) -> tuple[int, str]:
    url = f"http://127.0.0.1:{edge.port}{prefix}{path}"
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body, headers=headers) as answer,
    ):
        return answer.status, await answer.text()


async def test_sends_are_answered_line_by_line(edge: Edge) -> None:
    good = {"campaign": "c", "recipient": "r1", "sent_at": 1790000000, "links": {"a": "https://x/"}}
    body = (
        lines(good, {**good, "recipient": "ann@x.org"}, {**good, "campain": "c"})
        + b'\n{nonsense\n{"campaign":"\xff"}\n'
        + b'"' + b"x" * 70_000 + b'"\n'
        + lines({**good, "cancelled": True}, {**good, "sent_at": True})
        + msgspec.json.encode({**good, "recipient": "bob@x.org", "hash_recipient": True})
    )  # fmt: skip
    status, text = await post(edge, body)
    assert status == 200
    told = [json.loads(line) for line in text.splitlines()]
    assert [line["line"] for line in told] == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert told[0]["pixel_url"].startswith(f"{URL}/o/")
    assert set(told[0]) == {"line", "recipient", "pixel_url", "pixel_html", "links", "optout_url"}
    reasons = ("recipient looks like", "Object contains unknown field", "JSON is malformed",
               "the line is not UTF-8", "the line is longer than 65536 bytes")  # fmt: skip
    for line, reason in zip(told[1:6], reasons, strict=True):
        assert line["error"].startswith(reason)
    assert "`campain`" in told[2]["error"]
    assert told[6] == {"line": 8, "recipient": "r1", "cancelled": True}
    assert "sent_at" in told[7]["error"]
    assert told[8]["recipient"] == edge.worker.keys.ring.hash_recipient("bob@x.org")
    assert [e["kind"] for e in edge.events()] == ["sent", "cancelled", "sent"]
    again = json.loads((await post(edge, lines(good), prefix="/m"))[1])
    assert again["pixel_url"] == told[0]["pixel_url"]
    await edge.get(path_of(told[0]["pixel_url"]))
    assert edge.events()[-1]["recipient"] == "r1"


async def test_many_sends_go_in_groups(edge: Edge) -> None:
    rows = [{"campaign": "c", "recipient": f"r{n}"} for n in range(1203)]
    status, text = await post(edge, lines(*rows))
    told = [json.loads(line) for line in text.splitlines()]
    assert (status, [line["recipient"] for line in told]) == (200, [f"r{n}" for n in range(1203)])
    assert [e["recipient"] for e in edge.events()] == [f"r{n}" for n in range(1203)]
    sent = edge.worker.registry.get_sample_value("heliograph_sends_total", {"result": "recorded"})
    assert sent == 1203


async def test_sends_need_the_key(edge: Edge) -> None:
    for key in ("", "x", API_KEY[:-1], API_KEY + "x", "ü"):
        assert (await post(edge, b"{}", key))[0] == 401
    (edge.data / "api.key").unlink()
    assert (await post(edge, b"{}", ""))[0] == 401
    assert (await post(edge, b"{}", API_KEY))[0] == 401


async def test_sends_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with edge_of(tmp_path / "data", sends_max_bytes=2000) as edge:
        assert (await post(edge, b" " * 2001))[0] == 413

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(30):
                yield b" " * 100

        assert (await post(edge, chunks()))[0] == 413
        head = f"POST /v1/sends HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {API_KEY}\r\n".encode()
        with monkeypatch.context() as hasty:
            hasty.setattr(sends, "IDLE_SECONDS", 0.3)
            stalled = await edge.raw(head + b"Content-Length: 10\r\n\r\nabc")
        assert stalled.startswith(b"HTTP/1.1 408 ")
        broken = await edge.raw(head + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\nzz\r\n")
        assert broken.startswith(b"HTTP/1.1 400 ")
        assert edge.events() == []


async def test_a_send_that_cannot_be_recorded_is_told(tmp_path: Path) -> None:
    limits = {"journal_max_bytes": 1 << 20, "journal_segment_bytes": 1 << 16}
    async with edge_of(tmp_path / "data", **limits) as edge:
        edge.worker.commit.journal.used = 1 << 20
        body = lines({"campaign": "c", "recipient": "r"}, {"campaign": "c"})
        status, text = await post(edge, body)
        first, second = (json.loads(line)["error"] for line in text.splitlines())
        assert (status, first[:12], second) == (
            200,
            "not recorded",
            "Object missing required field `recipient`",
        )


async def test_a_receipt_is_recorded_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = (Path(__file__).parents[1] / "data" / "receipts" / "outlook-deleted.eml").read_bytes()
    post_receipt = partial(post, path="/v1/receipts")
    limits = {"journal_max_bytes": 1 << 20, "journal_segment_bytes": 1 << 16}
    async with edge_of(tmp_path / "data", **limits) as edge:
        assert (await post_receipt(edge, raw, "wrong"))[0] == 401
        status, text = await post_receipt(edge, b"Subject: Hi\n\nno receipt")
        assert (status, text[:24]) == (422, "This is no read receipt:")
        assert (await post_receipt(edge, b" " * ((1 << 20) + 1)))[0] == 413
        head = f"POST /v1/receipts HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {API_KEY}\r\n"
        with monkeypatch.context() as hasty:
            hasty.setattr(receipts, "BODY_SECONDS", 0.3)
            stalled = await edge.raw(f"{head}Content-Length: 10\r\n\r\nabc".encode())
        assert stalled.startswith(b"HTTP/1.1 408 ")
        told = {"message_id": "ORIGINAL123@mail.example.org", "disposition": "deleted"}
        assert edge.events() == []
        for prefix in ("", "/m"):
            status, text = await post_receipt(edge, raw, prefix=prefix)
            assert (status, json.loads(text)) == (200, told)
        (event, _) = edge.events()
        expected = {"kind": "receipt", "detail": "deleted", "message_id": told["message_id"]}
        assert event.items() >= expected.items()
        edge.worker.commit.journal.used = 1 << 20
        assert (await post_receipt(edge, raw))[0] == 503
