"""On whose behalf a call was made. Pure."""

import msgspec
from msgspec.structs import replace

from telemetry.entries import UsageEntry
from telemetry.tags import Beside


class Attribution(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is said of a call. The first two stand in its evidence, what may name a person beside it."""

    session_id: str | None = None
    agent_id: str | None = None
    beside: Beside | None = None

    def put_on(self, entry: UsageEntry) -> UsageEntry:
        """The usage row of the call, with what is said of it."""
        return replace(entry, session_id=self.session_id, agent_id=self.agent_id, beside=self.beside)
