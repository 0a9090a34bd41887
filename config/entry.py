"""What has to be in place before Django loads: the variables of a server, the own secrets, the database."""

import argparse
import atexit
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

from config import postgres
from config.environment import PROJECT, BadEnvironment, environment
from config.own_secrets import make_missing_secrets

RUN = PROJECT / "var" / "run"
WITHOUT_DATABASE = frozenset(
    {
        "help", "version", "check", "makemigrations", "squashmigrations", "makemessages", "compilemessages",
        "collectstatic", "findstatic", "diffsettings", "startapp", "startproject", "config", "doctor",
    }
)  # fmt: skip
MAKES_SECRETS = frozenset({"init", "demo"})
# Each is read from the environment by the processes that the server starts.
SERVER_VARIABLES = {"port": "CUSTOMHOUSE_PORT", "host": "CUSTOMHOUSE_HOST", "role": "CUSTOMHOUSE_ROLE"}


def main(argv: list[str]) -> None:
    """Run a command of `manage.py`; what keeps it from starting is one line and status 1."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    command = next((word for word in argv[1:2] if not word.startswith("-")), "help")
    try:
        if not {"-h", "--help"} & set(argv[1:]):
            prepare(command, argv[2:])
    except (BadEnvironment, postgres.EmbeddedPostgresError, OSError) as error:
        _stop(error, as_document="--json" in argv)
    try:
        execute_from_command_line(argv)
    except ImproperlyConfigured as error:
        _stop(error, as_document="--json" in argv)


def prepare(command: str, arguments: Sequence[str]) -> None:
    """Make ready what `command` needs. Raises `BadEnvironment`, `EmbeddedPostgresError` or `OSError`."""
    if command == "serve":
        os.environ.update(server_variables(arguments))
        os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(run_folder() / "metrics"))
    if command in MAKES_SECRETS:
        make_missing_secrets()
    if command not in WITHOUT_DATABASE and environment().database_url is None:
        postgres.acquire(PROJECT)


def server_variables(arguments: Sequence[str]) -> dict[str, str]:
    """What the arguments of `serve` set for all of its processes; wrong ones are left to the command."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    for name in SERVER_VARIABLES:
        parser.add_argument(f"--{name}")
    try:
        given = vars(parser.parse_known_args(arguments)[0])
    except argparse.ArgumentError:
        return {}
    return {SERVER_VARIABLES[name]: value for name, value in given.items() if value is not None}


def run_folder() -> Path:
    """A private, empty folder of this process, gone when it ends; folders of dead processes are swept."""
    try:
        RUN.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep()
        folder = RUN / str(os.getpid())
        (folder / "metrics").mkdir(mode=0o700, parents=True)
    except OSError:
        # A container may mount the project read-only.
        folder = Path(tempfile.mkdtemp(prefix="customhouse-"))
        (folder / "metrics").mkdir()
    atexit.register(_remove, folder, os.getpid())
    return folder


def _sweep() -> None:
    for folder in RUN.iterdir():
        if folder.name == str(os.getpid()) or (folder.name.isdigit() and not _lives(int(folder.name))):
            shutil.rmtree(folder, ignore_errors=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _remove(folder: Path, owner: int) -> None:
    # A forked child runs the same exit functions and must leave its parent's folder alone.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _stop(error: Exception, *, as_document: bool) -> NoReturn:
    if as_document:
        document = {"error": {"code": "not_started", "message": str(error)}}
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        sys.stderr.write(f"error: {error}\n")
    sys.exit(1)
