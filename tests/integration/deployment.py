"""What the checks of k8s/ and of compose.yaml share: the settings that a container is given."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from collector.settings import CollectorSettings
from consumer.settings import ConsumerSettings
from schemas.settings import Settings, load, variable

ROOT = Path(__file__).parents[2]
KINDS: dict[str, type[Settings]] = {
    "collect": CollectorSettings,
    "consume": ConsumerSettings,
    "migrate": ConsumerSettings,
}


def settings_of(command: str, env: Mapping[str, str]) -> Settings:
    """What a command makes of its variables; fails on one it does not know or cannot use."""
    kind = KINDS[command]
    known = {variable(field.name) for field in msgspec.structs.fields(kind)}
    assert env
    assert env.keys() <= known, f"{command} knows no {sorted(env.keys() - known)}"
    return load(kind, env)
