"""The one process that knows the whole run: it mints, watches, and passes the verdict."""

import os
import secrets
import signal
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import gevent
from locust.env import Environment
from locust.runners import STATE_MISSING

from consumer.settings import ConsumerSettings
from heliograph import Minter, data_dir
from heliograph.access import open_store
from heliograph.errors import Failure, UsageError
from heliograph.settings import read
from loadtest.meter import Meter
from loadtest.reconcile import PATIENCE, Rows, audit, settle, unsound
from loadtest.run import Run, Work
from loadtest.scenarios import SCENARIOS
from loadtest.tally import Difference, Tally, compare
from loadtest.verdict import Outcome
from schemas.settings import SettingsError

#: How long after the plan's end the last answer may come, in seconds.
_PATIENCE = 30.0


def add_options(parser: ArgumentParser) -> None:
    """The options of a run, for locust's parser and for `python -m loadtest`."""
    scenarios = "; ".join(f"{name}: {scenario.text}" for name, scenario in SCENARIOS.items())
    add = parser.add_argument_group("heliograph").add_argument
    add("--scenario", choices=list(SCENARIOS), default="blast", help=scenarios)
    add("--rate", type=float, default=2000, metavar="N", help="requests a second, on average")
    add("--seconds", type=float, default=120, metavar="N", help="how long the run is")
    add("--mails", type=int, default=0, metavar="N",
        help="mails to mint (default: one for two requests, at most 50,000)")  # fmt: skip
    add("--data", metavar="DIR", help="data directory of the `up` to load, and of the API key")
    add("--clickhouse", default="", metavar="URL",
        help="where the rows of a line through Kafka are; --host is then its edge")  # fmt: skip
    add("--alone", action="store_true",
        help="nobody else uses the line: any row that is not of this run is a fault")  # fmt: skip


