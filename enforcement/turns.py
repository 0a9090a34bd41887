"""Who waits for what calls in flight hold: first come, first asked again. One event loop's own."""

import asyncio

# Whoever holds a budget may settle in any process, so it is asked for rather than heard of.
TURN_SECONDS = 0.25
MOST_WAITING = 256


class Turns:
    """Lets those who wait ask again together, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def is_full(self) -> bool:
        """Whether more would wait than can be asked again at once."""
        return len(self._waiting) >= MOST_WAITING

    def next(self) -> "asyncio.Future[None]":
        """The next turn of one more. Whoever asks in the same order as before keeps its place."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_later(TURN_SECONDS, self._call)
        turn = loop.create_future()
        self._waiting.append(turn)
        return turn

    def _call(self) -> None:
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            # Tasks are woken in the order in which their futures are resolved.
            if not turn.done():
                turn.set_result(None)
