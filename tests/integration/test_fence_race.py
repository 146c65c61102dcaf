"""Two that take a partition over at any moment: the fence keeps them apart."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from consumer.batch import Block
from consumer.errors import Fenced, StoreTrouble
from consumer.migrate import migrate
from consumer.store import TableGone, open_embedded
from consumer.verdicts import Verdicts
from tests.faults.load import new_journal, stored
from tests.integration.test_fence import EVENTS, a_batch, a_block, a_writer, installed, make_slow

_ENOUGH = 20
_MOST = 60


class Group:
    """Who owns the partition, as the group's coordinator sees it."""

    def __init__(self) -> None:
        self.owner = 0
        self._lock = threading.Lock()

    def give(self, owner: int) -> None:
        with self._lock:
            self.owner = owner

    def confirm(self, who: int) -> None:
        with self._lock:
            if self.owner != who:
                raise Fenced("not ours")


def take_over_and_write(
    who: int, group: Group, store: Path, verdicts: Verdicts, blocks: Block,
    chance: random.Random, fenced: bool,
) -> bool:  # fmt: skip
    """What a consumer does, with pauses anywhere; whether it got through.

    Consumer 0 has the partition and loses it to consumer 1 at some moment.
    """

    def pause() -> None:
        time.sleep(chance.choice((0, 0, 0.002, 0.01, 0.03)))

    at = open_embedded(store)
    try:
        while True:
            try:
                writer = a_writer(at, "heliograph", verdicts)
                pause()
                group.confirm(who)
                pause()
                if fenced:
                    writer.stage.fence()
                pause()
                writer.write(a_batch(blocks))
            except (TableGone, StoreTrouble):
                continue
            except Fenced:
                if who == 0:
                    return False
                time.sleep(0.002)  # its turn has not come
                continue
            return True
    finally:
        at.close()


def doubled_trials(store: Path, fenced: bool) -> tuple[int, int, int]:
    """How many trials there were, how many doubled the batch, and in how many both wrote. With a
    fence it is enough when some came so late that both did, without when one was doubled.
    """
    at = open_embedded(store)
    migrate(at, "heliograph")
    make_slow(at, "heliograph", 0.06)
    verdicts = installed(at, "heliograph")
    trial = doubled = both = 0
    whole = 0.0  # how long one takes on this machine, alone and not for the first time
    for _ in range(2):
        began = time.monotonic()
        alone = store, verdicts, a_block(new_journal()), random.Random(0), fenced
        take_over_and_write(0, Group(), *alone)
        whole = time.monotonic() - began
    with ThreadPoolExecutor(2) as threads:
        for trial in range(_MOST):
            chance = random.Random(trial)
            group, block = Group(), a_block(new_journal())
            arguments = group, store, verdicts, block
            done = [
                threads.submit(
                    take_over_and_write, who, *arguments, random.Random(2 * trial + who), fenced
                )
                for who in range(2)
            ]
            time.sleep(chance.uniform(0.1, 1.2) * whole)
            group.give(1)
            first, second = (each.result() for each in done)
            assert second
            both += first
            found = stored(at)[block.journal]
            assert found[1:] == (EVENTS, 1, EVENTS)
            doubled += found[0] != EVENTS
            if (trial + 1 >= _ENOUGH and both) if fenced else doubled:
                break
    at.close()
    return trial + 1, doubled, both


def test_of_two_that_take_over_at_once_never_both_insert(tmp_path: Path) -> None:
    trials, doubled, both = doubled_trials(tmp_path / "fenced", fenced=True)
    assert doubled == 0
    until_doubled, control, _ = doubled_trials(tmp_path / "control", fenced=False)
    print(f"fenced: 0 of {trials} doubled, in {both} both wrote; else the {until_doubled}th did")
    assert control == 1
    assert both > 0