class Master:
    """Runs in the local or the master process. `begin` starts work in this very process, and is
    None where there are workers."""

    def __init__(
        self, environment: Environment, runner: Any, begin: Callable[[dict[str, Any]], Work] | None
    ) -> None:
        self._environment, self._runner, self._begin = environment, runner, begin
        self._options = environment.parsed_options
        self._reports: dict[str, dict[str, Any]] = {}
        self._workers: list[str] = []
        self._work: Work | None = None
        self._halted = False
        self._busy = (0.0, 0.0)
        self._started = time.monotonic()
        try:
            if not self._options.headless:
                raise UsageError("a run is made of its options: add --headless")
            rate, seconds = self._options.rate, self._options.seconds
            if not (min(rate, seconds) > 0 and 1 <= rate * seconds < 1e9):
                raise UsageError("--rate times --seconds is less than one request, or no number")
            if self._options.mails < 0:
                raise UsageError("--mails is less than none")
            self._prepare()
        except (UsageError, SettingsError, Failure) as error:
            print(f"loadtest: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        except KeyboardInterrupt:
            print("\nstopped while minting: nothing was asked", flush=True)
            raise SystemExit(130) from None
        if begin is None:
            runner.register_message("done", self._done)
        environment.events.test_start.add_listener(self._start)
        environment.events.quitting.add_listener(self._conclude)
        environment.events.quit.add_listener(self._tell)
        gevent.signal_handler(signal.SIGINT, self._halt)

    def _prepare(self) -> None:
        options = self._options
        given = {"data": options.data, "clickhouse": options.clickhouse}
        self._settings = read(ConsumerSettings, given)
        host = self._environment.host or _host(self._settings)
        edge = urlsplit(host)  # the paths of what is minted begin with the one of the host
        self._environment.host = f"{edge.scheme}://{edge.netloc}"
        name = time.strftime("load-%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(2)
        run = Run(name, options.scenario, options.rate, options.seconds, time.time())
        self._run = run
        with open_store(self._settings, live=True) as store:
            self._others = Rows(store, name).others()
        requests = run.requests(options.mails)
        print(f"run {name}: minting {len(requests):,} mails at {host} …", flush=True)
        with Minter(data=self._settings.data, remote=host) as minter:
            for request, answer in zip(requests, minter.mint_many(requests), strict=True):
                run.minted(request, answer)

    def _start(self, **_: object) -> None:
        if self._begin:
            self._work = self._begin(self._run.orders(0, 1))
            self._work.begin()
        else:
            self._workers = [client.id for client in self._runner.clients.ready]
            for number, worker in enumerate(self._workers):
                orders = self._run.orders(number, len(self._workers))
                self._runner.send_message("orders", orders, worker)
        run, workers = self._run, f", from {len(self._workers)} workers" * bool(self._workers)
        print(f"{run.scenario}: {SCENARIOS[run.scenario].text}", flush=True)
        print(f"{run.rate:,g}/s on average, for {run.seconds:g} s{workers}", flush=True)
        up = None if self._settings.clickhouse else data_dir.running(self._settings.data)
        self._started, self._meter = time.monotonic(), Meter(up.pid if up else 0)
        gevent.spawn(self._watch)

    def _watch(self) -> None:
        for _ in self._until_done():
            pass
        self._runner.quit()

    def _until_done(self) -> Iterator[None]:
        shown = 0.0
        live = sys.stdout.isatty()
        while not self._is_done():
            gevent.sleep(0.1)
            now = time.monotonic() - self._started
            if now - shown >= (1 if live else 10):
                shown = now
                print(f"{self._progress(now)}{'   ' * live}", end="\r" if live else "\n",
                      flush=True)  # fmt: skip
            yield
        self._busy = self._meter.read(time.monotonic() - self._started)
        print(end="\n" * live, flush=True)

    def _progress(self, now: float) -> str:
        total = self._environment.stats.total
        return (
            f"  {now:3.0f} s of {self._run.seconds:g}   {total.num_requests:9,} requests   "
            f"{total.num_requests / now:6,.0f}/s   {total.num_failures:,} failed   "
            f"p95 {total.get_response_time_percentile(0.95):.0f} ms"
        )

    def _is_done(self) -> bool:
        if self._work:
            return self._work.done()
        late = time.monotonic() - self._started > self._run.seconds + _PATIENCE
        clients = self._runner.clients
        alive = [w for w in self._missing() if w in clients and clients[w].state != STATE_MISSING]
        return late or not alive

    def _missing(self) -> list[str]:
        return [worker for worker in self._workers if worker not in self._reports]

    def _done(self, msg: Any, **_: object) -> None:
        self._reports[msg.node_id] = msg.data

    def _halt(self) -> None:
        """Ctrl-C: once for a verdict on what was done, twice for none."""
        if self._halted:
            print("\nnot reconciled", flush=True)
            os._exit(130)
        self._halted = True
        print("\nstopping: waiting for the last answers …", flush=True)
        if self._work:
            self._work.stop()
        elif self._workers:
            self._runner.send_message("halt")
        else:  # it still waits for workers
            self._runner.quit()
            os._exit(130)

    def _conclude(self, **_: object) -> None:
        """The run is over, or has to be."""
        if self._work and not self._work.done():
            self._halted = True
            self._work.stop()
            for _ in self._until_done():
                pass
        reports = [self._work.report()] if self._work else list(self._reports.values())
        outcome = self._judge(reports)
        self._text, self._environment.process_exit_code = outcome.text(), outcome.code

    def _judge(self, reports: list[dict[str, Any]]) -> Outcome:
        tally, run, total = Tally(), self._run, self._environment.stats.total
        for report in reports:
            tally.merge(report["tally"])
        took = max((report["took"] for report in reports), default=0.0)
        difference, counted, faults, notes = None, 0.0, [], []
        try:
            print("counting …", flush=True)
            with open_store(self._settings, live=True, seconds=PATIENCE) as store:
                rows = Rows(store, run.name)
                difference, counted, faults, notes = self._reconcile(tally, rows)
        except Failure as error:
            faults.append(f"not reconciled: {error}")
        lost = [f"worker {name} has not told what it was answered" for name in self._missing()]
        return Outcome(
            run=run.name, scenario=run.scenario, rate=run.rate, seconds=run.seconds, took=took,
            interrupted=self._halted, planned=sum(report["planned"] for report in reports),
            answered=tally.answered.total(), wrong=tally.wrong, unanswered=tally.unanswered,
            percentiles=[total.get_response_time_percentile(p) for p in (0.5, 0.95, 0.99)],
            late=tally.lateness(0.99), users=self._options.num_users,
            client=max((report["cpu"] for report in reports), default=0.0),
            server=self._busy[1], machine=self._busy[0],
            waiting=total.total_response_time / 1000 / max(took * self._options.num_users, 1e-9),
            difference=difference, counted=counted, faults=[*lost, *faults], notes=notes,
        )  # fmt: skip

    def _reconcile(
        self, tally: Tally, rows: Rows
    ) -> tuple[Difference, float, list[str], list[str]]:
        answered = self._run.keys(tally.answered)
        asked = self._run.keys(tally.answered + tally.unknown)

        def complete() -> bool:  # by reader: one too many is not one that is still missing
            return not compare(asked, {}, rows.by_key()).lost

        counted = settle(rows.count, complete, self._is_idle, time.monotonic, gevent.sleep)
        difference = compare(answered, self._run.keys(tally.unknown), rows.by_key())
        faults, notes = unsound(audit(self._settings), rows.journals())
        if others := rows.others() - self._others:
            text = f"{others:,} rows that are not of this run came meanwhile"
            (faults if self._options.alone else notes).append(text)
        return difference, counted, faults, notes

    def _is_idle(self) -> bool:
        """Whether the journals at hand are counted; of a line through Kafka none are."""
        at_hand = not self._settings.clickhouse
        return at_hand and not any(journal["waiting"] for journal in audit(self._settings))

    def _tell(self, **_: object) -> None:
        print(self._text, flush=True)


def _host(settings: ConsumerSettings) -> str:
    if settings.clickhouse:
        raise UsageError("name the edge of that line by --host")
    if up := data_dir.running(settings.data):
        return up.url
    raise UsageError(f"no `heliograph up` runs on {settings.data}: start one, or name another "
                     "--data, or --host and --clickhouse")  # fmt: skip
