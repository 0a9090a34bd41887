"""Seals provider credentials: AES-256-GCM with a data key per credential, wrapped by a master key.

The associated data names tenant, integration, origin and version, so a sealed credential that is moved to another
row, or whose destination is changed, does not open.
"""

import base64
import binascii
import os
from dataclasses import dataclass, field
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12
KEY_BYTES = 32
CANARY = b"customhouse master key canary"


class VaultError(Exception):
    """A credential cannot be sealed or opened."""


class BadReference(VaultError):
    """A credential reference cannot be used; the message says why."""


class MasterKeyMissing(VaultError):
    """No master key is set: run `manage.py init`, or set CUSTOMHOUSE_MASTER_KEY or CUSTOMHOUSE_MASTER_KEY_FILE."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class CredentialDoesNotOpen(VaultError):
    """The master key is another one, or the credential was moved or its destination changed."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__)


class MasterKeyUnknown(CredentialDoesNotOpen):
    """A credential is sealed by a master key that this process was not given."""

    def __init__(self, master_key_id: str) -> None:
        super().__init__(
            f"Stored credentials are sealed by the master key {master_key_id}, which this process does not know: "
            "set CUSTOMHOUSE_MASTER_KEY to the new key and CUSTOMHOUSE_MASTER_KEY_PREVIOUS to the one before, and "
            "restart."
        )


@dataclass(frozen=True, slots=True)
class MasterKey:
    """A key that wraps data keys; `id` tells which one wrapped a credential."""

    id: str
    material: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "MasterKey":
        """Read base64 of 32 bytes. Raises `VaultError` for anything else, without repeating it."""
        try:
            material = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise VaultError("The master key is not base64.") from None
        if len(material) != KEY_BYTES:
            raise VaultError(f"The master key has {len(material)} bytes instead of {KEY_BYTES}.")
        digest = hashes.Hash(hashes.SHA256())
        digest.update(b"customhouse master key id" + material)
        return cls(id=digest.finalize()[:6].hex(), material=material)

    @staticmethod
    def generate() -> str:
        return base64.b64encode(os.urandom(KEY_BYTES)).decode()


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The master key that seals, and the one before it, which opens what is not re-wrapped yet."""

    current: MasterKey
    previous: MasterKey | None = None

    @property
    def keys(self) -> tuple[MasterKey, ...]:
        """Those that open, the current one first."""
        if self.previous is None or self.previous == self.current:
            return (self.current,)
        return (self.current, self.previous)

    def opening(self, master_key_id: str) -> MasterKey:
        """The key of that id. Raises `MasterKeyUnknown`."""
        for key in self.keys:
            if key.id == master_key_id:
                return key
        raise MasterKeyUnknown(master_key_id)


@dataclass(frozen=True, slots=True)
class Binding:
    """What a credential belongs to; it opens for exactly this."""

    tenant_id: UUID
    integration_id: UUID
    origin: str
    version: int

    def associated_data(self) -> bytes:
        return "\x1f".join(
            ["customhouse/1", str(self.tenant_id), str(self.integration_id), self.origin, str(self.version)]
        ).encode()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed credential as it is stored."""

    ciphertext: bytes
    wrapped_key: bytes
    master_key_id: str


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class StoredCredential:
    """A credential as a process keeps it in memory: sealed or referenced, never plain. Equal to itself only."""

    binding: Binding
    reference: str = ""
    sealed: Sealed | None = field(default=None, repr=False)


def seal(secret: str, *, binding: Binding, master: MasterKey) -> Sealed:
    """Encrypt `secret` for `binding`."""
    data_key = AESGCM.generate_key(bit_length=256)
    context = binding.associated_data()
    return Sealed(
        ciphertext=_encrypt(data_key, secret.encode(), context),
        wrapped_key=_encrypt(master.material, data_key, context),
        master_key_id=master.id,
    )


def unseal(sealed: Sealed, *, binding: Binding, master: MasterKey) -> str:
    """Decrypt a credential. Raises `CredentialDoesNotOpen`."""
    context = binding.associated_data()
    if sealed.master_key_id != master.id:
        raise CredentialDoesNotOpen
    data_key = _decrypt(master.material, sealed.wrapped_key, context)
    return _decrypt(data_key, sealed.ciphertext, context).decode()


def rewrap(sealed: Sealed, *, binding: Binding, ring: KeyRing) -> Sealed:
    """The same credential with its data key under the current master key. Raises `CredentialDoesNotOpen`."""
    context = binding.associated_data()
    data_key = _decrypt(ring.opening(sealed.master_key_id).material, sealed.wrapped_key, context)
    return Sealed(
        ciphertext=sealed.ciphertext,
        wrapped_key=_encrypt(ring.current.material, data_key, context),
        master_key_id=ring.current.id,
    )


def seal_canary(master: MasterKey) -> bytes:
    """A known text under the master key: whoever opens it has the right key."""
    return _encrypt(master.material, CANARY, b"customhouse/canary")


def opens_canary(sealed: bytes, master: MasterKey) -> bool:
    """Whether `master` is the key that sealed the canary."""
    try:
        return _decrypt(master.material, sealed, b"customhouse/canary") == CANARY
    except CredentialDoesNotOpen:
        return False


def _encrypt(key: bytes, plain: bytes, context: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, context)


def _decrypt(key: bytes, sealed: bytes, context: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
    except (InvalidTag, ValueError):
        # What is too short to hold a nonce or a tag is a `ValueError`.
        raise CredentialDoesNotOpen from None
