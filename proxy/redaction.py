"""Keeps a provider's credential out of what its errors say: some servers repeat the key that they refuse. Pure."""

# Fewer characters of a credential than this are its kind, not its secret.
TELLING = 8


class Redactor:
    """Masks a secret in a body that passes in pieces, also where a piece ends inside of it; lengths stay."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """Take the next piece and give what may be told."""
        known = (self._held + piece).replace(self._secret, b"*" * len(self._secret))
        begun = _begun(known, self._secret)
        self._held = known[len(known) - begun :]
        return known[: len(known) - begun]

    def finish(self) -> bytes:
        """Give what was held back, as the secret did not follow."""
        held, self._held = self._held, b""
        return held


def redacted(text: str, secret: str) -> str:
    """The text without the secret, and without the beginning of one where the text was cut."""
    text = text.replace(secret, "[redacted]")
    begun = _begun(text.encode("utf-8", "replace"), secret.encode())
    return text[:-begun] + "[redacted]" if begun >= TELLING else text


def _begun(known: bytes, secret: bytes) -> int:
    """How many bytes at the end of `known` are the beginning of the secret."""
    longest = min(len(secret) - 1, len(known))
    return next((size for size in range(longest, 0, -1) if known.endswith(secret[:size])), 0)
