"""Where the credential of a call comes from: the vault, or what a reference points to."""

import logging
import os
from functools import cache
from pathlib import Path
from uuid import UUID
from weakref import WeakKeyDictionary

from django.conf import settings

from integrations.secret_server import SCHEME as VAULT
from integrations.secret_server import Login, Place, Secrets, SecretServer
from integrations.vault import BadReference as BadReference
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

REFERENCE_SCHEMES = (VAULT, "env://", "file://")
# A tenant names its references, so they reach only what the operator set aside for that.
REFERENCE_VARIABLE_PREFIX = "CUSTOMHOUSE_CREDENTIAL_"

_opened: "WeakKeyDictionary[StoredCredential, str]" = WeakKeyDictionary()
_told: set[str] = set()
"""The ids of unknown master keys that were logged: every call would say it again."""


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


@cache
def secrets() -> Secrets:
    """What this process reads of the configured secret server. Raises `BadReference` where none is."""
    environment = settings.ENVIRONMENT
    if environment.vault_addr is None:
        raise BadReference("vault:// references need CUSTOMHOUSE_VAULT_ADDR.")
    return Secrets(secret_server(), fresh_seconds=environment.vault_cache_seconds)


def secret_server() -> SecretServer:
    """The configured secret server. Raises `BadReference` where it is not configured as a whole."""
    environment = settings.ENVIRONMENT
    token, role_id, secret_id = environment.vault_token, environment.vault_role_id, environment.vault_secret_id
    logins: list[str | Login] = []
    if token is not None:
        logins.append(token.get_secret_value())
    if role_id is not None and secret_id is not None:
        logins.append(Login.by_role(role_id, secret_id.get_secret_value()))
    if environment.vault_kubernetes_role is not None:
        logins.append(Login.by_kubernetes(environment.vault_kubernetes_role))
    if environment.vault_addr is None or len(logins) != 1:
        raise BadReference(
            "Set CUSTOMHOUSE_VAULT_ADDR with one login: CUSTOMHOUSE_VAULT_TOKEN, or CUSTOMHOUSE_VAULT_ROLE_ID and "
            "CUSTOMHOUSE_VAULT_SECRET_ID, or CUSTOMHOUSE_VAULT_KUBERNETES_ROLE."
        )
    return SecretServer(environment.vault_addr, logins[0], namespace=environment.vault_namespace)


def open_credential(stored: StoredCredential, *, may_wait: bool = True) -> str:
    """The plain credential. Raises `VaultError`; the message names no secret.

    One that another server keeps may take seconds; where nobody may wait it is taken from memory or not at all.
    """
    if stored.sealed is not None:
        return _unsealed(stored, stored.sealed)
    return resolve(stored.reference, may_wait=may_wait)


def has_to_be_read(stored: StoredCredential) -> bool:
    """Whether opening the credential takes a question to another server."""
    if not stored.reference.startswith(VAULT):
        return False
    try:
        return not secrets().is_settled(stored.reference)
    except BadReference:
        return False


def is_refused_by_provider(stored: StoredCredential) -> None:
    """Note that a provider did not take the credential: what another server keeps may have been replaced there."""
    if stored.reference.startswith(VAULT):
        secrets().forget(stored.reference)


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
    if reference.startswith(VAULT):
        Place.parse(reference)
        secrets()
    elif reference.startswith("env://"):
        if not reference.removeprefix("env://").startswith(REFERENCE_VARIABLE_PREFIX):
            raise BadReference(f"env:// may name variables that begin with {REFERENCE_VARIABLE_PREFIX}.")
    elif reference.startswith("file://"):
        _file_of(reference)
    else:
        raise BadReference("A reference begins with env://, file:// or vault://; give a key itself by standard input.")


def check_own_reference(reference: str, *, tenant_id: UUID) -> None:
    """Raise `BadReference` unless the operator set aside for this very tenant what `reference` names.

    Tenants name references themselves and choose where a key is sent, so none may name what is another's.
    """
    check_reference(reference)
    own = f"{REFERENCE_VARIABLE_PREFIX}{tenant_id.hex.upper()}_"
    if reference.startswith(VAULT):
        _check_own_place(reference, tenant_id)
    elif reference.startswith("env://"):
        if not reference.removeprefix("env://").startswith(own):
            raise BadReference(f"env:// may name variables of this tenant, which begin with {own}.")
    elif not _file_of(reference).is_relative_to(_folder().resolve() / str(tenant_id)):
        raise BadReference(
            f"file:// references of this tenant must lie in CUSTOMHOUSE_CREDENTIAL_DIRECTORY/{tenant_id}."
        )


def _check_own_place(reference: str, tenant_id: UUID) -> None:
    place, folder = Place.parse(reference), settings.ENVIRONMENT.vault_tenant_path
    if folder is None:
        raise BadReference("Tenants name no vault:// references here: CUSTOMHOUSE_VAULT_TENANT_PATH is not set.")
    own = f"{folder}/{tenant_id}/"
    if not f"{place.mount}/{place.path}".startswith(own):
        raise BadReference(f"vault:// may name secrets of this tenant, which are at vault://{own}…#field.")


def resolve(reference: str, *, may_wait: bool = True) -> str:
    """Follow `env://NAME`, `file://path` or `vault://mount/path#field`. Raises `VaultError`."""
    check_reference(reference)
    if reference.startswith(VAULT):
        value = secrets().read(reference) if may_wait else secrets().at_once(reference)
    elif reference.startswith("env://"):
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
