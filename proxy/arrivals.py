"""A call as it arrives: who asks, for which integration, for what. Everything before the decision."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from enforcement.checks import facts_of, hard_block
from enforcement.codes import Code
from enforcement.entries import Asking
from integrations.custody import has_to_be_read, open_credential
from integrations.gateway_keys import digest_of, masked, public_id_of
from integrations.providers import SANDBOX_ORIGIN
from integrations.secret_server import SecretUnavailable
from integrations.snapshot import IntegrationSnapshot, KeySnapshot, TenantSnapshot
from integrations.snapshot_store import matches
from integrations.vault import VaultError
from proxy.answers import Scope
from proxy.authentication import NoKey, TwoKeys, presented_key
from proxy.demands import FREE, demand_of
from proxy.dialects import (
    BodyError,
    CallRequest,
    Dialect,
    Endpoint,
    ErrorKind,
    dialects_for,
    match,
    methods_of,
    read_request,
    spoken,
    unsupported_endpoint,
    unsupported_field,
    wrong_method,
)
from proxy.gateway import Gateway, now
from proxy.refusals import Refusal
from telemetry.attribution import Attribution

Headers = Sequence[tuple[bytes, bytes]]

TRIAL = {"trial": True}
"""Marks the decision of a call that finds out whether its integration still is in error."""
SECRET_RETRY_SECONDS = 5
OPENAI_PATHS = ("/completions", "/responses", "/embeddings")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request wants to go: `name` of the integration, `None` for the key's own, and the native path."""

    name: str | None
    path: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """A call that may be asked for, with the credential that would carry it."""

    asking: Asking
    integration: IntegrationSnapshot | None
    credential: str | None = field(repr=False)

    @property
    def is_in_error(self) -> bool:
        """Whether nothing but the integration's state is known to be in the way."""
        blocked = self.asking.hard_block
        return blocked is not None and blocked.code is Code.INTEGRATION_ERROR


def target_of(path: str) -> Target:
    """Split `/proxy/<name>/<native path>` or `/v1/…`. A key put into a path is a slip that no message may repeat."""
    path = masked(path)
    if path.startswith("/proxy/"):
        name, _, rest = path[len("/proxy/") :].partition("/")
        return Target(name, "/" + rest)
    return Target(None, path)


def guessed_dialect(scope: Scope, target: Target) -> Dialect:
    """In which dialect to speak before the integration is known."""
    if "/messages" in target.path:
        return Dialect.ANTHROPIC
    if target.path.endswith(OPENAI_PATHS):
        return Dialect.OPENAI
    return spoken(scope["headers"]) or Dialect.OPENAI


async def authenticate(gateway: Gateway, headers: Headers, query: bytes) -> tuple[TenantSnapshot, KeySnapshot]:
    """The key that the request carries, with its tenant. Raises `Refusal`."""
    try:
        text = presented_key(headers, query)
    except NoKey:
        raise Refusal(ErrorKind.INVALID_KEY, "No gateway key was given: send it as `Authorization: Bearer`.") from None
    except TwoKeys:
        raise Refusal(
            ErrorKind.INVALID_REQUEST, "The request carries two different keys: send one.", code="two_keys"
        ) from None
    digest = digest_of(text)
    known = gateway.snapshots.known(digest)
    if known is not None:
        return known
    public_id = public_id_of(text)
    if public_id is None or gateway.snapshots.is_unknown(public_id):
        raise _invalid_key()
    found = await gateway.load_key(public_id, digest)
    if found is None or not matches(found[1], digest):
        raise _invalid_key()
    return found


async def fetch_credential(gateway: Gateway, integration: IntegrationSnapshot) -> None:
    """Have the integration's credential in memory where another server keeps it. Raises `Refusal`."""
    stored = integration.credential
    if stored is None or not stored.reference or not has_to_be_read(stored):
        return
    try:
        await gateway.read_secret(stored)
    except SecretUnavailable:
        raise Refusal(
            ErrorKind.UNAVAILABLE,
            f"The credential of the integration `{integration.name}` cannot be read now. Retry shortly.",
            code="credential_unavailable",
            retry_after=SECRET_RETRY_SECONDS,
        ) from None


