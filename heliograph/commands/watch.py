"""`heliograph watch`: each open and click as it is counted."""

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from consumer.settings import ConsumerSettings
from heliograph import options, output
from heliograph.access import Store, canned, open_store
from heliograph.commands.report import check_zone
from heliograph.errors import harmless
from heliograph.settings import STORE, read

#: Journals are counted side by side: an event may come this much after a younger one.
LATE_MS: Final = 120_000
_PAUSE: Final = 1.0
_PAGE: Final = 500_000


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--campaign", default="", help="only this one")
    parser.add_argument("--tz", metavar="ZONE", default="UTC", help="time zone of the times shown")
    parser.add_argument("--format", choices=("table", "json"), default="table",
                        help="json: one object a line")  # fmt: skip
    options.add(parser, ConsumerSettings, only=STORE)


def run(args: Namespace) -> int:
    """Print until Ctrl-C."""
    check_zone(args.tz)
    with open_store(read(ConsumerSettings, args), live=True) as store:
        watch = Watch(store, args.campaign, args.tz)
        for _ in watch.new():  # what was counted before is not news
            continue
        while True:
            for event in watch.new():
                print(_line(event, args.format))
            sys.stdout.flush()
            time.sleep(_PAUSE)


class Watch:
    """Gives each event once, by its identity."""

    def __init__(self, store: Store, campaign: str, tz: str) -> None:
        self._store = store
        self._params = {"campaign": campaign, "tz": tz, "limit": _PAGE}
        (newest,) = output.objects(store.query(canned("latest"), {}, output.FORMAT))
        self._newest: int = newest["at"] or 0
        self._seen: dict[tuple[str, int], int] = {}

    def new(self) -> Iterator[Mapping[str, Any]]:
        """The events that the store has since the last call."""
        since = max(self._newest - LATE_MS, 0)
        self._seen = {name: at for name, at in self._seen.items() if at >= since}
        params = {**self._params, "since": since}
        for event in output.objects(self._store.query(canned("watch"), params, output.FORMAT)):
            name = event["journal"], event["seq"]
            if name not in self._seen:
                self._seen[name] = event["at"]
                self._newest = max(self._newest, event["at"])
                yield event


def _line(event: Mapping[str, Any], format: str) -> str:
    if format == "json":
        return msgspec.json.encode(event).decode()
    what = event["link"] or event["user_agent"]
    shown = (event["time"], event["kind"], event["campaign"], event["recipient"], what)
    return "  ".join(harmless(str(part)) for part in shown)
