"""Runs commands: in this process for what they do, as programs for how they end."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

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


def program(*words: object, stdin: str = "", **environment: str) -> Ended:
    """Run `manage.py <words>` as a program on the database of the tests."""
    parts = connection.settings_dict
    url = (
        f"postgresql:///{parts['NAME']}?host={parts['HOST']}&port={parts['PORT'] or 5432}"
        f"&user={parts['USER']}&password={parts['PASSWORD']}"
    )
    done = subprocess.run(
        [sys.executable, "manage.py", *(str(word) for word in words)],
        cwd=PROJECT,
        env={**os.environ, "DATABASE_URL": url, **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)
