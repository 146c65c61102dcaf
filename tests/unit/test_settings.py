"""Settings and the options made of them: one declaration, three ways to give a value."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from collector.settings import CollectorSettings
from consumer.settings import ConsumerSettings
from heliograph import options
from heliograph.settings import MintSettings, read
from schemas.settings import Settings, SettingsError, decode, encode, is_secret, load, option


class Sample(Settings, frozen=True, kw_only=True):
    data: Annotated[Path, Meta(description="where")] = Path("data")
    port: Annotated[int, Meta(ge=0, le=65_535, description="the port, 100 % free")] = 80
    pause: Annotated[float, Meta(gt=0, description="seconds")] = 1.5
    loud: Annotated[bool, Meta(description="say more")] = False
    mode: Annotated[Literal["always", "never"], Meta(description="when")] = "always"
    brokers: Annotated[tuple[str, ...], Meta(description="who")] = ()
    keys: Annotated[Path | None, Meta(description="which")] = None
    password: Annotated[str, Meta(description="the word")] = ""

    def check(self) -> None:
        if self.port == 13:
            raise ValueError("port 13 brings bad luck")


def parser() -> ArgumentParser:
    made = ArgumentParser(prog="x")
    options.add(made, Sample)
    return made


def given(*argv: str) -> dict[str, object]:
    return vars(parser().parse_args(argv))


def test_options_over_environment_over_defaults() -> None:
    env = {"HELIOGRAPH_PORT": "81", "HELIOGRAPH_PAUSE": "2", "OTHER": "x", "HELIOGRAPH_LOUD": ""}
    assert load(Sample, {}) == Sample()
    assert load(Sample, env, given()) == Sample(port=81, pause=2.0)
    assert load(Sample, env, given("--port", "82")) == Sample(port=82, pause=2.0)
    assert load(Sample, {"HELIOGRAPH_LOUD": "true"}, given("--no-loud")) == Sample()


def test_every_kind_of_value() -> None:
    argv = ["--data", "~", "--brokers", " a:1, b:2,", "--keys", "k", "--mode", "never", "--loud"]
    settings = load(Sample, {"HELIOGRAPH_PASSWORD": "s3cret"}, given(*argv))
    assert settings == Sample(
        data=Path.home(), brokers=("a:1", "b:2"), keys=Path("k"), mode="never", loud=True,
        password="s3cret",
    )  # fmt: skip
    line = encode(settings)
    assert line.count(b"\n") == 1
    assert decode(Sample, line) == settings


@pytest.mark.parametrize(
    ("env", "argv", "message"),
    [
        ({"HELIOGRAPH_PORT": "eighty"}, [], "HELIOGRAPH_PORT 'eighty': expected `int`"),
        ({"HELIOGRAPH_PORT": "80"}, ["--port", "70000"], "--port '70000': expected `int` <= 65535"),
        ({"HELIOGRAPH_PAUSE": "0"}, [], "HELIOGRAPH_PAUSE '0': expected `float` > 0"),
        ({"HELIOGRAPH_LOUD": "perhaps"}, [], "HELIOGRAPH_LOUD 'perhaps'"),
        ({}, ["--mode", "often"], "--mode 'often': not one of always, never"),
        ({}, ["--port", "13"], "port 13 brings bad luck"),
    ],
)
def test_a_bad_value_is_named_with_where_it_came_from(
    env: dict[str, str], argv: list[str], message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(Sample, env, given(*argv))
    assert message in str(caught.value)


def test_the_help_names_variable_and_default_and_offers_no_secret() -> None:
    text = " ".join(parser().format_help().split())
    assert "the port, 100 % free [HELIOGRAPH_PORT; default: 80]" in text
    assert "--mode always|never when" in text
    assert "--password" not in text
    assert "HELIOGRAPH_PASSWORD (the word)" in text


@pytest.mark.parametrize("kind", [CollectorSettings, ConsumerSettings, MintSettings])
def test_every_setting_of_the_product_has_both_twins(kind: type[Settings]) -> None:
    """Its default, given back as text by option or by variable, is read as the default."""
    made = ArgumentParser(prog="x")
    options.add(made, kind)
    usage = made.format_help()
    for field in msgspec.structs.fields(kind):
        assert any(note.description for note in field.type.__metadata__), field.name
        assert (f"{option(field.name)} " in usage) != is_secret(field.name)
        default = field.default
        text = ",".join(default) if isinstance(default, tuple) else str(default)
        if default in ("", None, ()):
            continue
        assert load(kind, {f"HELIOGRAPH_{field.name.upper()}": text}) == kind()
        assert load(kind, {}, {field.name: text}) == kind()


def test_naming_a_directory_puts_the_environments_store_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HELIOGRAPH_CLICKHOUSE", "http://store.example")
    assert read(ConsumerSettings, {}).clickhouse == "http://store.example"
    assert read(ConsumerSettings, {"data": "d"}).clickhouse == ""
    both = read(ConsumerSettings, {"data": "d", "clickhouse": "http://b.example"})
    assert both.clickhouse == "http://b.example"
