"""What a store's owner orders: other networks, verdicts anew, erasures. By whoever holds the store.

Over HTTP they come to the SQL port of `up`, with the secret of the data directory.
"""

import asyncio
import contextlib
import hmac
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web
from clickhouse_connect.driver.client import Client

from consumer import networks, tallies
from consumer.erasures import Erasures
from consumer.errors import Misfit, StoreTrouble
from consumer.retention import Retention
from consumer.revise import Reviser
from consumer.settings import ConsumerSettings
from consumer.sql.front import OWNER_HEADER
from consumer.verdicts import Verdicts
from schemas.rule import RuleError

_log: Final = logging.getLogger(__name__)
#: The longest list of networks that is taken, in bytes: Apple's has 12 million.
MAX_LIST: Final = 64 << 20

Open = Callable[[], Client]


class Orders:
    """Carries orders out. Synchronous; raises StoreTrouble, RuleError on what is no list, and
    Misfit where the rules cannot be used."""

    def __init__(self, open_client: Open, settings: ConsumerSettings, verdicts: Verdicts) -> None:
        self._open = open_client
        self._settings = settings
        self._verdicts = verdicts

    def judge_by(self, rules: str) -> None:
        """Raise Misfit where these are not the user's rules that are judged by here."""
        ours = self._settings.rules
        if rules and (not ours or Path(ours).resolve() != Path(rules)):
            told = f"the rules of {ours}" if ours else "no rules of your own"
            raise Misfit(
                f"`heliograph up` judges by {told}: start it anew with HELIOGRAPH_RULES={rules}"
            )

    def load_networks(self, name: str, text: bytes) -> dict[str, Any]:
        """Put a list in the place of the one of that name; an empty one drops it.

        All of it, or nothing where the rules cannot be used.
        """
        found = networks.networks_of(text)
        with contextlib.closing(self._open()) as client:
            lists = self._verdicts.listed(client) | {name: found}
            self._verdicts.prepare(client, {n: of for n, of in lists.items() if of}, tried=True)
            at = self._settings.database, name, found, time.time(), self._settings.cluster
            networks.load(client, *at)
            self._verdicts.install(client)
        ruleset = self._verdicts.ruleset
        asked = {"private"} | {list for rule in ruleset.rules for list in (rule.network, rule.home)}
        return {"networks": len(found), "ruleset": ruleset.version, "asked": name in asked}

    def erase(self, recipients: list[str], *, dry_run: bool, lift: bool) -> dict[str, Any]:
        """Erase recipients, say what there is of them, or take what comes of them again."""
        with contextlib.closing(self._open()) as client:
            made = Erasures(client, self._settings.database, self._settings.cluster)
            if lift:
                made.lift(recipients)
                return {}
            found = made.find(recipients) if dry_run else made.erase(recipients, _log.warning)
            return found._asdict()

    def reclassify(self, since: int) -> dict[str, Any]:
        """Judge hits anew by the current rules, from a time on (Unix seconds)."""
        with contextlib.closing(self._open()) as client:
            self._verdicts.prepare(client, self._verdicts.listed(client), tried=True)
            made = Reviser(
                client, self._settings.database, self._verdicts, cluster=self._settings.cluster
            )
            changes = made.reclassify(since)
            hygiene = Retention.stored(client, self._settings.database).hygiene
        told = [change._asdict() for change in changes]
        version = self._verdicts.ruleset.version
        return {"changes": told, "ruleset": version, "hygiene": hygiene}


def _check(request: web.Request, owner: str, orders: Orders) -> None:
    shown = request.headers.get(OWNER_HEADER, "").encode("utf-8", "surrogateescape")
    if not hmac.compare_digest(shown, owner.encode()):
        raise web.HTTPForbidden(text="this is for the owner of the data directory\n")
    try:
        orders.judge_by(request.query.get("rules", ""))
    except Misfit as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from None


def add_orders(app: web.Application, orders: Orders, owner: str) -> None:
    """Let `app` take the orders of whoever shows the secret `owner`, one after another."""
    turn = asyncio.Lock()

    async def carry_out(what: Callable[..., Any], *given: object) -> web.Response:
        try:
            async with turn:
                return web.json_response(await tallies.finish(what, *given))
        except (RuleError, Misfit) as error:
            return web.Response(status=400, text=f"{error}\n")
        except StoreTrouble as trouble:
            return web.Response(status=503, text=f"{trouble}\n")

    async def load(request: web.Request) -> web.Response:
        _check(request, owner, orders)
        text = bytearray()
        async for chunk in request.content.iter_any():
            text += chunk
            if len(text) > MAX_LIST:
                raise web.HTTPRequestEntityTooLarge(MAX_LIST, len(text))
        name = request.match_info["name"]
        return await carry_out(orders.load_networks, name, bytes(text))

    async def erase(request: web.Request) -> web.Response:
        _check(request, owner, orders)
        names = orjson.loads(await request.read())
        how = {name: request.query.get(name) == "1" for name in ("dry_run", "lift")}
        return await carry_out(partial(orders.erase, names, **how))

    async def again(request: web.Request) -> web.Response:
        _check(request, owner, orders)
        since = request.query.get("since", "0")
        if not since.isdecimal():
            raise web.HTTPBadRequest(text="since is Unix seconds\n")
        return await carry_out(orders.reclassify, int(since))

    app.router.add_post(r"/orders/networks/{name:[a-z0-9][a-z0-9.+-]{0,63}}", load)
    app.router.add_post("/orders/reclassify", again)
    app.router.add_post("/orders/erase", erase)
