"""Prometheus' own judge of rules, where it is installed."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (apt-get install prometheus)")


def promtool(*arguments: str) -> str:
    """What promtool says; fails the test where promtool is not content."""
    assert PROMTOOL is not None
    run = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def check_expressions(expressions: list[str], folder: Path) -> None:
    """Fail unless each is a valid expression."""
    rules = [{"record": f"checked:{number}", "expr": text} for number, text in enumerate(expressions)]
    promtool("check", "rules", write(folder / "expressions.json", {"groups": [{"name": "checked", "rules": rules}]}))


def write(path: Path, document: Any) -> str:
    """JSON is YAML too."""
    path.write_text(json.dumps(document))
    return str(path)
