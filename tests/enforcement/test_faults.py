"""The points at which tests kill: real in a process that a test ordered to die, nothing in any other."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from enforcement.faults import Faults, point_of

PROJECT = Path(__file__).resolve().parents[2]
PROGRAM = "from enforcement.faults import point\nfor _ in range(3):\n    point('here')\n    print('passed', flush=True)"


def variables(folder: Path, orders: str = "here:2") -> dict[str, str]:
    return {
        "CUSTOMHOUSE_FAULTS": orders,
        "CUSTOMHOUSE_FAULTS_FOLDER": str(folder),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=PROJECT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )


def test_a_process_dies_at_the_ordered_hit_and_only_once(tmp_path: Path) -> None:
    first, second = run(**variables(tmp_path)), run(**variables(tmp_path))
    assert (first.returncode, first.stdout.count("passed")) == (-signal.SIGKILL, 1)
    assert (second.returncode, second.stdout.count("passed")) == (0, 3)
    assert (tmp_path / "here").read_text().isdigit()


@pytest.mark.parametrize(
    "changes",
    [
        {"DJANGO_SETTINGS_MODULE": "config.settings"},
        {"DJANGO_SETTINGS_MODULE": ""},
        {"CUSTOMHOUSE_FAULTS": ""},
        {"CUSTOMHOUSE_FAULTS_FOLDER": ""},
    ],
)
def test_nothing_is_armed_unless_a_test_ordered_it(tmp_path: Path, changes: dict[str, str]) -> None:
    ordered = variables(tmp_path) | changes
    assert point_of(ordered).__name__ == "_nothing"
    assert run(**ordered).returncode == 0


def test_other_points_and_other_hits_pass(tmp_path: Path) -> None:
    faults = Faults("here:2:stop,there:5", tmp_path)
    for name in ("here", "there", "elsewhere"):
        faults.point(name)
    assert list(tmp_path.iterdir()) == []
