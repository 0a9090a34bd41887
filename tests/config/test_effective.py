"""The effective configuration: each value with its origin, and no secret."""

from pathlib import Path

import pytest
from django.conf import LazySettings

from config import environment as module
from config.effective import Value, effective
from config.environment import Environment, environment
from tests.commands.asking import ask
from tests.config.test_environment import alone as alone

SECRET = "a-secret-that-stays-one"


def shown(monkeypatch: pytest.MonkeyPatch, **variables: str) -> dict[str, Value]:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return {value.variable: value for value in effective(environment.__wrapped__())}


def test_every_variable_is_shown_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    values = shown(monkeypatch)
    assert len(values) == len(Environment.model_fields)
    assert {value.origin for value in values.values()} == {"default"}
    assert values["CUSTOMHOUSE_PORT"].value == 8000
    assert values["DATABASE_URL"].value is None


def test_the_command_shows_where_the_embedded_database_is(settings: LazySettings) -> None:
    for is_embedded in (True, False):
        settings.EMBEDDED_POSTGRES = is_embedded
        url = next(one for one in ask("config") if one["variable"] == "DATABASE_URL")
        assert (url["origin"] == "embedded server") is is_embedded
        assert str(url["value"]).startswith("postgresql:///customhouse?host=/") or not is_embedded


def test_the_origin_is_the_environment_a_file_or_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(SECRET)
    values = shown(
        monkeypatch,
        CUSTOMHOUSE_PORT="9000",
        CUSTOMHOUSE_HOST="",
        CUSTOMHOUSE_METRICS_TOKEN_FILE=str(tmp_path / "token"),
    )
    assert values["CUSTOMHOUSE_PORT"] == Value("CUSTOMHOUSE_PORT", 9000, "environment")
    assert values["CUSTOMHOUSE_HOST"] == Value("CUSTOMHOUSE_HOST", "127.0.0.1", "default")
    assert values["CUSTOMHOUSE_METRICS_TOKEN"] == Value("CUSTOMHOUSE_METRICS_TOKEN", "set", f"file {tmp_path}/token")


def test_a_variable_wins_over_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "port").write_text("7000")
    values = shown(monkeypatch, CUSTOMHOUSE_PORT="9000", CUSTOMHOUSE_PORT_FILE=str(tmp_path / "port"))
    assert values["CUSTOMHOUSE_PORT"] == Value("CUSTOMHOUSE_PORT", 9000, "environment")


def test_an_own_secret_is_read_from_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "var" / "secrets" / "secret_key"
    path.parent.mkdir(parents=True)
    path.write_text(SECRET)
    monkeypatch.setattr(module, "PROJECT", tmp_path)
    assert shown(monkeypatch)["CUSTOMHOUSE_SECRET_KEY"].origin == f"file {path}"


@pytest.mark.parametrize(
    "url", [f"postgresql://me:{SECRET}@db.example:5433/house", f"host=db.example dbname=house password={SECRET}"]
)
def test_a_database_is_shown_without_its_password(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    told = str(shown(monkeypatch, DATABASE_URL=url)["DATABASE_URL"].value)
    assert "db.example" in told
    assert "house" in told
    assert SECRET not in told
