"""The collector's settings: what is refused, and what is never shown."""

import ssl
from pathlib import Path

import pytest

from collector.settings import CollectorSettings, load
from schemas.settings import SettingsError, decode, encode


def test_they_come_from_the_environment_and_reach_a_child() -> None:
    settings = load(
        {
            "HELIOGRAPH_DATA": "~/d",
            "HELIOGRAPH_KAFKA": "a:9092, [::1]:9093",
            "HELIOGRAPH_TRUSTED_PROXIES": "10.0.0.0/8,::1",
            "HELIOGRAPH_WORKERS": "3",
        },
        {"workers": 2},
    )
    assert settings.kafka == ("a:9092", "[::1]:9093")
    assert settings.trusted_proxies == ("10.0.0.0/8", "::1")
    assert (settings.workers, settings.journal) == (2, Path.home() / "d" / "journal")
    assert decode(CollectorSettings, encode(settings)) == settings


def test_the_password_is_not_shown() -> None:
    settings = load({"HELIOGRAPH_KAFKA_SASL_PASSWORD": "s3cret"})
    assert settings.kafka_sasl_password == "s3cret"
    assert "s3cret" not in f"{settings!r} {settings} {list(settings.__rich_repr__())}"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "65536"),
        ("PORT", "http"),
        ("WORKERS", "0"),
        ("DRAIN_SECONDS", "10.5"),
        ("JOURNAL_SYNC", "sometimes"),
        ("JOURNAL_MAX_BYTES", "1048576"),  # less than four segments
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("KAFKA", "broker"),
        ("KAFKA", "a:1/b"),
        ("TOPIC", "a b"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),  # without a user name
        ("KAFKA_SSL_KEYFILE", "/key"),  # without a certificate
        ("PUBLIC_URL", "px.example.org"),
        ("PUBLIC_URL", "ftp://px.example.org"),
        ("PUBLIC_URL", "https://u:p@px.example.org"),
        ("PUBLIC_URL", "https://px.example.org/?a"),
        ("PUBLIC_URL", "https://px.example.org/#"),
        ("PUBLIC_URL", 'https://px.example.org/"'),
        ("PUBLIC_URL", "https://pü.example.org"),
        ("PUBLIC_URL", "https://px.example.org:99999"),
    ],
)
def test_what_is_refused(variable: str, value: str) -> None:
    with pytest.raises(SettingsError):
        load({f"HELIOGRAPH_{variable}": value})


@pytest.mark.parametrize(
    ("host", "public", "url"),
    [
        ("127.0.0.1", "", "http://127.0.0.1:80"),
        ("0.0.0.0", "", "http://127.0.0.1:80"),
        ("::", "", "http://[::1]:80"),
        ("2001:db8::1", "", "http://[2001:db8::1]:80"),
        ("0.0.0.0", "https://px.example.org/m/", "https://px.example.org/m"),
    ],
)
def test_the_url(host: str, public: str, url: str) -> None:
    assert CollectorSettings(host=host, public_url=public).url(80) == url


def test_options_for_kafka() -> None:
    plain = CollectorSettings(kafka=("a:1",))
    assert plain.client_options() == {
        "bootstrap_servers": ["a:1"],
        "security_protocol": "PLAINTEXT",
    }
    secure = CollectorSettings(
        kafka=("a:1",),
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_mechanism="SCRAM-SHA-512",
        kafka_sasl_username="u",
        kafka_sasl_password="p",
    ).client_options()
    context = secure.pop("ssl_context")
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert secure == {
        "bootstrap_servers": ["a:1"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "u",
        "sasl_plain_password": "p",
    }
    with pytest.raises(OSError, match=r"nonexistent|No such file"):
        CollectorSettings(
            kafka_security_protocol="SSL", kafka_ssl_cafile=Path("/nonexistent")
        ).client_options()
