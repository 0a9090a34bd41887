"""Orders faults at the named points of running workers."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

POLL_SECONDS = 0.02
PATIENCE_SECONDS = 30.0


async def pause() -> None:
    """Wait for a worker to come by of itself."""
    await asyncio.sleep(POLL_SECONDS)


class NobodyCame(AssertionError):
    """No worker came by a point."""


class Strikes:
    """The folder through which a server's workers are told where to die or to stop."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder

    @property
    def variables(self) -> dict[str, str]:
        """What a server must be given to obey."""
        return {"DJANGO_SETTINGS_MODULE": "tests.settings", "CUSTOMHOUSE_FAULTS": str(self.folder)}

    def order(self, point: str, how: str = "kill") -> None:
        """Have the next worker that comes by the point die (`kill`) or stand still (`stop`)."""
        aside = self.folder / f"{point}.new"
        aside.write_text(how)
        aside.rename(self.folder / point)

    def struck(self, point: str) -> int | None:
        """The process that was struck there, if any."""
        found = [path.suffix[1:] for path in self.folder.glob(f"{point}.*")]
        return int(found[0]) if found and found[0].isdigit() else None

    def forget(self, point: str) -> None:
        """Make room for another strike at the point."""
        for path in self.folder.glob(f"{point}.*"):
            path.unlink()

    async def strike(
        self,
        point: str,
        how: str = "kill",
        *,
        nudge: Callable[[], Awaitable[object]] = pause,
        seconds: float = PATIENCE_SECONDS,
    ) -> int:
        """Order a fault and wait until a worker was struck; its process id. `nudge` makes workers come by.

        Raises `NobodyCame` after so many seconds; then the order does not stand any more.
        """
        self.order(point, how)
        deadline = time.monotonic() + seconds
        while (pid := self.struck(point)) is None:
            if time.monotonic() > deadline:
                (self.folder / point).unlink(missing_ok=True)
                raise NobodyCame(point)
            await nudge()
        return pid
