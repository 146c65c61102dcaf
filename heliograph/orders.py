"""Ordering what changes the store: of a running `up`, or done here where none holds the store."""

import contextlib
import http.client
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import orjson

from consumer.settings import ConsumerSettings
from heliograph.access import owner_secret, running_sql
from heliograph.commands.migrate import greet
from heliograph.errors import Failure
from heliograph.http import connect

if TYPE_CHECKING:
    from consumer.orders import Orders


class Remote:
    """The `up` that runs on a data directory."""

    def __init__(self, url: str, owner: str, rules: str) -> None:
        """`rules` are the user's own, by which it must judge; any will do if there are none."""
        self._url = urlsplit(url)
        self._owner = owner
        self._rules = urlencode({"rules": Path(rules).resolve()}) if rules else ""

    def load_networks(self, name: str, text: bytes) -> dict[str, Any]:
        """See `consumer.orders`."""
        return self._order(f"networks/{name}?{self._rules}", text)

    def erase(self, recipients: list[str], *, dry_run: bool, lift: bool) -> dict[str, Any]:
        """See `consumer.orders`."""
        how = f"dry_run={dry_run:d}&lift={lift:d}"
        return self._order(f"erase?{how}", orjson.dumps(recipients))

    def reclassify(self, since: int) -> dict[str, Any]:
        """See `consumer.orders`."""
        return self._order(f"reclassify?since={since}&{self._rules}", b"")

    def _order(self, what: str, body: bytes) -> dict[str, Any]:
        connection = connect(self._url, (8123, 8443), 6 * 3600)
        try:
            headers = {"X-Heliograph-Owner": self._owner}
            connection.request("POST", f"/orders/{what}", body, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"`heliograph up` does not answer: {error}") from None
        finally:
            connection.close()
        if answer.status != 200:
            raise Failure(text.decode("utf-8", "replace").strip())
        found: dict[str, Any] = orjson.loads(text)
        return found


@contextlib.contextmanager
def open_orders(settings: ConsumerSettings) -> Iterator["Remote | Orders"]:
    """Whoever carries orders out on the store that the settings name."""
    if not settings.clickhouse and (sql := running_sql(settings.data)):
        yield Remote(sql, owner_secret(settings.data), settings.rules)
        return
    from consumer.embedded import store_path, take_in
    from consumer.orders import Orders
    from consumer.store import connect as connect_store
    from consumer.store import open_embedded
    from consumer.verdicts import Verdicts

    logging.basicConfig(level=logging.WARNING, format="heliograph: %(message)s")
    verdicts = Verdicts.of(settings)
    if settings.clickhouse:
        greet(settings.clickhouse)
        yield Orders(partial(connect_store, settings), settings, verdicts)
        return
    with take_in(settings):
        yield Orders(partial(open_embedded, store_path(settings.data)), settings, verdicts)
