"""What the checks of k8s/ and of compose.yaml share."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PREFIX = "HELIOGRAPH_"


def known_settings() -> frozenset[str]:
    """The variables that the containers may set."""
    names = (
        "KAFKA TOPIC CLICKHOUSE DATA HOST PORT WORKERS HEALTH_HOST HEALTH_PORT PUBLIC_URL"
        " TRUSTED_PROXIES KEYS API_KEY_FILE"
    )
    return frozenset(PREFIX + name for name in names.split())
