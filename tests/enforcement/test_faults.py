"""The points at which tests kill: real in a process that a test ordered to die, nothing in any other."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from enforcement.faults import Faults, point_of

PROJECT = Path(__file__).resolve().parents[2]
PROGRAM = (
    "from enforcement.faults import point\nfor name in 'here', 'there':\n    point(name)\n    print(name, flush=True)"
)


def run(folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    ordered = {"CUSTOMHOUSE_FAULTS": str(folder), "DJANGO_SETTINGS_MODULE": "tests.settings"}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=PROJECT,
        env=os.environ | ordered | changes,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )


def test_a_process_dies_where_it_was_ordered_to_and_only_one_does(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("kill")
    first, second = run(tmp_path), run(tmp_path)
    assert (first.returncode, first.stdout) == (-signal.SIGKILL, "here\n")
    assert (second.returncode, second.stdout) == (0, "here\nthere\n")
    ((name, pid),) = (path.name.split(".") for path in tmp_path.iterdir())
    assert name == "there" and pid.isdigit()


@pytest.mark.parametrize(
    "changes",
    [
        {"DJANGO_SETTINGS_MODULE": "config.settings"},
        {"DJANGO_SETTINGS_MODULE": ""},
        {"CUSTOMHOUSE_FAULTS": ""},
    ],
)
def test_nothing_is_armed_unless_a_test_ordered_it(tmp_path: Path, changes: dict[str, str]) -> None:
    (tmp_path / "here").write_text("kill")
    assert run(tmp_path, **changes).returncode == 0
    assert point_of(changes).__name__ == "_nothing"


def test_a_point_without_an_order_is_passed(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("kill")
    Faults(tmp_path).point("here")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
