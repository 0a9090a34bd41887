"""How long somebody has to wait, as people read it. Pure."""

from datetime import timedelta


def in_words(wait: timedelta) -> str:
    """`40 seconds`, `3 minutes`, `5 hours`; rounded up."""
    seconds = int(wait.total_seconds()) + 1
    if seconds <= 60:
        return f"{seconds} seconds"
    minutes = -(-seconds // 60)
    return f"{minutes} minutes" if minutes <= 120 else f"{-(-minutes // 60)} hours"
