"""The key that signs seals: it follows from the installation's secret key, so there is no other one to keep."""

from functools import cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

CONTEXT = b"customhouse seal"


class SealKey:
    """Signs; what it signed is checked by its public half alone."""

    def __init__(self, secret: str) -> None:
        seed = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=CONTEXT).derive(secret.encode())
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._private.public_key().public_bytes_raw()

    def sign(self, digest: bytes) -> bytes:
        return self._private.sign(digest)


def seal_key() -> SealKey:
    """This installation's."""
    return _key_of(settings.SECRET_KEY)


def is_signed(digest: bytes, signature: bytes, public_key: bytes) -> bool:
    """Whether the owner of the public key signed this."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, digest)
    except (InvalidSignature, ValueError):
        return False
    return True


@cache
def _key_of(secret: str) -> SealKey:
    return SealKey(secret)
