"""The command `heliograph`. A command's module is imported only when that command runs."""

import argparse
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Final, NoReturn

from heliograph.compiled import is_compiled, stale
from heliograph.errors import Failure, UsageError, one_line

COMMANDS: Final = {
    "up": "run the whole line on this machine",
    "collect": "answer pixels and ship what was recorded to Kafka",
    "consume": "count Kafka's events into ClickHouse",
    "migrate": "make or update ClickHouse's tables",
    "mint": "turn a list of recipients into pixel URLs, and record the sends",
    "sends": "take back recorded sends",
    "bounces": "record that mails came back",
    "optout": "record nothing of recipients any more, or again; list them",
    "receipts": "record a read receipt: one message on standard input",
    "inactive": "list recipients without any evidence of reading",
    "report": "show open rates, and who, when and with what",
    "sql": "ask the store in SQL",
    "watch": "print each open and click as it is counted",
    "key": "make, rotate, retire, list and copy keys",
    "reship": "ship what the kept journals hold once more",
    "reclassify": "judge stored hits anew by the current rules",
    "networks": "load lists of networks that the rules ask",
    "classify": "judge hits from elsewhere by the rules",
    "accuracy": "score the rules on labelled hits",
    "erase": "erase all that is stored of a recipient",
    "export": "write all that is stored of a recipient",
    "retention": "show how long the store keeps what",
    "audit": "compare what was taken with what is stored",
}


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"{self.prog}: {one_line(message)} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        edge = "compiled" if is_compiled() else "uncompiled"
        print(f"heliograph {version('heliograph')}, the edge {edge}")
        parser.exit()


def _parser(chosen: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog="heliograph", description="An e-mail open beacon.", epilog="heliograph COMMAND --help"
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name == chosen:
            module = importlib.import_module(f"heliograph.commands.{name}")
            module.add(command)
            command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. 0: done; 1: it failed; 2: it was asked wrongly."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _end)  # so that drafts and locks are cleared away
    if older := stale():
        return _complain(f"compiled before {', '.join(older)} changed: make install", 2)
    try:
        chosen = next((word for word in arguments if not word.startswith("-")), "")
        options = _parser(chosen).parse_args(arguments)
        code: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads on. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        return _complain(_extra_for(error), 2)
    except Exception as error:
        if (exit_code := _exit_code(error)) is None:
            raise
        return _complain(_words(error), exit_code)
    return code


def _end(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def _complain(message: str, code: int) -> int:
    print(f"heliograph: {one_line(message)}", file=sys.stderr)
    return code


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)


def _exit_code(error: Exception) -> int | None:
    """What a failure that needs no traceback exits with; None for a bug of ours."""
    from schemas.keyring import KeyFileError
    from schemas.settings import SettingsError

    name = type(error).__name__  # of modules that are not imported only to name an error
    if isinstance(error, UsageError | SettingsError | KeyFileError) or name == "StartError":
        return 2
    expected = ("MigrationError", "Misfit", "StoreTrouble", "RingError")
    if isinstance(error, Failure | OSError) or name in expected:
        return 1
    return None


def _extra_for(error: ModuleNotFoundError) -> str:
    missing = (error.name or "").partition(".")[0]
    if missing in ("heliograph", "collector", "consumer", "schemas"):
        raise error
    return f"this needs {missing}: pip install 'heliograph[edge,store]'"


if __name__ == "__main__":
    sys.exit(main())
