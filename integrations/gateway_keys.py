"""The shape of a gateway key: `cush_<public id>_<secret and checksum>`.

The public id names the key in logs and pages, the secret has 256 bits, and the checksum lets secret scanners and
the gateway tell a mistyped key from an unknown one without a query.
"""

import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass, field

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PREFIX = "cush"
PUBLIC_LENGTH = 12
SECRET_LENGTH = 43
CHECKSUM_LENGTH = 6
SHAPE = re.compile(rf"{PREFIX}_([0-9A-Za-z]{{{PUBLIC_LENGTH}}})_[0-9A-Za-z]{{{SECRET_LENGTH},}}")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made; `text` is shown once and never stored."""

    public_id: str
    text: str = field(repr=False)

    @property
    def digest(self) -> bytes:
        return digest_of(self.text)


def generate(public_id: str | None = None) -> NewKey:
    """Make a key with 256 bits of randomness, or another secret for the key with this public id."""
    public_id = public_id or "".join(secrets.choice(ALPHABET) for _ in range(PUBLIC_LENGTH))
    secret = "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))
    body = f"{PREFIX}_{public_id}_{secret}"
    return NewKey(public_id=public_id, text=body + _checksum(body))


def public_id_of(text: str) -> str | None:
    """The public id of a well-formed key, else `None`."""
    parts = text.split("_")
    if len(parts) != 3 or parts[0] != PREFIX:
        return None
    if len(parts[1]) != PUBLIC_LENGTH or len(parts[2]) != SECRET_LENGTH + CHECKSUM_LENGTH:
        return None
    if _checksum(text[:-CHECKSUM_LENGTH]) != text[-CHECKSUM_LENGTH:]:
        return None
    return parts[1]


def masked(text: str) -> str:
    """The text without the secret of any gateway key that somebody put into it."""
    return SHAPE.sub(rf"{PREFIX}_\1_***", text) if f"{PREFIX}_" in text else text


def digest_of(text: str) -> bytes:
    """What is stored of a key. The secret is random, so a plain SHA-256 cannot be searched."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode("utf-8", "surrogateescape"))
    digits = ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
    return digits
