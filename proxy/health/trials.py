"""A credential is tried before anything depends on it: it works, it is refused, or nobody could tell."""

from dataclasses import dataclass
from uuid import UUID

from enforcement.health import Cause, Observation
from integrations import vault
from integrations.custody import REFERENCE_SCHEMES, binding_of, master_key
from integrations.vault import StoredCredential

WORKS, REFUSED, COULD_NOT_TELL = "works", "refused", "could_not_tell"
OUTCOMES = {
    Cause.OK: WORKS,
    Cause.SLOW: WORKS,
    Cause.CREDENTIAL: REFUSED,
    Cause.BILLING: REFUSED,
    Cause.UNOPENED: REFUSED,
}
MESSAGES = {
    Cause.OK: "The provider accepts the credential.",
    Cause.SLOW: "The provider accepts the credential, and is slow.",
    Cause.CREDENTIAL: "The provider does not accept the credential.",
    Cause.BILLING: "The provider knows the credential, but the account behind it cannot pay or has reached its cap.",
    Cause.UNOPENED: "The credential cannot be opened here, so the provider was not asked.",
    Cause.PERMISSION: "The provider did not let the credential see its models, which need not mean that calls fail.",
    Cause.QUOTA: "The provider answers no more requests of this account for now.",
    Cause.OVERLOAD: "The provider is overloaded.",
    Cause.NETWORK: "The provider could not be reached.",
    Cause.NO_PROBE: "The provider has nothing unbilled that could be asked, so only a call can tell.",
}


@dataclass(frozen=True, slots=True)
class Trial:
    """What trying a credential came to, for people; the provider's own words are in the observation."""

    outcome: str
    message: str

    @classmethod
    def of(cls, seen: Observation) -> "Trial":
        message = MESSAGES.get(seen.cause, "The provider's answer says nothing of the credential.")
        return cls(OUTCOMES.get(seen.cause, COULD_NOT_TELL), message)


def unkept(credential: str, *, tenant_id: UUID, integration_id: UUID, origin: str) -> StoredCredential:
    """A key or reference as an integration would have it, kept nowhere. Raises `VaultError`."""
    binding = binding_of(tenant_id=tenant_id, integration_id=integration_id, origin=origin, version=0)
    if credential.startswith(REFERENCE_SCHEMES):
        return StoredCredential(binding=binding, reference=credential)
    return StoredCredential(binding=binding, sealed=vault.seal(credential, binding=binding, master=master_key()))
