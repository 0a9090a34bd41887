"""Second factors: their secrets are never in the clear in the database."""

import base64
import binascii
import logging
import os
import secrets
from functools import cache

from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from accounts.models import User

logger = logging.getLogger(__name__)

NONCE_BYTES = 12
CONTEXT = b"customhouse second factor"
SECOND_FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)


class FactorAdapter(DefaultMFAAdapter):  # type: ignore[misc]  # allauth has no types
    """Seals the seeds of codes under a key that follows from the secret key of the installation."""

    def encrypt(self, text: str) -> str:
        nonce = os.urandom(NONCE_BYTES)
        sealed = AESGCM(_key(settings.SECRET_KEY)).encrypt(nonce, text.encode(), CONTEXT)
        return base64.b64encode(nonce + sealed).decode()

    def decrypt(self, encrypted_text: str) -> str:
        try:
            sealed = base64.b64decode(encrypted_text, validate=True)
            opened = AESGCM(_key(settings.SECRET_KEY)).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], CONTEXT)
        except (InvalidTag, ValueError, binascii.Error):
            logger.error("A second factor was set up under another secret key: its codes are refused.")
            # A seed that nobody knows: no code fits, while an empty one would have codes that everybody can compute.
            return base64.b32encode(secrets.token_bytes(20)).decode()
        return opened.decode()

    def generate_authenticator_name(self, user: User, type: Authenticator.Type) -> str:
        """A name to begin with, which people change."""
        number = Authenticator.objects.filter(user=user, type=type).count() + 1
        return f"Passkey {number}"


def has_second_factor(user: User) -> bool:
    """Whether a password alone does not let this person in."""
    return bool(Authenticator.objects.filter(user=user, type__in=SECOND_FACTORS).exists())


@cache
def _key(secret: str) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=CONTEXT).derive(secret.encode())
