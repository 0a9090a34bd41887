"""A customer at the edge of a strict budget, and the audit of everything that was written about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

from django.utils import timezone

from integrations.limit_services import set_limit
from telemetry.services import set_price
from tests.proxy.customers import Customer
from tests.races.clients import CAP, MODEL, Crowd, Told, Way
from tests.servers import Server
from tests.upstream import Upstream

USD_PER_MILLION = {"input": Fraction(1, 100), "output": Fraction(10)}
NANOS_PER_USD = 10**9
NANOS_PER_CALL = int(USD_PER_MILLION["output"] * CAP * NANOS_PER_USD / 10**6)
"""What a call costs that uses all of its output."""

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
REFUSED_BY = """
SELECT DISTINCT split_part(reasons->0->>'message', ' ', 2) AS scope FROM cus_enforcement_decisions
WHERE tenant_id = %s AND code IN ('budget_exceeded', 'budget_held')
"""
SUMS = """
WITH counted AS (
    SELECT tenant_id, integration_id, key_id, cost_nanos, tokens_in + tokens_out AS tokens FROM cus_llm_usage
    UNION ALL
    SELECT tenant_id, u.integration_id, u.key_id, a.cost_nanos, a.tokens_in + a.tokens_out
    FROM usage_adjustments a JOIN cus_llm_usage u USING (tenant_id, call_id)
)
SELECT w.limit_id, l.metric, l.amount, w.spent, w.held,
    (SELECT coalesce(sum(CASE l.metric WHEN 'cost' THEN c.cost_nanos ELSE c.tokens END), 0) FROM counted c
        WHERE c.tenant_id = w.tenant_id AND c.integration_id = coalesce(l.integration_id, c.integration_id)
            AND c.key_id = coalesce(l.key_id, c.key_id)) AS evidence
FROM cus_windows w JOIN cus_limits l ON l.limit_id = w.limit_id AND l.superseded_at IS NULL
WHERE w.tenant_id = %s
"""


@dataclass(frozen=True, slots=True)
class Books:
    """One customer with a strict budget, and the provider that knows better."""

    customer: Customer
    upstream: Upstream
    budget: int
    ways: tuple[Way, ...]
    levels: tuple[tuple[str, int], ...] = ()
    """More budgets: what stands in the markers of the calls that each counts, and its amount."""

    @property
    def server(self) -> Server:
        return self.customer.server

    def crowd(self) -> Crowd:
        return Crowd(*self.ways)

    def refused_by(self) -> set[str]:
        """The scopes of the budgets that refused calls, as clients were told."""
        told = self.server.rows(REFUSED_BY, self.customer.tenant.pk)
        return {row["scope"] for row in told}

    def windows(self) -> list[dict[str, Any]]:
        return self._rows("cus_windows")

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
        for part, budget in (("/", self.budget), *self.levels):
            charged = sum(cost for marker, cost in billed.items() if part in marker)
            assert charged <= budget, f"the provider charges more than the budget of {part}"
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
    budget = room * NANOS_PER_CALL
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
    return Books(customer, upstream, budget, (way(customer, "prod", customer.key),))


def way(customer: Customer, integration: str, key: str, name: str = "") -> Way:
    """How calls of this key get to this integration; `name` stands in their markers after the customer's."""
    url = customer.server.url + customer.path("/v1/chat/completions", name=integration)
    return Way(url, key, customer.tenant.slug + name)


def open_three_levels(server: Server, upstream: Upstream, *, script: str, calls: int) -> Books:
    """A customer with two integrations and two keys, called by all ways alike, and three budgets for so many calls.

    The key `main` and the integration `other` run dry first, each at half of its calls; what then still comes, of
    the other key to the other integration, finds the tenant's budget run dry, too.
    """
    books = open_books(server, upstream, script=script, room=calls * 55 // 100)
    customer, quarter = books.customer, calls // 4 * NANOS_PER_CALL
    other = customer.integrate(f"{upstream.url}{script}/model/v1", provider="custom", name="other")
    _, another_key = customer.another_key()
    with server.django():
        main = customer.tenant.gateway_keys.get(name="main")
        common: dict[str, Any] = {"tenant": customer.tenant, "metric": "cost", "period": "month", "now": timezone.now()}
        set_limit(scope="key", key=main, amount=quarter, **common)
        set_limit(scope="integration", integration=other, amount=quarter, **common)
    ways = tuple(
        way(customer, integration, key, f"/{integration}/{name}")
        for integration in ("prod", "other")
        for name, key in (("main", customer.key), ("another", another_key))
    )
    return replace(books, ways=ways, levels=(("/main/", quarter), ("/other/", quarter)))


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
