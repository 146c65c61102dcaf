"""`heliograph key`: the keys that seal tokens."""

import os
import sys
import time
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from pathlib import Path

from collector.ring import RING
from collector.settings import CollectorSettings
from heliograph import data_dir, options
from heliograph.errors import UsageError
from heliograph.secrets import make_api_key, make_keys
from heliograph.settings import KEYS, read
from schemas import keyring
from schemas.journal.directory import journals
from schemas.keyring import KeyFile, KeyFileError


def add(parser: ArgumentParser) -> None:
    """Declare the actions."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for name, action in _ACTIONS.items():
        command = actions.add_parser(name, help=action.__doc__, description=action.__doc__)
        options.add(command, CollectorSettings, only=KEYS)
        command.set_defaults(action=action)
        if name == "retire":
            command.add_argument("id", metavar="ID", help="the key, as `key list` names it")
        if name in ("export", "import"):
            command.add_argument(
                "file", metavar="FILE", nargs="?" if name == "export" else None, default="-",
                help="the file (-: standard output)" if name == "export" else
                "the file (-: standard input)",
            )  # fmt: skip


def run(args: Namespace) -> int:
    """Do the action on the key file."""
    settings = read(CollectorSettings, args)
    data_dir.check_format(settings.data)
    args.action(settings, args)
    return 0


def _new(settings: CollectorSettings, args: Namespace) -> None:
    """make the key file (and the API key's), or a further key that waits for its turn"""
    made = make_keys(settings.key_file, settings.journal)
    if make_api_key(settings.api_key_path):
        print(f"made the API key: {settings.api_key_path}")
    if made:
        print(f"made the key file: {settings.key_file}")
    else:
        content = keyring.add(keyring.read(settings.key_file), os.urandom, int(time.time()))
        keyring.write(settings.key_file, content, replace=True)
        print("it waits: once every collector has it, run `heliograph key rotate`")
    _list(settings, args)


def _rotate(settings: CollectorSettings, args: Namespace) -> None:
    """let the newest waiting key mint; the one before goes on opening"""
    _change(settings, keyring.rotate(keyring.read(settings.key_file)))
    _list(settings, args)


def _retire(settings: CollectorSettings, args: Namespace) -> None:
    """drop a key: mails that hold its tokens are not counted any more"""
    _change(settings, keyring.retire(keyring.read(settings.key_file), args.id))
    _list(settings, args)


def _change(settings: CollectorSettings, content: KeyFile) -> None:
    keyring.Keyring(content)  # refuses what no collector could load
    keyring.write(settings.key_file, content, replace=True)


def _list(settings: CollectorSettings, args: Namespace) -> None:
    """show the keys: id, state, day of making"""
    content = keyring.read(settings.key_file)
    print(f"ring {keyring.Keyring(content).ring_id}")
    for key in content.keys:
        print(f"{key.id}  {key.state:<8}{datetime.fromtimestamp(key.created, UTC):%Y-%m-%d}")


def _export(settings: CollectorSettings, args: Namespace) -> None:
    """write the key file, secrets and all, for a backup or another collector"""
    content = keyring.read(settings.key_file)
    if args.file == "-":
        sys.stdout.buffer.write(keyring.render(content))
        return
    path = Path(args.file)
    if args.file.endswith("/") or path.is_dir():
        raise UsageError(f"{args.file} is a directory: name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"there is no directory {path.parent}")
    try:
        keyring.write(path, content, replace=False)
    except FileExistsError:
        raise UsageError(f"{args.file} exists, and is not overwritten") from None


def _import(settings: CollectorSettings, args: Namespace) -> None:
    """take keys over: into a new key file, or merged into one of the same ring"""
    raw = sys.stdin.buffer.read() if args.file == "-" else Path(args.file).read_bytes()
    coming = keyring.parse(raw)
    keyring.Keyring(coming)
    present = keyring.read(settings.key_file) if settings.key_file.exists() else None
    if present and present.hash_secret == coming.hash_secret:
        coming = keyring.merge(present, coming)
    else:
        _refuse_another_ring(settings, keyring.Keyring(coming).ring_id)
    _change(settings, coming)
    _list(settings, args)


def _refuse_another_ring(settings: CollectorSettings, ring_id: str) -> None:
    """Tokens and pseudonyms of one ring are another's noise: never mix them in one journal."""
    bound = settings.journal / RING
    owner = bound.read_text().strip() if bound.exists() else ""
    if owner == ring_id:
        return
    if journals(settings.journal):
        raise KeyFileError(
            f"this is ring {ring_id}, and {settings.journal} holds events of another ring"
        )
    bound.unlink(missing_ok=True)


_ACTIONS = {
    "new": _new,
    "rotate": _rotate,
    "retire": _retire,
    "list": _list,
    "export": _export,
    "import": _import,
}
