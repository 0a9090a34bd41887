"""Who waits for what calls in flight hold: first come, first asked again. One event loop's own."""

import asyncio
from bisect import insort
from collections.abc import Hashable
from itertools import count

# Whoever holds a budget may settle in any process, so it is asked for rather than heard of.
TURN_SECONDS = 0.1
AT_ONCE = 8
"""Of each line: where there is nothing for those in front, there is rarely anything for those behind."""
EVERYBODY = 10
"""Each so many turns all are asked, as a small call may fit where the large ones before it do not."""
MOST_WAITING = 256


class Turns:
    """Lets the first of each line ask again, and with the same ticket again, until they have left it."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, list[tuple[int, asyncio.Future[None]]]] = {}
        self._tickets = count()
        self._is_called = False
        self._turns = count(1)

    @property
    def is_full(self) -> bool:
        """Whether more would wait than is good for anybody."""
        return sum(map(len, self._lines.values())) >= MOST_WAITING

    def ticket(self) -> int:
        """The place of one more in whatever line."""
        return next(self._tickets)

    def next(self, line: Hashable, ticket: int) -> "asyncio.Future[None]":
        """The next turn of the ticket."""
        loop = asyncio.get_running_loop()
        if not self._is_called:
            self._is_called = True
            loop.call_later(TURN_SECONDS, self._call)
        turn = loop.create_future()
        insort(self._lines.setdefault(line, []), (ticket, turn))
        return turn

    def _call(self) -> None:
        self._is_called = False
        most = MOST_WAITING if next(self._turns) % EVERYBODY == 0 else AT_ONCE
        for line, places in list(self._lines.items()):
            # Whoever has lost its patience has left its place.
            waiting = [place for place in places if not place[1].done()]
            # Tasks are woken in the order in which their futures are resolved.
            for _, turn in waiting[:most]:
                turn.set_result(None)
            if len(waiting) > most:
                self._lines[line] = waiting[most:]
            else:
                del self._lines[line]
        if self._lines:
            self._is_called = True
            asyncio.get_running_loop().call_later(TURN_SECONDS, self._call)
