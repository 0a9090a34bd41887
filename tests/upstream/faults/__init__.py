"""Ways in which providers and networks misbehave, each under the name that a script calls it by.

A fault starts from the honest answer to the request. It either sends everything it wants to send and returns,
after which the connection lives on, or raises `Ended`, after which the connection is closed. Those named `stall-…` and
`endless-…` go on until the peer leaves.
"""

from typing import Any

from tests.upstream.faults.bombs import BOMBS
from tests.upstream.faults.contents import CONTENTS
from tests.upstream.faults.endings import ENDINGS, Ended
from tests.upstream.faults.fault import Fault
from tests.upstream.faults.framing import FRAMINGS
from tests.upstream.faults.refusals import REFUSALS

__all__ = ["FAULTS", "Ended", "mentions"]

FAULTS: dict[str, Fault] = {**ENDINGS, **FRAMINGS, **REFUSALS, **CONTENTS, **BOMBS}


def mentions(document: Any) -> str:
    """The names of all faults, for an answer to a script that names none of them."""
    return f"{document!r} is no fault; there are: {', '.join(sorted(FAULTS))}"
