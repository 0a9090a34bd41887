"""A customer at the edge of a strict budget, and the audit of everything that was written about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from django.utils import timezone

from integrations.limit_services import set_limit
from telemetry.services import set_price
from tests.proxy.customers import Customer
from tests.races.clients import CAP, MODEL, Crowd, Told
from tests.servers import Server
from tests.upstream import Upstream

USD_PER_MILLION = {"input": Fraction(1, 100), "output": Fraction(10)}
NANOS_PER_USD = 10**9
LIMITS = ("cost", "tokens", "concurrency")

# An admission is what raises `held`; whatever stands above the limit when it commits is remembered.
WATCH = """
CREATE TABLE race_breaches (window_id bigint, spent bigint, held bigint, amount bigint);
CREATE FUNCTION race_watch() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    counted record;
BEGIN
    SELECT amount, metric INTO counted FROM cus_limits WHERE limit_id = NEW.limit_id AND superseded_at IS NULL;
    IF (NEW.held + CASE WHEN counted.metric = 'concurrency' THEN 0 ELSE NEW.spent END) > counted.amount THEN
        INSERT INTO race_breaches VALUES (NEW.id, NEW.spent, NEW.held, counted.amount);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER race_watch AFTER UPDATE ON cus_windows FOR EACH ROW
    WHEN (NEW.held > OLD.held) EXECUTE FUNCTION race_watch();
"""
BREACHES = """
SELECT breach.* FROM race_breaches breach JOIN cus_windows w ON w.id = breach.window_id WHERE w.tenant_id = %s
"""
SUMS = """
SELECT w.limit_id, l.metric, l.amount, w.spent, w.held,
    (SELECT coalesce(sum(CASE l.metric WHEN 'cost' THEN u.cost_nanos ELSE u.tokens_in + u.tokens_out END), 0)
        FROM cus_llm_usage u WHERE u.tenant_id = w.tenant_id)
    + (SELECT coalesce(sum(CASE l.metric WHEN 'cost' THEN a.cost_nanos ELSE a.tokens_in + a.tokens_out END), 0)
        FROM usage_adjustments a WHERE a.tenant_id = w.tenant_id) AS evidence
FROM cus_windows w JOIN cus_limits l ON l.limit_id = w.limit_id AND l.superseded_at IS NULL
WHERE w.tenant_id = %s
"""


@dataclass(frozen=True, slots=True)
class Books:
    """One customer with a strict budget, and the provider that knows better."""

    customer: Customer
    upstream: Upstream
    budget: int

    @property
    def server(self) -> Server:
        return self.customer.server

    def crowd(self) -> Crowd:
        url = self.server.url + self.customer.path("/v1/chat/completions")
        return Crowd(url, self.customer.key, self.customer.tenant.slug)

    def breaches(self) -> list[dict[str, Any]]:
        """Admissions that stood above their limit when they committed."""
        return self.server.rows(BREACHES, self.customer.tenant.pk)

    def billed(self) -> dict[str, Fraction]:
        """What the provider charges for each attempt it served, in nano-USD, by marker."""
        markers: dict[int, str] = {}
        for entry in self.upstream.requests():
            marker = dict(entry["headers"]).get("x-client-request-id", "")
            if marker.startswith(f"{self.customer.tenant.slug}/"):
                assert marker not in markers.values(), f"{marker} was sent twice"
                markers[entry["n"]] = marker
        answers = (entry for entry in self.upstream.entries("answer") if entry["n"] in markers)
        return {markers[entry["n"]]: price(entry["usage"]) for entry in answers}

    def audit(self, told: list[Told]) -> None:
        """Hold what clients and provider saw against what was written; everything is settled by now."""
        billed = self.billed()
        usage = {str(row["call_id"]): row for row in self._rows("cus_llm_usage")}
        admitted = [row for row in self._rows("cus_enforcement_decisions") if row["result"] in ("allowed", "warned")]
        assert self.breaches() == []
        assert sum(billed.values()) <= self.budget, "the provider charges more than the budget"
        assert len(billed) <= len(admitted), "the provider served what was never admitted"
        assert sorted(usage) == sorted(str(row["call_id"]) for row in admitted)
        for one in told:
            if one.is_acknowledged:
                self._audit_acknowledged(one, usage[one.call_id or ""], billed[one.marker])
        for window in self.server.rows(SUMS, self.customer.tenant.pk):
            assert window["held"] == 0, window
            if window["metric"] in ("cost", "tokens"):
                assert window["spent"] == window["evidence"], window
            assert window["metric"] != "cost" or window["spent"] <= window["amount"], window
        assert sum(row["cost_nanos"] for row in usage.values()) >= sum(billed.values())

    @staticmethod
    def _audit_acknowledged(one: Told, usage: dict[str, Any], billed: Fraction) -> None:
        if usage["quality"] == "missing":
            assert usage["source"] == "sweeper" and usage["cost_nanos"] >= billed, (one, usage)
        else:
            assert (usage["quality"], usage["cost_nanos"]) == ("reported", billed), (one, usage)

    def _rows(self, table: str) -> list[dict[str, Any]]:
        query = f"SELECT * FROM {table} WHERE tenant_id = %s"  # noqa: S608 - a table of ours
        return self.server.rows(query, self.customer.tenant.pk)


def price(usage: dict[str, Any]) -> Fraction:
    """Nano-USD of one answer, exactly."""
    spent = USD_PER_MILLION["input"] * usage["input_tokens"] + USD_PER_MILLION["output"] * usage["output_tokens"]
    return Fraction(spent * NANOS_PER_USD / 10**6)


def open_books(server: Server, upstream: Upstream, *, script: str = "", room: int) -> Books:
    """A customer with a budget of about `room` calls, and two more limits that never bind, all of them watched."""
    customer = Customer.of(server)
    integration = customer.integrate(f"{upstream.url}{script}/model/v1", provider="custom")
    budget = room * int(USD_PER_MILLION["output"] * CAP * NANOS_PER_USD / 10**6)
    with server.django():
        now = timezone.now()
        key = customer.tenant.gateway_keys.get()
        many = 10**9
        set_limit(
            tenant=customer.tenant, scope="integration", integration=integration, metric="tokens", period="month",
            amount=many, now=now,
        )  # fmt: skip
        set_limit(
            tenant=customer.tenant, scope="key", key=key, metric="concurrency", period="total", amount=many, now=now
        )
    customer.limit(budget)
    return Books(customer, upstream, budget)


def prepare(server: Server) -> None:
    """Give the races' model its price, and have the database itself look at every admission that commits."""
    rates = {name: Decimal(rate.numerator) / rate.denominator for name, rate in USD_PER_MILLION.items()}
    with server.django():
        set_price(provider="custom", model=MODEL, rates=rates, starts_at=timezone.now())
    server.rows(WATCH)


@contextmanager
def deliberate_breach(books: Books) -> Iterator[None]:
    """One admission above the limit, to see that the watch sees; undone in the end."""
    raise_held = "UPDATE cus_windows SET held = held + %s WHERE tenant_id = %s"
    books.server.rows(raise_held, books.budget + 10**10, books.customer.tenant.pk)
    yield
    books.server.rows(raise_held, -books.budget - 10**10, books.customer.tenant.pk)
