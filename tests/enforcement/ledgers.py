"""A ledger on the test database, and calls to put into it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID

from django.db import connection
from msgspec.structs import replace
from psycopg.conninfo import make_conninfo

from accounts.ids import uuid7
from accounts.models import Tenant
from enforcement.demand import Demand
from enforcement.entries import Admission, Asking, Settlement
from enforcement.ledger import Ledger, LedgerSettings
from enforcement.outages import JournalSettings
from integrations.limit_services import set_limit
from integrations.limits import Limit
from integrations.snapshot_store import load_tenant
from telemetry.entries import UsageEntry

INTEGRATION = UUID(int=1)
KEY = UUID(int=2)


def database_url() -> str:
    """How psycopg reaches the test database."""
    parts = connection.get_connection_params()
    names = ("host", "port", "user", "password", "dbname")
    return make_conninfo(**{name: parts[name] for name in names if parts.get(name)})


@contextmanager
def ledger(
    *,
    grace_seconds: float = 0.5,
    interval_seconds: float = 3600,
    deliver: Callable[[Callable[[], None]], object] = lambda resolve: resolve(),
    journal: JournalSettings | None = None,
) -> Iterator[Ledger]:
    """A running ledger, stopped in the end."""
    url = database_url()
    made = Ledger(
        LedgerSettings(
            url=url,
            reservation_seconds=600,
            sweep_interval_seconds=interval_seconds,
            sweep_grace_seconds=grace_seconds,
            journal=journal,
        ),
        deliver=deliver,
    )
    made.start()
    assert made.wait_ready(10)
    try:
        yield made
    finally:
        made.stop()


def limit(tenant: Tenant, *, amount: int, metric: str = "cost", period: str = "month", mode: str = "strict") -> Limit:
    """A limit on the whole tenant."""
    return set_limit(
        tenant=tenant, scope="tenant", metric=metric, period=period, amount=amount, mode=mode, now=datetime.now(UTC)
    )


def demand(nanos: int, *, tokens: int = 100) -> Demand:
    """A call of exactly that bound."""
    return Demand(input_tokens=tokens, output_tokens=0, cost_at=lambda output: nanos)


def asking(tenant: Tenant, nanos: int = 1_000, **changes: object) -> Asking:
    """A call under the tenant's limits as they stand."""
    snapshot = load_tenant(tenant.pk)
    made = Asking(
        call_id=uuid7(),
        tenant_id=tenant.pk,
        config_version=snapshot.config_version,
        calendar=snapshot.calendar,
        integration_id=INTEGRATION,
        key_id=KEY,
        provider="sandbox",
        endpoint="chat.completions",
        model="sandbox-small",
        stream=False,
        limits=snapshot.limits,
        demand=demand(nanos),
    )
    return replace(made, **changes)


def admit(book: Ledger, call: Asking) -> Admission:
    """The decision over one call."""
    outcome = book.admit(call).result(10)
    assert isinstance(outcome, Admission), outcome
    return outcome


def settlement(call: Asking, admission: Admission, nanos: int = 1_000, **changes: object) -> Settlement:
    """The call ended and cost that much."""
    usage = UsageEntry(
        tenant_id=call.tenant_id,
        call_id=call.call_id,
        integration_id=INTEGRATION,
        key_id=KEY,
        provider=call.provider,
        endpoint=call.endpoint,
        model=call.model,
        stream=call.stream,
        dispatched=True,
        tokens_in=60,
        tokens_out=40,
        cost_nanos=nanos,
        cost_status="priced",
        quality="reported",
        policy_result="allowed",
        source="proxy",
        created_at=admission.decided_at,
    )
    return Settlement(replace(usage, **changes), admission.holds)
