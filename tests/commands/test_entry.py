"""What happens before Django loads: a server's variables, its run folder, the installation's own secrets."""

import base64
import os
from pathlib import Path

import pytest

from config import entry, own_secrets
from config.entry import prepare, run_folder, server_variables


def test_a_servers_arguments_reach_all_of_its_processes() -> None:
    words = ["--workers", "2", "--port=9000", "--host", "::1", "--role", "web", "--json"]
    assert server_variables(words) == {
        "CUSTOMHOUSE_PORT": "9000",
        "CUSTOMHOUSE_HOST": "::1",
        "CUSTOMHOUSE_ROLE": "web",
    }


def test_arguments_that_were_not_given_set_nothing() -> None:
    assert server_variables(["--workers", "2"]) == {}


def test_wrong_arguments_are_left_to_the_command() -> None:
    assert server_variables(["--port"]) == {}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(entry, "RUN", tmp_path / "run")
    return tmp_path / "run"


def test_a_server_has_a_private_folder_for_its_metrics(run: Path) -> None:
    folder = run_folder()
    assert folder == run / str(os.getpid())
    assert (folder / "metrics").stat().st_mode & 0o077 == 0


def test_what_an_earlier_process_of_the_same_id_left_is_swept(run: Path) -> None:
    stale = run / str(os.getpid()) / "metrics" / "counter_7.db"
    stale.parent.mkdir(parents=True)
    stale.touch()
    run_folder()
    assert not stale.exists()


def test_folders_of_dead_processes_are_swept_and_those_of_the_living_kept(run: Path) -> None:
    dead, living = run / "999999999", run / str(os.getppid())
    dead.mkdir(parents=True)
    living.mkdir()
    run_folder()
    assert (dead.exists(), living.exists()) == (False, True)


def test_a_folder_that_cannot_be_made_is_made_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "RUN", Path("/proc/no-such-place"))
    assert (run_folder() / "metrics").is_dir()


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(own_secrets, "SECRETS", tmp_path / "secrets")
    for name in ("SECRET_KEY", "MASTER_KEY"):
        monkeypatch.delenv(f"CUSTOMHOUSE_{name}", raising=False)
    return tmp_path / "secrets"


def test_own_secrets_are_readable_by_their_owner_only(kept: Path) -> None:
    own_secrets.make_missing_secrets()
    modes = {path.name: path.stat().st_mode & 0o777 for path in kept.iterdir()}
    assert modes == {"secret_key": 0o600, "master_key": 0o600}
    assert kept.stat().st_mode & 0o777 == 0o700


def test_own_secrets_are_strong_and_different_each_time(kept: Path) -> None:
    own_secrets.make_missing_secrets()
    first = {path.name: path.read_text() for path in kept.iterdir()}
    for path in kept.iterdir():
        path.unlink()
    own_secrets.make_missing_secrets()
    assert len(base64.b64decode(first["master_key"])) == 32
    assert len(first["secret_key"]) >= 50
    assert all(path.read_text() != first[path.name] for path in kept.iterdir())


def test_own_secrets_are_made_once(kept: Path) -> None:
    own_secrets.make_missing_secrets()
    before = (kept / "master_key").read_text()
    own_secrets.make_missing_secrets()
    assert (kept / "master_key").read_text() == before


def test_loose_modes_are_tightened(kept: Path) -> None:
    own_secrets.make_missing_secrets()
    (kept / "master_key").chmod(0o644)
    own_secrets.make_missing_secrets()
    assert (kept / "master_key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("variable", ["CUSTOMHOUSE_MASTER_KEY", "CUSTOMHOUSE_MASTER_KEY_FILE"])
def test_a_secret_that_the_environment_gives_is_not_made(
    kept: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "given")
    own_secrets.make_missing_secrets()
    assert own_secrets.place_of("master_key") == variable
    assert [path.name for path in kept.iterdir()] == ["secret_key"]


def test_only_init_and_demo_make_secrets(kept: Path, monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere.invalid/none")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "kept-by-the-operator")
    monkeypatch.setattr(entry, "make_missing_secrets", lambda: (kept / "made").mkdir(parents=True))
    for command in ("tenant", "serve", "migrate"):
        prepare(command, [])
    assert not kept.exists()
    prepare("init", [])
    assert kept.exists()
