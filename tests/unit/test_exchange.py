"""What a machine takes of the opt-outs' topic."""

import errno
import os
from pathlib import Path

import pytest

from collector.exchange import Exchange
from collector.optouts import Optouts
from schemas.optout import Entry, Sealer
from tests.collecting import settings

SECRET = bytes(32)


def test_what_could_not_be_kept_is_news_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the machine would go on counting who has opted out elsewhere."""
    wanted, sealer = settings(tmp_path), Sealer(SECRET)
    exchange = Exchange(wanted, sealer)
    values = [sealer.seal(Entry("a", out, at)).rstrip() for out, at in ((False, 1), (True, 2))]

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fail)
        with pytest.raises(OSError, match=r"\[Errno 28\]"):
            exchange._take(values)
    exchange._take(values)
    exchange._take(values)  # known now
    found = Optouts(wanted.data / "optouts", SECRET)
    found.refresh()
    assert found.recipients.has("a")
    assert (wanted.data / "optouts").read_bytes().count(b"\n") == 1
