"""A program with a gateway key that talks to REST."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rest_framework.test import APIClient

from accounts.models import Tenant
from integrations.key_services import create_key
from integrations.limit_services import set_limit
from integrations.limits import Limit
from integrations.models import GatewayKey, Integration
from tests.people import acme, sandbox_of


@dataclass
class Program:
    """The key, what it may reach, and a client that sends it."""

    tenant: Tenant
    integration: Integration
    key: GatewayKey
    client: APIClient = field(repr=False)
    secret: str = field(repr=False)

    def post(self, path: str, body: object = None) -> tuple[int, Any]:
        answer = self.client.post(f"/api/v1/{path}", body, format="json")
        return answer.status_code, answer.json()

    def send(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """Any request with headers of its own: `if_match=…` is `If-Match`."""
        named: Any = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
        return self.client.generic(
            method,
            f"/api/v1/{path}",
            "" if body is None else json.dumps(body),
            content_type="application/json",
            **named,
        )

    def get(self, path: str, **query: str) -> tuple[int, Any]:
        answer = self.client.get(f"/api/v1/{path}", query)
        return answer.status_code, answer.json()

    def call(self, **fields: object) -> dict[str, object]:
        """An estimate of a call to this program's integration."""
        return {"integration_id": str(self.integration.pk), **fields}


def program(*scopes: str, tenant: Tenant | None = None, **fields: Any) -> Program:
    """A program with an integration of its own; with the scope `inference` unless said. Its key has these fields."""
    tenant = tenant or acme()
    integration = sandbox_of(tenant, name=f"prod-{tenant.integrations.count()}")
    key, text = create_key(tenant=tenant, name="app", scopes=list(scopes) or ["inference"], **fields)
    return Program(tenant, integration, key, speaking(text), text)


def speaking(secret: str) -> APIClient:
    """A client that sends this key."""
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


def limit(program: Program, amount: int, metric: str = "cost", period: str = "month", **fields: Any) -> Limit:
    """A limit on all of the tenant's calls."""
    return set_limit(
        tenant=program.tenant, scope="tenant", metric=metric, period=period, amount=amount, now=datetime.now(UTC),
        **fields,
    )  # fmt: skip
