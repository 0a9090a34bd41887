"""Customers of a running server: a tenant each, so that what one test does is nobody else's."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Self
from uuid import uuid4

from django.utils import timezone

from accounts.models import Tenant
from accounts.services import create_tenant
from integrations.key_services import create_key
from integrations.limit_services import set_limit
from integrations.limits import Limit
from integrations.models import GatewayKey, Integration
from integrations.services import create_integration
from tests.servers import Server

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Customer:
    """A tenant with one key to everything it has."""

    server: Server
    tenant: Tenant
    key: str

    @classmethod
    def of(cls, server: Server, **key: Any) -> Self:
        slug = f"customer-{next(_numbers)}"
        with server.django():
            tenant = create_tenant(name=slug, slug=slug)
            return cls(server, tenant, create_key(tenant=tenant, name="main", **key)[1])

    def integrate(self, base_url: str, *, provider: str = "openai", name: str = "prod", **fields: Any) -> Integration:
        """Register a provider that is reached at `base_url`, with a credential like none other unless one is given."""
        fields.setdefault("credential", None if provider == "sandbox" else f"sk-canary-{uuid4().hex}")
        with self.server.django():
            return create_integration(
                tenant=self.tenant,
                name=name,
                provider_type=provider,
                base_url=base_url,
                **fields,
            )

    def another_key(self, **fields: Any) -> tuple[GatewayKey, str]:
        """One more key, and its text."""
        with self.server.django():
            return create_key(tenant=self.tenant, **({"name": "another"} | fields))

    def limit(self, amount: int, *, metric: str = "cost", period: str = "month", mode: str = "strict") -> Limit:
        """A limit on the whole tenant."""
        with self.server.django():
            return set_limit(
                tenant=self.tenant,
                scope="tenant",
                metric=metric,
                period=period,
                amount=amount,
                mode=mode,
                now=timezone.now(),
            )

    def path(self, native: str, *, name: str = "prod") -> str:
        """Where one of the integrations is called."""
        return f"/proxy/{name}{native}"

    def usage(self) -> list[dict[str, Any]]:
        """Every usage row, once all calls are settled and nothing is held."""
        self.server.wait_settled()
        assert self.held() == 0
        return self._rows("SELECT * FROM cus_llm_usage WHERE tenant_id = %s ORDER BY call_id")

    def only_usage(self) -> dict[str, Any]:
        """The usage row of the only call."""
        (row,) = self.usage()
        return row

    def decisions(self) -> Sequence[dict[str, Any]]:
        """Every decision so far."""
        return self._rows("SELECT * FROM cus_enforcement_decisions WHERE tenant_id = %s ORDER BY call_id")

    def held(self) -> int:
        """What the windows hold, in whatever units."""
        found = self._rows("SELECT coalesce(sum(held), 0) AS held FROM cus_windows WHERE tenant_id = %s")
        return int(found[0]["held"])

    def spent(self) -> int:
        """What the only window has spent."""
        (window,) = self._rows("SELECT spent FROM cus_windows WHERE tenant_id = %s")
        return int(window["spent"])

    def _rows(self, query: str) -> list[dict[str, Any]]:
        return self.server.rows(query, self.tenant.pk)
