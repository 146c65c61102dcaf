"""What the hot path remembers of header blocks, and what it must not."""

import pytest

from collector.plain import NOT_PLAIN, Plain


def test_a_field_that_asks_for_more_is_never_cut_out() -> None:
    plain = Plain([""])
    head = b"GET /o/x.gif HTTP/1.1\r\nHost: px\r\n"
    for n in range(300):
        assert plain.read(head + b"Content-Length: %d\r\n\r\n" % n) == NOT_PLAIN
        assert plain.read(head + b"X-Id: %d\r\n\r\n" % n) != NOT_PLAIN
    assert plain.read(head + b"Content-Length: 7\r\n\r\nGET /o/") == NOT_PLAIN


def test_what_is_remembered_is_bounded_whatever_is_refused() -> None:
    plain = Plain([""])
    for n in range(100):
        lines = b"".join(b"A%d: %d\r\n" % (n * 500 + k, k) for k in range(500))
        assert (
            plain.read(b"GET /o/x.gif HTTP/1.1\r\nHost: px\r\n" + lines + b"TE: x\r\n\r\n")
            == NOT_PLAIN
        )
    assert len(plain._lines) < 6000
    assert len(plain._new) < 6000


@pytest.mark.parametrize("line", [b"Referer:%d\r\n", b"X-Forwarded-For:\t10.0.0.%d\r\n"])
def test_a_value_without_a_space_is_read_each_time(line: bytes) -> None:
    plain = Plain([""])
    for n in (1, 1, 2, 2):
        request = plain.read(b"GET /o/x.gif HTTP/1.1\r\nHost: px\r\n" + line % n + b"\r\n")
        assert request != NOT_PLAIN
        assert str(n) in (request[1] or request[2])
