"""What a version of a limit says, and what changed from one to another."""

from typing import Any

from integrations.limits import Limit

VALUES = ("amount", "mode", "warn_percents", "raised_to", "raise_until", "effective_from")


def changes_between(older: Limit, newer: Limit) -> dict[str, tuple[Any, Any]]:
    """The values that differ, each as it was and as it became."""
    pairs = {name: (getattr(older, name), getattr(newer, name)) for name in VALUES}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
