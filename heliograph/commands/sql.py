"""`heliograph sql`: any SELECT to the store."""

import sys
from argparse import ArgumentParser, Namespace

from consumer.settings import ConsumerSettings
from heliograph import options, output
from heliograph.access import open_store
from heliograph.errors import UsageError
from heliograph.settings import STORE, read


def add(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("sql", metavar="SQL", help="one SELECT (-: from standard input)")
    parser.add_argument("--format", default="table", metavar="FORMAT",
                        help="table, csv, json (an array of objects), or any format of ClickHouse, "
                        "e.g. Parquet (default: table)")  # fmt: skip
    options.add(parser, ConsumerSettings, only=STORE)


def run(args: Namespace) -> int:
    """Print the answer."""
    text = sys.stdin.read() if args.sql == "-" else args.sql
    if not text.strip():
        raise UsageError("there is no SQL")
    ours = args.format in ("table", "csv", "json")
    with open_store(read(ConsumerSettings, args)) as store:
        answer = store.query(text, {}, output.FORMAT if ours else args.format)
        if ours and answer.format == output.FORMAT:
            output.write(answer, args.format, sys.stdout)
        else:  # also where the SQL itself names a format
            output.pass_on(answer)
    return 0
