"""Where the credential of a call comes from: the vault, or what a reference points to."""

import logging
import os
from functools import cache
from pathlib import Path
from uuid import UUID
from weakref import WeakKeyDictionary

from django.conf import settings

from integrations.vault import (
    Binding,
    KeyRing,
    MasterKey,
    MasterKeyMissing,
    MasterKeyUnknown,
    Sealed,
    StoredCredential,
    VaultError,
    unseal,
)

logger = logging.getLogger(__name__)

REFERENCE_SCHEMES = ("vault://", "env://", "file://")
# A tenant names its references, so they reach only what the operator set aside for that.
REFERENCE_VARIABLE_PREFIX = "CUSTOMHOUSE_CREDENTIAL_"

_opened: "WeakKeyDictionary[StoredCredential, str]" = WeakKeyDictionary()
_told: set[str] = set()
"""The ids of unknown master keys that were logged: every call would say it again."""


class BadReference(VaultError):
    """A credential reference cannot be used; the message says why."""


@cache
def key_ring() -> KeyRing:
    """The configured master keys. Raises `MasterKeyMissing` or `VaultError`."""
    current, previous = settings.ENVIRONMENT.master_key, settings.ENVIRONMENT.master_key_previous
    if current is None:
        raise MasterKeyMissing
    return KeyRing(
        current=MasterKey.parse(current.get_secret_value()),
        previous=MasterKey.parse(previous.get_secret_value()) if previous is not None else None,
    )


def master_key() -> MasterKey:
    """The master key that seals. Raises `MasterKeyMissing` or `VaultError`."""
    return key_ring().current


def known_master_keys() -> tuple[str, ...]:
    """The ids of the keys that this process opens credentials with; none where no usable key is set."""
    try:
        return tuple(key.id for key in key_ring().keys)
    except VaultError:
        return ()


def open_credential(stored: StoredCredential) -> str:
    """The plain credential. Raises `VaultError`; the message names no secret."""
    if stored.sealed is not None:
        return _unsealed(stored, stored.sealed)
    return resolve(stored.reference)


def _unsealed(stored: StoredCredential, sealed: Sealed) -> str:
    """Opened once for as long as its snapshot lives."""
    plain = _opened.get(stored)
    if plain is None:
        plain = _opened[stored] = unseal(sealed, binding=stored.binding, master=_opening(sealed.master_key_id))
    return plain


def _opening(master_key_id: str) -> MasterKey:
    try:
        return key_ring().opening(master_key_id)
    except MasterKeyUnknown as error:
        if master_key_id not in _told:
            _told.add(master_key_id)
            logger.error("%s Until then calls that need them are refused.", error)
        raise


def check_reference(reference: str) -> None:
    """Raise `BadReference` unless `reference` has a form that `resolve` can follow."""
    if reference.startswith("vault://"):
        raise BadReference("vault:// references are not available yet: use env:// or file://.")
    if reference.startswith("env://"):
        if not reference.removeprefix("env://").startswith(REFERENCE_VARIABLE_PREFIX):
            raise BadReference(f"env:// may name variables that begin with {REFERENCE_VARIABLE_PREFIX}.")
    elif reference.startswith("file://"):
        _file_of(reference)
    else:
        raise BadReference("A reference begins with env:// or file://; give a key itself by standard input.")


def check_own_reference(reference: str, *, tenant_id: UUID) -> None:
    """Raise `BadReference` unless the operator set aside for this very tenant what `reference` names.

    Tenants name references themselves and choose where a key is sent, so none may name what is another's.
    """
    check_reference(reference)
    own = f"{REFERENCE_VARIABLE_PREFIX}{tenant_id.hex.upper()}_"
    if reference.startswith("env://"):
        if not reference.removeprefix("env://").startswith(own):
            raise BadReference(f"env:// may name variables of this tenant, which begin with {own}.")
    elif not _file_of(reference).is_relative_to(_folder().resolve() / str(tenant_id)):
        raise BadReference(
            f"file:// references of this tenant must lie in CUSTOMHOUSE_CREDENTIAL_DIRECTORY/{tenant_id}."
        )


def resolve(reference: str) -> str:
    """Follow `env://NAME` or `file://path`. Raises `BadReference`."""
    check_reference(reference)
    if reference.startswith("env://"):
        value = os.environ.get(reference.removeprefix("env://"), "")
    else:
        try:
            value = _file_of(reference).read_text().strip()
        except OSError as error:
            raise BadReference(f"{reference} cannot be read: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise BadReference(f"{reference} does not hold a provider key.") from None
    if not value:
        raise BadReference(f"{reference} is empty or not set.")
    check_plain(value)
    return value


def check_plain(credential: str) -> None:
    """Raise `BadReference` for what cannot stand in a header."""
    if not credential or not credential.isascii() or not credential.isprintable() or " " in credential:
        raise BadReference("A provider key is one line of printable characters without spaces.")


def _file_of(reference: str) -> Path:
    path = Path(reference.removeprefix("file://")).resolve()
    if not path.is_relative_to(_folder().resolve()):
        raise BadReference("file:// references must lie in CUSTOMHOUSE_CREDENTIAL_DIRECTORY.")
    return path


def _folder() -> Path:
    folder = settings.ENVIRONMENT.credential_directory
    if folder is None:
        raise BadReference("file:// references need CUSTOMHOUSE_CREDENTIAL_DIRECTORY.")
    return Path(folder)


def binding_of(*, tenant_id: UUID, integration_id: UUID, origin: str, version: int) -> Binding:
    """What a credential of this integration and version is bound to."""
    return Binding(tenant_id=tenant_id, integration_id=integration_id, origin=origin, version=version)