def integration_for(
    tenant: TenantSnapshot, key: KeySnapshot, target: Target, dialect: Dialect
) -> IntegrationSnapshot | None:
    """The integration that the request means; `None` if there is none of that name.

    Without a name the key must leave only one that speaks the dialect. Raises `Refusal`.
    """
    if target.name is not None:
        return tenant.integrations.get(target.name)
    usable = [
        integration
        for integration in tenant.integrations.values()
        if (not key.integration_ids or integration.id in key.integration_ids)
        and dialect in dialects_for(integration.provider_type)
    ]
    if len(usable) != 1:
        raise Refusal(
            ErrorKind.NOT_FOUND,
            "This key does not lead to exactly one integration: call /proxy/<integration name>/… instead.",
            code="integration_ambiguous" if usable else "integration_not_found",
        )
    return usable[0]


def endpoint_for(integration: IntegrationSnapshot, method: str, target: Target, dialect: Dialect) -> Endpoint:
    """The operation behind the path. Raises `Refusal` for what is not carried."""
    endpoint = match(integration.provider_type, method, target.path, dialect)
    if endpoint is None:
        if allow := methods_of(integration.provider_type, target.path):
            raise Refusal(ErrorKind.WRONG_METHOD, wrong_method(method, target.path, allow), allow=allow)
        raise Refusal(ErrorKind.NOT_FOUND, unsupported_endpoint(method, target.path), code="unsupported_endpoint")
    return endpoint


def read_call(endpoint: Endpoint, body: bytes) -> CallRequest:
    """What the body asks for. Raises `Refusal` for what is broken, ambiguous or cannot be metered."""
    try:
        request = read_request(endpoint, body)
    except BodyError as error:
        raise Refusal(ErrorKind.INVALID_REQUEST, error.message, param=error.param) from None
    if masked(request.model) != request.model:
        raise Refusal(ErrorKind.INVALID_REQUEST, "A gateway key stands where the model belongs.", param="model")
    if request.refused is not None:
        raise Refusal(
            ErrorKind.INVALID_REQUEST,
            unsupported_field(request.refused),
            code="unsupported_field",
            param=request.refused,
        )
    return request


def ask(
    gateway: Gateway,
    *,
    call_id: UUID,
    tenant: TenantSnapshot,
    key: KeySnapshot,
    integration: IntegrationSnapshot | None,
    name: str,
    endpoint: Endpoint | None,
    request: CallRequest | None,
    address: str,
    attribution: Attribution | None = None,
    is_trial: bool = False,
) -> Arrival:
    """Put the call as the question that the ledger answers. `address` is where it comes from."""
    credential = _open(integration) if integration is not None else None
    moment = now()
    model = request.model if request is not None else ""
    facts = facts_of(
        tenant=tenant,
        key=key,
        integration=integration,
        model=model,
        scope="inference",
        credential_opens=credential is not None,
        address=address,
        now=moment,
        is_trial=is_trial,
    )
    blocked = hard_block(facts, integration=integration, name=name, key=key, model=model, scope="inference")
    demand, price_version = FREE, None
    if blocked is None and integration is not None and endpoint is not None and request is not None:
        price = gateway.book.find(integration.provider_type, model, moment, tenant.id)
        demand = demand_of(endpoint, request, integration, price)
        price_version = price.version if price is not None else None
    asking = Asking(
        call_id=call_id,
        tenant_id=tenant.id,
        config_version=tenant.config_version,
        calendar=tenant.calendar,
        integration_id=integration.id if integration is not None else None,
        key_id=key.id,
        provider=integration.provider_type if integration is not None else "",
        endpoint=endpoint.name if endpoint is not None else "",
        model=model,
        stream=request.stream if request is not None else False,
        # What is hard-blocked needs no window, so it must not wait for one.
        limits=tenant.limits_for(integration.id, key.id, model) if integration is not None and blocked is None else (),
        demand=demand,
        hard_block=blocked,
        checked=facts if blocked is not None else None,
        price_version=price_version,
        metadata=TRIAL if is_trial else {},
        attribution=attribution,
    )
    return Arrival(asking, integration, credential)


def is_sandbox(integration: IntegrationSnapshot) -> bool:
    """Whether the provider is the one built into this server."""
    return integration.base_url == SANDBOX_ORIGIN


def _open(integration: IntegrationSnapshot) -> str | None:
    if integration.credential is None:
        return None
    try:
        return open_credential(integration.credential, may_wait=False)
    except VaultError:
        return None


def _invalid_key() -> Refusal:
    return Refusal(ErrorKind.INVALID_KEY, "This gateway key is not valid.")
