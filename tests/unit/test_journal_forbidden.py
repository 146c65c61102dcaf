"""A journal that may not be read or changed, as a restore by another user leaves it."""

import os
from pathlib import Path
from typing import Any

import pytest

from collector.journal import Journal
from schemas.journal import directory, reship

OTHERS = directory.journal_id(1, bytes(8))
OURS = directory.journal_id(2, bytes(8))
BODY = b'"n":1}\n'


@pytest.fixture(params=["scandir", "open"])
def root(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sealed journals, one of them forbidden: as a whole, or only its files."""
    for name in OTHERS, OURS:
        journal = Journal(tmp_path, name, lambda: 1.0)
        assert journal.append([BODY])
        journal.close()
    real = getattr(os, request.param)

    def forbid(path: Any, *rest: Any, **more: Any) -> Any:
        if OTHERS in os.fspath(path):
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **more)

    monkeypatch.setattr(os, request.param, forbid)
    return tmp_path


def test_it_does_not_hold_up_the_others(root: Path) -> None:
    """A worker begins a journal and goes on, the shipper moves positions and lets go, and what is
    to be shipped again is.
    """
    journal = Journal(root, directory.journal_id(3, bytes(8)), lambda: 1.0)
    assert journal.append([BODY])
    assert journal.used >= 2 * (journal.path / directory.segment_name(1)).stat().st_size
    journal.trouble = "io"
    journal.maintain()
    assert journal.trouble is None
    for name in OTHERS, OURS:
        directory.write_position(root / name, 2)
        assert directory.end_seq(root / name) in (1, 2)
    reship.request(root, 0.0)
    assert reship.obey(root)
    assert directory.read_position(root / OURS) == 1
    directory.write_position(root / OURS, 2)
    assert directory.make_room(root, 1e12, 1.0, 1 << 30) == 1
    assert [path.name for path in directory.journals(root)] == [OTHERS, journal.id]
    journal.close()


def test_it_is_told_of_once(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory._tell_once.cache_clear()
    for _ in range(3):
        directory.make_room(root, 1e12, 1.0, 1 << 30)
    assert [OTHERS in record.message for record in caplog.records] == [True]
