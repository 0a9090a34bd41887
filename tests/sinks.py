"""Where secrets must never turn up: everything that a run of the tests has made visible.

Servers write their logs into a folder, and their databases are written there as text before they go; error answers
that tests have seen are noted here. At the end of a session everything is searched for every secret.
"""

_answers: list[bytes] = []


def note_answer(status: int, text: bytes) -> None:
    """Keep what an error told its client."""
    if status >= 400:
        _answers.append(text)


def answers() -> list[bytes]:
    """Every error answer noted so far."""
    return list(_answers)
