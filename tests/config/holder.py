"""A process that uses a project's embedded database and obeys the words on its standard input.

`acquire` and `fork` are answered with one line of JSON each; the end of the input ends the process.
"""

import json
import os
import sys
from pathlib import Path

from config.postgres import EmbeddedPostgresError, acquire


def main(project: Path) -> None:
    for word in sys.stdin:
        answer = fork_and_leave() if word.strip() == "fork" else try_to_acquire(project)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def try_to_acquire(project: Path) -> dict[str, str]:
    try:
        return {"url": acquire(project)}
    except EmbeddedPostgresError as error:
        return {"error": type(error).__name__, "text": str(error)}


def fork_and_leave() -> dict[str, int]:
    """Fork a child that shares the lease and ends at once, as a normal process does."""
    child = os.fork()
    if child == 0:
        # The rest of the input is the parent's to read.
        os.close(sys.stdin.fileno())
        sys.exit(0)
    return {"status": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
