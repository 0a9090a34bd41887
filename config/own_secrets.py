"""The two secrets of an installation, made once and kept in files that only the owner reads."""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from config.environment import PROJECT
from integrations.vault import MasterKey

SECRETS = PROJECT / "var" / "secrets"
MAKERS: dict[str, Callable[[], str]] = {
    "secret_key": lambda: secrets.token_urlsafe(48),
    "master_key": MasterKey.generate,
}


def place_of(name: str) -> str:
    """Where the secret comes from: a variable of the environment, or the file that is read without one."""
    variable = f"CUSTOMHOUSE_{name.upper()}"
    for given in (variable, f"{variable}_FILE"):
        if os.environ.get(given):
            return given
    return str(SECRETS / name)


def make_missing_secrets() -> None:
    """Write the secrets that neither the environment nor a file gives. Raises `OSError`."""
    for name, make in MAKERS.items():
        if place_of(name).startswith("CUSTOMHOUSE_"):
            continue
        keep_secret(SECRETS / name, make)


def keep_secret(path: Path, make: Callable[[], str]) -> str:
    """The text in the file, made and written first where there is none. Raises `OSError`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    if not path.exists():
        # Written aside and linked, so that nobody ever reads half a key, nor overwrites another's.
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(make() + "\n")
        with suppress(FileExistsError):
            os.link(aside, path)
        aside.unlink()
    path.chmod(0o600)
    return path.read_text().strip()
