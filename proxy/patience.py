"""How long a call waits for money that calls in flight hold, before it is told to come back."""

from collections.abc import Iterable

LONGEST_SECONDS = 30.0
# The other half is for the answer.
SHARE_OF_CLIENT = 0.5
# Official SDKs say how long they wait for an answer.
TIMEOUT_HEADERS = (b"x-stainless-read-timeout", b"x-stainless-timeout")


def patience_of(headers: Iterable[tuple[bytes, bytes]]) -> float:
    """Seconds that a call may wait for its admission; less where its client says that it waits less in all."""
    patience = LONGEST_SECONDS
    for name, value in headers:
        if name in TIMEOUT_HEADERS and value.replace(b".", b"", 1).isdigit():
            patience = min(patience, float(value) * SHARE_OF_CLIENT)
    return patience
