"""The command: sets everything up, measures, shows, keeps, takes everything down."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from tests.bench.cells import CELLS, Result, Target, measure, measure_in_turn, together
from tests.bench.gateway import Books, books, environment_for, own_database, serving, set_up
from tests.bench.mock import Mock
from tests.bench.peers import PEERS
from tests.bench.processes import BenchError, check_tools, prefer
from tests.bench.report import IN_TURN, YARDSTICK_CELL, keep, show
from tests.bench.yardstick import bare_relay


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure the gateway.")
    parser.add_argument("--peers", action="store_true", help="install LiteLLM and Portkey and measure them too")
    parser.add_argument("--quick", action="store_true", help="one short run per cell: an indication, not a figure")
    parser.add_argument("--bare", action="store_true", help="only the mock itself: what the rig can do")
    parser.add_argument("--cells", default=",".join(CELLS), help=f"of {', '.join(CELLS)}, or other numbers")
    given = parser.parse_args(arguments)
    prefer(os.getpid())
    try:
        check_tools(peers=given.peers)
        run(given)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        prefer(os.getpid(), 0)
    return 0


def run(given: argparse.Namespace) -> None:
    """Measure the mock, the gateway with one and two workers, and the peers if wanted."""
    cells = given.cells.split(",")
    runs, seconds = (1, 1.0) if given.quick else (3, 3.0)
    results: list[Result] = []
    written: Books | None = None
    settings = None
    with ExitStack() as stack:
        mock = Mock()
        stack.callback(mock.stop)

        def measured(target: Target, chosen: Sequence[str]) -> Result:
            return measure(target, chosen, mock_pid=mock.pid, runs=runs, seconds=seconds)

        relayed_calls = 0

        def by_yardstick() -> Result:
            nonlocal relayed_calls
            begun = mock.calls()
            with bare_relay(mock) as target:
                result = measured(target, [YARDSTICK_CELL])
            relayed_calls += mock.calls() - begun
            return result

        bare = measured(Target("mock alone", f"{mock.url}/v1/chat/completions"), cells)
        if not given.bare:
            before = mock.calls()
            with own_database() as database:
                environment = environment_for(database, mock)
                made = set_up(environment, mock)
                relayed = [by_yardstick()]
                with serving(environment, made, database, workers=1) as one:
                    results.append(measured(one, cells))
                    relayed.append(by_yardstick())
                    with serving(environment, made, database, workers=2) as two:
                        both = (replace(one, name=IN_TURN), two)
                        results += measure_in_turn(both, "n64", mock_pid=mock.pid, runs=2 * runs, seconds=seconds)
                relayed.append(by_yardstick())
                results.append(together(relayed))
                written = books(database, made, mock, before=before + relayed_calls)
                settings = database.settings
        for peer in PEERS if given.peers else ():
            with peer(mock) as target:
                results.append(measured(target, cells))
    print()
    print(show(bare, results, settings=settings, books=written))
    print(f"\nEvery run: {keep(bare, results, written)}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
