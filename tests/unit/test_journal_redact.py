"""Redacted segments: names, sizes and all other bytes stay; nothing of the person does."""

import os
from pathlib import Path

import orjson
from hypothesis import given
from hypothesis import strategies as st

from collector.journal import Journal
from schemas import event
from schemas.flaw import flaw
from schemas.journal import redact
from schemas.journal.directory import segments
from schemas.journal.frame import Damage, Frame, encode, scan
from tests.store import JOURNAL, NOW, body

names = st.sampled_from(["victim", 'vic"tim\\', "vict\u00efm", "victim2", "xvictim", "r1", ""])
bodies = st.builds(
    lambda who, kind, mail, agent: body(kind, recipient=who, message_id=mail, user_agent=agent),
    names, st.sampled_from(["open", "sent", "receipt"]),
    st.sampled_from(["", "<m1@x>", "m1@x", "<m2@x>"]), st.sampled_from(["victim", "Mozilla"]),
)  # fmt: skip
frames = st.lists(st.lists(bodies, min_size=1, max_size=5), min_size=1, max_size=5)


@given(frames, names.filter(bool), st.binary(max_size=30), st.integers(0, 4))
def test_only_the_persons_lines_change(
    groups: list[list[bytes]], who: str, damage: bytes, at: int
) -> None:
    data, seq = b"", 1
    for n, group in enumerate(groups):
        data += damage if n == at else b""
        data += encode(seq, len(group), event.block(JOURNAL, seq, group))
        seq += len(group)
    whose = redact.Persons([who], ["m1@x"])
    made, count = redact.redact(data, whose)
    assert len(made) == len(data)
    before, after = list(scan(data, complete=True)), list(scan(made, complete=True))
    gone = 0
    for old, new in zip(before, after, strict=True):
        if isinstance(old, Damage) or isinstance(new, Damage):
            assert old == new or (isinstance(old, Damage) and who.encode() in old.data)
            continue
        assert (old.first_seq, old.events, old.end) == (new.first_seq, new.events, new.end)
        for a, b in zip(old.block.split(b"\n"), new.block.split(b"\n"), strict=True):
            if not a:
                continue
            told, kept = orjson.loads(a), orjson.loads(b)
            of_mail = told["kind"] == "receipt" and told["message_id"].strip("<>") == "m1@x"
            if told["recipient"] == who or of_mail:
                gone += 1
                names_it = {"journal": told["journal"], "seq": told["seq"], "ts": told["ts"]}
                assert kept == {**names_it, "kind": "erased", "campaign": "-"}
                assert not flaw(b)
            else:
                assert a == b
    assert gone == count
    assert redact.redact(made, whose) == (made, 0)


def test_a_live_journal_begins_a_new_segment_when_asked(tmp_path: Path) -> None:
    now = [float(NOW)]
    journal = Journal(tmp_path, JOURNAL, lambda: now[0])
    whose = redact.Persons(["victim"], [])
    journal.append([body(recipient="victim"), body()])
    assert redact.redact_journal(journal.path, whose) == (0, [JOURNAL])
    redact.ask_to_roll(tmp_path)
    os.utime(tmp_path / "roll", (NOW + 5, NOW + 5))
    now[0] += 6
    journal.maintain()
    journal.maintain()
    assert [path.stat().st_size > 0 for _, path in segments(journal.path)] == [True, False]
    old = segments(journal.path)[0][1]
    os.utime(old, (5, 5))
    assert redact.redact_journal(journal.path, whose) == (1, [])
    assert old.stat().st_mtime == 5, "it expires as it would have"
    assert b"victim" not in old.read_bytes()
    journal.append([body(recipient="later")])
    assert len(segments(journal.path)) == 2
    journal.close()


def test_message_ids_of_a_persons_mails(tmp_path: Path) -> None:
    journal = Journal(tmp_path, JOURNAL, lambda: float(NOW))
    journal.append([body(recipient="victim", message_id="<m1@x>")])
    journal.close()
    assert redact.message_ids(journal.path, ["victim"]) == {"<m1@x>"}
    found = list(scan(segments(journal.path)[0][1].read_bytes(), complete=True))
    assert isinstance(found[0], Frame)
