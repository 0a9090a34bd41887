"""Facts as evidence announces them, and the values that a scrape shows."""

from typing import Any
from uuid import UUID

from prometheus_client.parser import text_string_to_metric_families

from telemetry.announcements import DecisionFact, UsageFact

TENANT = UUID(int=1)
INTEGRATION = UUID(int=2)


def usage(**changes: Any) -> UsageFact:
    """A call to `gpt-4o` that used 1,000 tokens in and 20 out, cost $0.0027 and took 1.5 s."""
    values: dict[str, Any] = {
        "tenant_id": TENANT,
        "integration_id": INTEGRATION,
        "provider": "openai",
        "model": "gpt-4o",
        "policy_result": "allowed",
        "dispatched": True,
        "tokens_in": 1000,
        "tokens_out": 20,
        "token_classes": {"input_text": 900, "cache_read": 100, "output_text": 20},
        "cost_nanos": 2_700_000,
        "quality": "reported",
        "error_code": None,
        "latency_ms": 1500,
        "ttft_ms": 300,
    }
    return UsageFact(**{**values, **changes})


def decision(result: str, code: str, integration_id: UUID | None = INTEGRATION) -> DecisionFact:
    return DecisionFact(tenant_id=TENANT, integration_id=integration_id, result=result, code=code)


class Scrape:
    """The values of one exposition."""

    def __init__(self, exposition: str) -> None:
        self.samples = [sample for family in text_string_to_metric_families(exposition) for sample in family.samples]

    def __call__(self, name: str, /, **labels: str) -> float | None:
        """The sum over the series of `name` that have these labels, `None` if there is none."""
        found = [
            sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None
