"""Drives one call in this very process and interferes at a chosen suspension, so that no place is chosen by hand."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
import uvloop
from django.conf import settings
from django.db import connection, connections
from django.utils import timezone

from accounts.services import create_tenant
from enforcement.entries import Admission
from integrations.gateway_keys import public_id_of
from integrations.key_services import create_key
from integrations.limit_services import set_limit
from integrations.services import create_integration
from integrations.snapshot import KeySnapshot, TenantSnapshot
from proxy import gateway
from proxy.answers import CLIENT, Client
from proxy.calls import Call
from proxy.gateway import Gateway
from proxy.http1 import Connection
from telemetry.services import set_price
from tests.enforcement.ledgers import asking, settlement
from tests.processes import own_sockets
from tests.proxy.calling import MODELS, PATHS, WIRES, request
from tests.upstream import Upstream

SECONDS = 10.0
SWEEP_SECONDS = 0.02
NOWHERE = 0
"""The suspension that no call has."""
BUDGET = 10**12
REQUEST_PIECE = 8
"""Bytes of a request that arrive together."""
RATES = {"input": Decimal(1), "output": Decimal(2)}
BOOKS = """
SELECT decision.result, count(usage.call_id) AS rows, bool_or(usage.dispatched) AS dispatched,
    sum(usage.cost_nanos) AS cost, (SELECT count(*) FROM cus_reservations WHERE call_id = decision.call_id) AS held
FROM cus_enforcement_decisions AS decision LEFT JOIN cus_llm_usage AS usage USING (tenant_id, call_id)
WHERE decision.call_id = %s GROUP BY decision.result, decision.call_id
"""
WINDOWS = "SELECT coalesce(sum(held), 0), coalesce(sum(spent), 0) FROM cus_windows"
SPENT = "SELECT coalesce(sum(cost_nanos), 0) FROM cus_llm_usage"


@dataclass(slots=True)
class Run:
    """One call, and what it was seen to do."""

    call: Call
    loop: asyncio.AbstractEventLoop
    client: Client = field(default_factory=Client)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client without a `Client` leaves, which the server then tells by a message."""
    task: asyncio.Task[None] | None = None
    suspensions: int = 0
    interfered: bool = False
    written: bool = False
    """The request was given to a connection."""
    sent: list[dict[str, Any]] = field(default_factory=list)

    def cancel(self) -> None:
        """Cancel the call, as a server does that will not wait any longer."""
        assert self.task is not None, "the call has begun"
        self.task.cancel()


Interference = Callable[[Run, Any], None]
"""What happens at a suspension; it is told what the call waits for."""


def cancel_while_it_waits(run: Run, waits_for: Any) -> None:
    run.cancel()


def cancel_as_it_wakes(run: Run, waits_for: Any) -> None:
    """Cancel between the moment in which the call has what it waited for and the one in which it goes on with it."""
    if waits_for is None:
        run.cancel()
    else:
        waits_for.add_done_callback(lambda _: run.cancel())


def leave(run: Run, waits_for: Any) -> None:
    run.loop.call_soon(run.client.leave)


def say_that_it_left(run: Run, waits_for: Any) -> None:
    run.loop.call_soon(run.gone.set)


class Stepped(Coroutine[Any, Any, None]):
    """A coroutine that counts how often it is suspended, and interferes at one of the times."""

    def __init__(self, inner: Coroutine[Any, Any, None], run: Run, at: int, interfere: Interference) -> None:
        self._inner = inner
        self._run = run
        self._at = at
        self._interfere = interfere

    def send(self, value: Any) -> Any:
        return self._suspended(self._inner.send(value))

    def throw(self, *error: Any) -> Any:
        return self._suspended(self._inner.throw(*error))

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._inner.__await__()

    def _suspended(self, waits_for: Any) -> Any:
        self._run.suspensions += 1
        if self._run.suspensions == self._at:
            self._run.interfered = True
            self._interfere(self._run, waits_for)
        return waits_for


