"""`make load`: one scenario against the line of this machine, and its verdict."""

import argparse
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from consumer.settings import ConsumerSettings
from heliograph import data_dir
from heliograph.settings import read
from loadtest.master import add_options
from loadtest.processes import running
from schemas.settings import SettingsError

LOCUSTFILE = Path(__file__).with_name("locustfile.py")


def own_line(home: Path, stack: ExitStack) -> Path:
    """The data directory of a line that is started here, and ended with the stack."""
    data = home / "data"
    words = ("up", "--data", data, "--port", 0, "--health-port", 0, "--trusted-proxies")
    stack.enter_context(running(home / "up.log", *words, "127.0.0.1", ready="Ctrl-C"))
    return data


def locust(args: argparse.Namespace, rest: list[str], home: Path) -> int:
    """Run locust; its exit code. Ctrl-C is passed on, and it ends by itself."""
    given = []
    for key, value in vars(args).items():
        if isinstance(value, bool):
            given += [f"--{key}"] * value
        elif value is not None:
            given.append(f"--{key}={value}")
    argv = [
        *(sys.executable, "-m", "locust", "-f", LOCUSTFILE, "--headless", "--only-summary"),
        *("--loglevel", "ERROR", "--json-file", home / "stats", "--spawn-rate", args.users),
    ]  # fmt: skip
    process = subprocess.Popen(
        [*map(str, argv), *given, *rest], stdin=subprocess.DEVNULL, start_new_session=True
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: process.send_signal(signal.SIGINT))
    return process.wait()


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest", description=__doc__,
        epilog="Other options are locust's, e.g. --processes 2. Exit codes: 0 ok, 1 something was "
        "lost, doubled, wrong or not answered, 2 it could not be run, 3 correct but too slow.",
    )  # fmt: skip
    add_options(parser)
    parser.add_argument("--host", metavar="URL", help="the edge (default: that of `up`)")
    parser.add_argument("--users", type=int, default=64, metavar="N", help="most requests at once")
    args, rest = parser.parse_known_args()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="heliograph-load-")))
        try:
            data = read(ConsumerSettings, {"data": args.data, "clickhouse": args.clickhouse}).data
        except SettingsError as error:
            parser.error(str(error))
        if args.clickhouse or args.host:
            pass
        elif up := data_dir.running(data):
            print(f"the line that runs on {data} (pid {up.pid}); the run's rows stay in its store")
        elif args.data:
            parser.error(f"no `make up` runs on {data}")
        else:
            print(f"no `make up` runs on {data}: a line of its own for this run, on an empty "
                  "directory that is deleted afterwards", flush=True)  # fmt: skip
            try:
                args.data, args.alone = str(own_line(home, stack)), True
            except (RuntimeError, TimeoutError) as error:
                parser.error(f"the line could not be started: {error}")
        return locust(args, rest, home)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
