"""What the environment may hold, and how everything bad in it is told at once."""

import base64
from pathlib import Path

import pytest

from config import environment as module
from config.environment import BadEnvironment, Environment, environment

SECRET = "a-secret-that-stays-one"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing but what a test sets, and no installation's own secrets."""
    for name in Environment.model_fields:
        monkeypatch.delenv(f"CUSTOMHOUSE_{name.upper()}", raising=False)
    for name in ("DATABASE_URL", "DATABASE_DIRECT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "PROJECT", tmp_path)


def read() -> Environment:
    return environment.__wrapped__()


def message_for(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadEnvironment) as caught:
        read()
    return str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", f"mysql:/{SECRET}"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@[::1/x"),
        ("DATABASE_DIRECT_URL", SECRET),
        ("CUSTOMHOUSE_MASTER_KEY", SECRET),
        ("CUSTOMHOUSE_MASTER_KEY", base64.b64encode(SECRET.encode()).decode()),
        ("CUSTOMHOUSE_ALLOW_UPSTREAMS", "10.0.0.0/8, localhost"),
        ("CUSTOMHOUSE_ALLOW_UPSTREAMS", "localhost:99999"),
        ("CUSTOMHOUSE_ALLOW_UPSTREAMS", "10.0.0.1/8"),
        ("CUSTOMHOUSE_TRUSTED_PROXIES", "proxy.example.com"),
        ("CUSTOMHOUSE_PUBLIC_URL", "llm.example.com"),
        ("CUSTOMHOUSE_PUBLIC_URL", "https://llm.example.com/console"),
        ("CUSTOMHOUSE_PUBLIC_URL", f"https://u:{SECRET}@llm.example.com"),
        ("CUSTOMHOUSE_PUBLIC_URL", "https://llm.example.com:port"),
        ("CUSTOMHOUSE_PUBLIC_URL", "https://[llm"),
        ("CUSTOMHOUSE_PORT", "70000"),
        ("CUSTOMHOUSE_METRICS_TOKEN_FILE", "/no/such/file"),
        ("CUSTOMHOUSE_EMAIL_URL", f"http://me:{SECRET}@mail.example.com"),
        ("CUSTOMHOUSE_EMAIL_FROM", "nobody"),
        ("CUSTOMHOUSE_PORT_FILE", "/no/such/file"),
    ],
)
def test_a_bad_value_is_told_by_name_and_without_a_secret(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    message = message_for(monkeypatch, **{variable: value})
    assert variable.removesuffix("_FILE") in message
    assert SECRET not in message


def test_every_bad_variable_is_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    bad = {
        "DATABASE_URL": SECRET,
        "CUSTOMHOUSE_MASTER_KEY": SECRET,
        "CUSTOMHOUSE_ALLOW_UPSTREAMS": "localhost",
        "CUSTOMHOUSE_TRUSTED_PROXIES": "localhost",
        "CUSTOMHOUSE_PUBLIC_URL": "localhost",
        "CUSTOMHOUSE_PORT": "none",
        "CUSTOMHOUSE_SECRET_KEY_FILE": str(tmp_path / "absent"),
        "CUSTOMHOUSE_METRICS_TOKEN_FILE": str(tmp_path / "token"),
    }
    message = message_for(monkeypatch, **bad)
    assert [name for name in bad if name.removesuffix("_FILE") not in message] == []
    assert SECRET not in message


def test_a_file_may_hold_any_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "proxies").write_text("10.0.0.0/8, 127.0.0.1\n")
    monkeypatch.setenv("CUSTOMHOUSE_TRUSTED_PROXIES_FILE", str(tmp_path / "proxies"))
    assert read().trusted_proxies == ["10.0.0.0/8", "127.0.0.1"]


def test_an_own_secret_that_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "var" / "secrets" / "master_key"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xff\xfe")
    assert f"CUSTOMHOUSE_MASTER_KEY: cannot read {path}" in message_for(monkeypatch)


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "CUSTOMHOUSE_METRICS_TOKEN", "CUSTOMHOUSE_PORT"):
        monkeypatch.setenv(name, "")
    held = read()
    assert (held.database_url, held.metrics_token, held.port) == (None, None, 8000)


def test_a_public_url_is_kept_as_an_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUSTOMHOUSE_PUBLIC_URL", "https://LLM.example.com:8443/")
    assert read().public_url == "https://llm.example.com:8443"