class Stage:
    """A gateway in this process over the test database, and a customer with a strict budget."""

    def __init__(self, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, *, on_disconnect: str = "drain") -> None:
        self._ports = (upstream.port, upstream.other_port)
        changes = {
            "allow_upstreams": [f"127.0.0.1:{port}" for port in self._ports],
            "sweep_interval_seconds": SWEEP_SECONDS,
        }
        monkeypatch.setattr(settings, "ENVIRONMENT", settings.ENVIRONMENT.model_copy(update=changes))
        # One thread, whose connection can be closed in the end.
        monkeypatch.setattr(gateway, "LOADING_THREADS", 1)
        for wire in WIRES:
            set_price(provider=wire, model=MODELS[wire], rates=RATES, starts_at=timezone.now())
        self.tenant = create_tenant(name="stage", slug="stage")
        self.key = create_key(tenant=self.tenant, name="main")[1]
        for wire in WIRES:
            create_integration(
                tenant=self.tenant,
                name=wire,
                provider_type=wire,
                base_url=upstream.url,
                credential=f"sk-stage-{wire}-0123456789",
                on_disconnect=on_disconnect,
            )
        self.limit(BUDGET)
        self._outdated: tuple[TenantSnapshot, KeySnapshot] | None = None
        self._current: Run | None = None
        self._send = Connection.send
        monkeypatch.setattr(Connection, "send", self._note_written())
        self._thread = threading.get_ident()
        self.loop = uvloop.new_event_loop()
        self.gateway = self.loop.run_until_complete(self._start())
        assert self.gateway.ledger.wait_ready(SECONDS)

    def limit(self, amount: int) -> None:
        """Limit the customer's cost from now on."""
        set_limit(
            tenant=self.tenant,
            scope="tenant",
            metric="cost",
            period="month",
            amount=amount,
            mode="strict",
            now=timezone.now(),
        )

    def run(
        self,
        wire: str,
        *,
        stream: bool,
        script: str,
        at: int,
        interfere: Interference,
        tells: bool = False,
        integration: str | None = None,
    ) -> Run:
        """Make one call in a gateway that knows nothing yet, and see it end. `tells`: its leave comes as a message.

        `integration` is the name of another one than that of the wire.
        """
        body = json.dumps(request(wire, stream=stream, text="[out:4]")).encode()
        headers = {"authorization": f"Bearer {self.key}", "idempotency-key": f"script:{script}"}
        scope = {
            "path": f"/proxy/{integration or wire}{PATHS[wire]}",
            "method": "POST",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        run = self.loop.run_until_complete(self._run(scope, body, at, interfere, tells))
        self.wait_for_books(run)
        return run

    def outdate(self) -> None:
        """Let every call begin with a configuration that is no more."""
        public_id = public_id_of(self.key)
        assert public_id is not None
        self._outdated = self.loop.run_until_complete(self.gateway.load_key(public_id))
        self.limit(BUDGET - 1)

    @contextmanager
    def budget_held(self) -> Iterator[None]:
        """Let a call in flight hold all of the budget but a dollar's billionth."""
        holder = asking(self.tenant, BUDGET - 1)
        ledger = self.gateway.ledger
        held = self.loop.run_until_complete(asyncio.wrap_future(ledger.admit(holder), loop=self.loop))
        assert isinstance(held, Admission)
        yield
        ledger.settle(settlement(holder, held))
        assert ledger.flush(SECONDS)

    def cancel_from_anywhere(self) -> None:
        """Cancel the call that is under way, from whichever thread, and wait until that is done."""
        run = self._current
        if run is None or run.task is None or run.task.done():
            return
        if threading.get_ident() == self._thread:
            run.cancel()
            return
        cancelled = threading.Event()
        self.loop.call_soon_threadsafe(run.cancel)
        self.loop.call_soon_threadsafe(cancelled.set)
        assert cancelled.wait(SECONDS)

    def wait_for_books(self, run: Run) -> None:
        """Let everything settle that the call has begun."""
        # A call that is gone may be about to be admitted all the same.
        assert self.gateway.ledger._admit_lane.wait_until_empty(SECONDS)
        assert self.gateway.ledger.flush(SECONDS)
        deadline = time.monotonic() + SECONDS
        while any(row["held"] for row in self.books(run)):
            assert time.monotonic() < deadline, f"suspension {run.suspensions}: {self.books(run)}"
            # What the ledger answers comes over the loop.
            self.loop.run_until_complete(asyncio.sleep(0.005))

    def books(self, run: Run) -> list[dict[str, Any]]:
        """The call's decision, with the number of its usage rows and whether it holds anything."""
        with connection.cursor() as cursor:
            cursor.execute(BOOKS, [run.call.call_id])
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def totals(self) -> tuple[int, int, int]:
        """What all windows hold and have spent, and what all calls have cost."""
        with connection.cursor() as cursor:
            cursor.execute(WINDOWS)
            held, spent = cursor.fetchone()
            cursor.execute(SPENT)
            return int(held), int(spent), int(cursor.fetchone()[0])

    def close(self) -> None:
        self.loop.run_until_complete(self.gateway.in_thread(connections.close_all))
        self.loop.run_until_complete(self.gateway.stop())
        self.loop.close()

    async def _start(self) -> Gateway:
        gateway = Gateway()
        await gateway.start()
        return gateway

    async def _run(self, scope: dict[str, Any], body: bytes, at: int, interfere: Interference, tells: bool) -> Run:
        gateway = self.gateway
        gateway.snapshots.drop_all()
        if self._outdated is not None:
            gateway.snapshots.keep(*self._outdated)
        gateway.upstreams._addresses.clear()
        messages = [body[start : start + REQUEST_PIECE] for start in range(0, len(body), REQUEST_PIECE)]

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0)
            if messages:
                return {"type": "http.request", "body": messages.pop(0), "more_body": bool(messages)}
            await run.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            await asyncio.sleep(0)
            run.sent.append(message)

        run = Run(Call(gateway, scope, receive, send), self.loop)
        if not tells:
            scope[CLIENT] = run.client
        self._current = run
        run.task = self.loop.create_task(Stepped(run.call.run(), run, at, interfere))
        await asyncio.wait({run.task}, timeout=SECONDS)
        assert run.task.done(), f"the call does not end after suspension {at}"
        await gateway.upstreams.close()
        deadline = time.monotonic() + SECONDS
        while left := self._left():
            assert time.monotonic() < deadline, f"suspension {at} leaves {left}"
            await asyncio.sleep(0.001)
        return run

    def _left(self) -> list[Any]:
        """Tasks and connections of a call that has ended."""
        tasks: list[Any] = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        return tasks + [each for each in own_sockets() if each.peer_port in self._ports]

    def _note_written(self) -> Callable[[Connection, bytes], None]:
        def send(connection: Connection, data: bytes) -> None:
            assert self._current is not None, "somebody sends"
            self._current.written = True
            self._send(connection, data)

        return send
