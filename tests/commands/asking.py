"""Runs commands: in this process for what they do, as programs for how they end."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from django.core.management import call_command
from django.db import connection

PROJECT = Path(__file__).resolve().parents[2]


def ask(*words: object, stdin: str = "") -> Any:
    """What `manage.py <words> --json` prints, as a value. Raises `CommandFailed`."""
    out = StringIO()
    before, sys.stdin = sys.stdin, StringIO(stdin)
    try:
        call_command(*(str(word) for word in words), "--json", stdout=out, stderr=StringIO())
    finally:
        sys.stdin = before
    return json.loads(out.getvalue())


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended and what it wrote."""

    status: int
    out: str
    err: str


def database_url() -> str:
    """The database of this test, for other processes."""
    parts = connection.settings_dict
    named = {"host": parts["HOST"], "port": parts["PORT"] or 5432, "user": parts["USER"], "password": parts["PASSWORD"]}
    return f"postgresql:///{parts['NAME']}?{urlencode({name: value for name, value in named.items() if value})}"


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def program(*words: object, stdin: str = "", seconds: float = 60, **environment: str) -> Ended:
    """Run `manage.py <words>` as a program on the database of this test."""
    done = subprocess.run(
        [sys.executable, "manage.py", *(str(word) for word in words)],
        cwd=PROJECT,
        env={**os.environ, "DATABASE_URL": database_url(), **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)
