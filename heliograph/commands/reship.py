"""`heliograph reship`: what the kept journals hold, again; what is stored is skipped."""

from argparse import ArgumentParser, Namespace

from collector.mint import unix_seconds
from collector.settings import CollectorSettings
from heliograph import data_dir, options
from heliograph.errors import UsageError
from heliograph.settings import read
from schemas.journal import reship


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--since", metavar="TIME", default="",
                        help="written since then (ISO 8601; default: all)")  # fmt: skip
    options.add(parser, CollectorSettings, only=frozenset(("data",)))


def run(args: Namespace) -> int:
    """Leave the request to whoever moves the positions: `up` or `collect`, now or at its start."""
    settings = read(CollectorSettings, args)
    data_dir.check_format(settings.data)
    if not settings.journal.is_dir():
        raise UsageError(f"there is no journal in {settings.data}: name another --data")
    try:
        since = unix_seconds(args.since) if args.since else 0
    except ValueError:
        raise UsageError(f"--since {args.since!r} is not ISO 8601") from None
    reship.request(settings.journal, since)
    print("asked for: `up` or `collect` reads the kept segments once more")
    return 0
