"""The scenarios in locust. `python -m loadtest` runs this file; README.md has more.

One process is the master (or, without workers, everything): it mints the mails of the run, gives
each worker its share of them, and at the end holds what they were answered against the rows. A
worker needs neither keys nor store. A user sends what is due next, and waits for its answer.
"""

import signal
import time
from typing import Any

import gevent
import geventhttpclient.client
from locust import FastHttpUser, constant, events, task
from locust.contrib.fasthttp import LocustBadStatusCode
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from loadtest import master
from loadtest.run import Work
from loadtest.scenarios import Request, judge

# It would repeat a GET whose connection was closed without an answer, unseen. An open is not
# idempotent: the first one may be a row.
geventhttpclient.client.IDEMPOTENT_METHODS = frozenset()

events.init_command_line_parser.add_listener(master.add_options)


class Reader(FastHttpUser):
    """Opens, clicks and prefetches as the plan has it, until there is nothing more to do."""

    wait_time = constant(0)
    concurrency = 1
    network_timeout = connection_timeout = 10.0
    work: Work

    @task
    def follow_the_plan(self) -> None:
        """Take what is due next, and send it then."""
        work = self.work
        while (due := work.take()) is not None:
            request, headers = work.request()
            if (early := due - work.now) > 0:
                gevent.sleep(early)
            if work.start():
                self._ask(work, request, headers, work.tally.ask(request, work.now - due))
        raise StopUser

    def _ask(self, work: Work, request: Request, headers: dict[str, str], key: str) -> None:
        try:
            with self.client.get(
                request.path, name=request.kind, headers=headers, catch_response=True,
                allow_redirects=False,
            ) as response:  # fmt: skip
                error = response.request_meta["exception"]
                if error and not isinstance(error, LocustBadStatusCode):
                    work.tally.fail(type(error).__name__ + f": {error}"[:80])
                    return
                location = response.headers.get("location")
                wrong = judge(request, response.status_code, response.content, location)
                work.tally.answer(key, wrong)
                response.failure(wrong) if wrong else response.success()
        finally:
            work.finish()


@events.init.add_listener
def prepare(environment: Environment, runner: Any, **_: object) -> None:
    """Mint, or wait to be told."""
    if isinstance(runner, WorkerRunner):
        Worker(environment, runner)
    else:
        master.Master(environment, runner, _begin if not isinstance(runner, MasterRunner) else None)


def _begin(orders: dict[str, Any]) -> Work:
    Reader.work = Work(orders, time.monotonic)
    return Reader.work


class Worker:
    """One process of several: it works on its share, tells once what it has seen, and then waits
    for the master's leave."""

    def __init__(self, environment: Environment, runner: WorkerRunner) -> None:
        self._runner = runner
        self._leaving = False
        _begin({"mails": [], "scenario": "blast", "rate": 0, "seconds": 0, "seed": ""})
        runner.register_message("orders", lambda msg, **_: _begin(msg.data))
        runner.register_message("halt", lambda **_: Reader.work.stop())
        environment.events.test_start.add_listener(self._start)
        gevent.signal_handler(signal.SIGINT, self._leave)

    def _start(self, **_: object) -> None:
        Reader.work.begin()
        gevent.spawn(self._report)

    def _report(self) -> None:
        while not Reader.work.done():
            gevent.sleep(0.1)
        self._runner.send_message("done", Reader.work.report())
        if self._leaving:
            self._runner.quit()

    def _leave(self) -> None:
        """Ctrl-C reaches all processes of a terminal: what is in flight is still waited for."""
        if self._leaving or not Reader.work.plan.planned:
            self._runner.quit()
        self._leaving = True
        Reader.work.stop()
