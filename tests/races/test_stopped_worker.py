"""A worker that stands still in the middle of its admission holds nobody up for long."""

import asyncio
import os
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.races.books import Books, open_books, prepare
from tests.races.clients import Told
from tests.races.strikes import Strikes
from tests.servers import Servers
from tests.upstream import Upstream

STOP_POINTS = ("after_admit_locks", "before_admit_commit")


# Sessions that hold locks; a stopped worker's stays the same until it is ended.
TRANSACTIONS = """
SELECT pid, xact_start FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'customhouse %' AND xact_start IS NOT NULL
"""


async def stop_and_call(books: Books, strikes: Strikes, point: str) -> tuple[list[Told], list[Told]]:
    """Stop a worker at the point; what those were told who had called, and those who call from then on."""
    async with books.crowd() as crowd:
        before = asyncio.create_task(crowd.calls(60, attempts=12))
        pid = await strikes.strike(point, "stop")
        try:
            stuck = books.server.rows(TRANSACTIONS)
            # A worker that stands still accepts no connection, so these reach the others.
            others = await crowd.calls(60)
            assert stuck
            assert not [session for session in books.server.rows(TRANSACTIONS) if session in stuck]
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        return await before, others


@pytest.mark.long
def test_whoever_stands_still_with_a_locked_window_is_not_waited_for_in_vain(
    servers: Servers, upstream: Upstream, tmp_path: Path
) -> None:
    strikes = Strikes(tmp_path / "strikes")
    with servers.serving(workers=3, upstreams=[upstream], **strikes.variables) as server:
        prepare(server)
        for point in STOP_POINTS:
            books = open_books(server, upstream, room=10**6)
            before, others = asyncio.run(stop_and_call(books, strikes, point))
            # Whoever waits for a lock in vain is told 503.
            assert Counter(one.status for one in others) == {200: 60}
            assert {one.status for one in before} <= {0, 200, 503}
            server.wait_settled(seconds=60)
            books.audit([*before, *others])
