"""What is changed holds from the next admission on, in every worker, whatever a worker remembers."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from django.utils import timezone

from accounts import services
from accounts.models import Tenant
from accounts.services import CONFIG_CHANNEL
from integrations.key_services import freeze_key, revoke_key, update_key
from integrations.models import GatewayKey, Integration
from integrations.services import delete_integration, disable_integration
from tests.races.books import Books, open_books
from tests.races.clients import Crowd
from tests.servers import Server
from tests.upstream import Upstream

CALLS = 60


async def answers(books: Books) -> Counter[int]:
    """Statuses of calls that reach all workers."""
    async with books.crowd() as crowd:
        return Counter(told.status for told in await crowd.calls(CALLS))


async def under_fire(books: Books, change: Callable[[], None]) -> set[int]:
    """Change something between calls that never pause; the statuses of those that began after it."""
    async with books.crowd() as crowd:
        stop = asyncio.Event()
        firing = [asyncio.create_task(keep_calling(crowd, stop)) for _ in range(8)]
        await crowd.calls(CALLS)
        await asyncio.to_thread(change)
        before = len(crowd.told)
        await crowd.calls(CALLS)
        stop.set()
        await asyncio.gather(*firing)
        return {told.status for told in crowd.told[before:]}


async def keep_calling(crowd: Crowd, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await crowd.call()


def revoke(tenant: Tenant) -> None:
    revoke_key(key=GatewayKey.objects.for_tenant(tenant.pk).get(), reason="leaked", now=timezone.now())


def freeze(tenant: Tenant) -> None:
    freeze_key(key=GatewayKey.objects.for_tenant(tenant.pk).get(), now=timezone.now())


def bind_elsewhere(tenant: Tenant) -> None:
    update_key(key=GatewayKey.objects.for_tenant(tenant.pk).get(), allowed_networks=["192.0.2.0/24"])


def disable(tenant: Tenant) -> None:
    disable_integration(integration=Integration.objects.for_tenant(tenant.pk).get())


def delete(tenant: Tenant) -> None:
    delete_integration(integration=Integration.objects.for_tenant(tenant.pk).get(), now=timezone.now())


@pytest.mark.parametrize(
    ("change", "status", "channel"),
    [
        (revoke, 401, CONFIG_CHANNEL),
        (revoke, 401, "nobody_listens"),
        (freeze, 403, "nobody_listens"),
        (bind_elsewhere, 403, "nobody_listens"),
        (disable, 403, "nobody_listens"),
        (delete, 404, "nobody_listens"),
    ],
)
def test_a_change_refuses_every_call_that_begins_after_it(
    crew: Server,
    upstream: Upstream,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Tenant], None],
    status: int,
    channel: str,
) -> None:
    # That workers hear of changes is an economy: they must hold where no notification arrives.
    monkeypatch.setattr(services, "CONFIG_CHANNEL", channel)
    books = open_books(crew, upstream, room=10**6)

    def in_database() -> None:
        with crew.django():
            change(books.customer.tenant)

    # A worker that finds its memory outdated in the middle of a call may ask the client to retry.
    assert asyncio.run(under_fire(books, in_database)) <= {status, 503}
    assert asyncio.run(answers(books)) == {status: CALLS}
    crew.wait_settled()


def test_a_lowered_budget_refuses_and_a_raised_one_lets_pass_at_once(crew: Server, upstream: Upstream) -> None:
    books = open_books(crew, upstream, room=10**6)
    assert asyncio.run(answers(books)) == {200: CALLS}
    spent = sum(row["cost_nanos"] for row in books.customer.usage())
    books.customer.limit(spent)
    assert asyncio.run(answers(books)) == {429: CALLS}
    books.customer.limit(spent * 100)
    assert asyncio.run(answers(books)) == {200: CALLS}


def test_the_first_calls_of_a_customer_make_one_window_of_each_limit(crew: Server, upstream: Upstream) -> None:
    for _ in range(3):
        books = open_books(crew, upstream, room=20)
        told = asyncio.run(answers(books))
        assert set(told) == {200, 429} and told[200] >= 20
        books.customer.usage()
        windows = crew.rows("SELECT limit_id FROM cus_windows WHERE tenant_id = %s", books.customer.tenant.pk)
        assert len(windows) == len({window["limit_id"] for window in windows}) == 3
        assert sum(books.billed().values()) <= books.budget
