"""Times as programs write them. Pure."""

from datetime import UTC, datetime


def instant_of(text: str) -> datetime:
    """The moment in UTC: the store takes neither odd offsets nor what they lead out of the calendar.

    Raises `ValueError` for what is no ISO time with its zone.
    """
    told = datetime.fromisoformat(text)
    if told.tzinfo is None:
        raise ValueError("a time without its zone is no moment")
    try:
        return told.astimezone(UTC)
    except OverflowError:
        raise ValueError("the calendar does not reach as far") from None
