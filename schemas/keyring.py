"""The key file: the secrets that seal tokens and hash recipients.

Several keys live at once. One mints; the others open what they sealed. A new key waits, accepted
everywhere, until `rotate` lets it mint; a retired key opens nothing any more. The hash key never
rotates, or one person would become two, and names the ring. The file is JSON with mode 0600,
replaced as a whole.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from schemas import token
from schemas.files import write_whole
from schemas.token import Purpose, Sealed

State = Literal["waiting", "minting", "opening"]
Random = Callable[[int], bytes]
FORMAT: Final = 1


class KeyFileError(Exception):
    """The key file is missing, unreadable or refuses the change; the message says what to do."""


class Key(msgspec.Struct, frozen=True):
    """One sealing key. `id` is 6 hex digits, the first 3 bytes of the secret's SHA-256."""

    id: str
    state: State
    created: int
    secret: bytes


class KeyFile(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the key file."""

    format: int = FORMAT
    hash_secret: bytes
    keys: tuple[Key, ...]


def key_id(secret: bytes) -> str:
    """The public name of a secret."""
    return hashlib.sha256(secret).hexdigest()[:6]


class Keyring:
    """The keys of one file: seals with the one that mints, opens with all."""

    def __init__(self, content: KeyFile) -> None:
        if content.format != FORMAT:
            raise KeyFileError(f"the key file has format {content.format}, this version {FORMAT}")
        minting = [key for key in content.keys if key.state == "minting"]
        if len(minting) != 1:
            raise KeyFileError(f"the key file has {len(minting)} minting keys, not 1")
        for key in content.keys:
            if len(key.secret) != token.KEY_BYTES or key.id != key_id(key.secret):
                raise KeyFileError(f"key {key.id} of the key file is damaged")
        self.content = content
        self.minting_id = minting[0].id
        self.ring_id = hashlib.sha256(content.hash_secret).hexdigest()[:16]
        self.openers: dict[bytes, token.Opener] = {
            token.encode64(bytes.fromhex(key.id)).encode(): (key.id, AESSIV(key.secret).decrypt)
            for key in content.keys
        }
        self._prefix = bytes.fromhex(self.minting_id)
        self._minting = AESSIV(minting[0].secret)

    def seal(self, purpose: Purpose, sealed: Sealed) -> str:
        """A token under the minting key; raises ValueError where the content does not fit."""
        return token.seal(self._minting, self._prefix, purpose, sealed)

    def unseal(self, purpose: Purpose, text: str) -> tuple[Sealed, str]:
        """What a token says and the id of its key; raises TokenError with the reason."""
        raw = text.encode("utf-8", "surrogatepass")
        fields, key_id = token.unseal(self.openers, purpose, raw)
        return Sealed(*fields), key_id

    def hash_recipient(self, recipient: str) -> str:
        """A stable pseudonym: 32 hex digits of keyed BLAKE2b over the trimmed lower-case text."""
        text = recipient.strip().lower().encode()
        return hashlib.blake2b(text, key=self.content.hash_secret, digest_size=16).hexdigest()


def create(random: Random, now: int) -> KeyFile:
    """A new ring with one minting key."""
    first = _new_key("minting", random, now)
    return KeyFile(hash_secret=random(32), keys=(first,))


def _new_key(state: State, random: Random, now: int) -> Key:
    secret = random(token.KEY_BYTES)
    return Key(key_id(secret), state, now, secret)


def add(content: KeyFile, random: Random, now: int) -> KeyFile:
    """With one key more, accepted but not minting yet."""
    key = _new_key("waiting", random, now)
    while any(key.id == other.id for other in content.keys):
        key = _new_key("waiting", random, now)
    return msgspec.structs.replace(content, keys=(*content.keys, key))


def rotate(content: KeyFile) -> KeyFile:
    """The newest waiting key mints, the last one goes on opening; KeyFileError if none waits."""
    waiting = [key for key in content.keys if key.state == "waiting"]
    if not waiting:
        raise KeyFileError("no key is waiting: run `heliograph key new`, and rotate once every "
                           "collector has it")  # fmt: skip
    chosen = waiting[-1].id

    def state(key: Key) -> State:
        return "minting" if key.id == chosen else "opening" if key.state == "minting" else key.state

    keys = tuple(msgspec.structs.replace(key, state=state(key)) for key in content.keys)
    return msgspec.structs.replace(content, keys=keys)


def retire(content: KeyFile, id: str) -> KeyFile:
    """Without a key: its tokens are invalid from now on; KeyFileError if it mints or is unknown."""
    keys = tuple(key for key in content.keys if key.id != id)
    if len(keys) == len(content.keys):
        raise KeyFileError(f"no key {id} in the key file")
    if not any(key.state == "minting" for key in keys):
        raise KeyFileError(f"key {id} is minting: rotate first")
    return msgspec.structs.replace(content, keys=keys)


_ORDER: Final[tuple[State, ...]] = ("waiting", "minting", "opening")


def merge(present: KeyFile, coming: KeyFile) -> KeyFile:
    """All keys of two files of one ring, each in the later of its states; one of them mints.

    Where the files disagree about which, the newest does. KeyFileError if the rings differ.
    """
    if present.hash_secret != coming.hash_secret:
        raise KeyFileError("the two key files are of different rings")
    found: dict[str, Key] = {}
    for key in (*present.keys, *coming.keys):
        known = found.get(key.id, key)
        found[key.id] = max(known, key, key=lambda k: _ORDER.index(k.state))
    used = [key for key in found.values() if key.state != "waiting"]
    minting = [key for key in used if key.state == "minting"] or used
    chosen = max(minting, key=lambda key: key.created)

    def settled(key: Key) -> Key:
        state: State = "minting" if key is chosen else "opening"
        return key if key.state == "waiting" else msgspec.structs.replace(key, state=state)

    return msgspec.structs.replace(present, keys=tuple(map(settled, found.values())))


def read(path: Path) -> KeyFile:
    """The key file at a path; raises KeyFileError."""
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        raise KeyFileError(
            f"no key file at {path}: `heliograph up` or `heliograph key new` makes one"
        ) from None
    except OSError as error:
        raise KeyFileError(f"cannot read the key file: {error}") from None


def parse(data: bytes) -> KeyFile:
    """A key file's bytes; raises KeyFileError without quoting a secret."""
    try:
        return msgspec.json.decode(data, type=KeyFile)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise KeyFileError("this is not a key file of heliograph") from None


def render(content: KeyFile) -> bytes:
    """The bytes of a key file."""
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def load(path: Path) -> Keyring:
    """The ring of the file at a path; raises KeyFileError."""
    return Keyring(read(path))


def write(path: Path, content: KeyFile, *, replace: bool) -> None:
    """Write a key file with mode 0600; FileExistsError if there is one, unless `replace`."""
    write_whole(path, render(content), mode=0o600, replace=replace)
