"""k8s/Dockerfile without a container engine: what it copies exists, and it ends unprivileged."""

import re
from fnmatch import fnmatch

from tests.integration.deployment import ROOT

DOCKERFILE = (ROOT / "k8s" / "Dockerfile").read_text()
IGNORE = (ROOT / "k8s" / "Dockerfile.dockerignore").read_text().split()


def copied() -> list[str]:
    return [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]


def test_what_is_copied_exists_and_is_sent_to_the_build() -> None:
    assert {"requirements.lock", "pyproject.toml", "heliograph", "schemas"} <= set(copied())
    assert IGNORE[0] == "*"
    for source in copied():
        assert (ROOT / source).exists(), source
        assert f"!{source}" in IGNORE, source


def test_no_data_or_keys_are_sent_to_the_build() -> None:
    sent = [pattern.removeprefix("!") for pattern in IGNORE if pattern.startswith("!")]
    for secret in ("data", "keys.json", "api.key", ".env", ".git", "secrets"):
        assert not any(fnmatch(secret, pattern) for pattern in sent), secret


def test_packages_are_hashed_and_the_user_is_not_root() -> None:
    assert "pip install --require-hashes -r requirements.lock" in DOCKERFILE
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["python:3.12-slim"] * 2
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"]
    user = DOCKERFILE.rindex("\nUSER ")
    assert "\nRUN " not in DOCKERFILE[user:]
