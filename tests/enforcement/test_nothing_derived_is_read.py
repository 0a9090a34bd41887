"""No decision reads what is derived from evidence: it is reports, which may be late, wrong, or gone."""

import psycopg
import pytest

from enforcement.codes import Result
from enforcement.models import Window
from telemetry.models import UsageRecord
from tests.console.evidence import carried
from tests.enforcement.ledgers import INTEGRATION, admit, asking, database_url, ledger, limit, settlement
from tests.people import acme
from tests.rest.programs import program
from tests.telemetry.sums import drain

pytestmark = pytest.mark.django_db(transaction=True)


def test_calls_are_decided_while_nobody_can_read_it() -> None:
    """A decision that wanted to would wait, and give up after less than a second."""
    asker = program("inference", "read", tenant=acme())
    tenant = asker.tenant
    carried(tenant, integration_id=INTEGRATION, cost_nanos=3_000)
    drain()
    for metric, amount in (("cost", 10_000), ("tokens", 1_000_000), ("requests", 10_000)):
        limit(tenant, amount=amount, metric=metric)
    with ledger() as book, psycopg.connect(database_url()) as nobody_else:
        before = asking(tenant, 2_000)
        admission = admit(book, before)
        book.settle(settlement(before, admission, 2_000))
        assert book.flush()
        nobody_else.execute(
            "LOCK TABLE cus_usage_daily, cus_usage_quarters, cus_usage_stretches, cus_attributed_hours, "
            "cus_attributed_days IN ACCESS EXCLUSIVE MODE"
        )
        assert admit(book, asking(tenant, 2_000)).decision.result == Result.ALLOWED
        # Windows that open now take what was used before from evidence.
        limit(tenant, amount=9_000, period="day")
        assert admit(book, asking(tenant, 2_500)).decision.result == Result.THROTTLED
        assert admit(book, asking(tenant, 5_001)).decision.result == Result.BLOCKED
        assert asker.post("enforcement/check", asker.call(estimated_cost_cents=1))[0] == 200
        assert asker.get("enforcement/status")[0] == 200
        nobody_else.rollback()
    assert Window.objects.filter(spent__gte=5_000).exists()
    assert UsageRecord.objects.count() == 2
