"""The life of a call: receive, authenticate, read, admit, forward, relay, witness."""

import asyncio
import time
from functools import partial

from accounts.ids import uuid7
from enforcement.entries import LedgerUnavailable, Stale
from integrations.key_uses import KEY_USES
from integrations.models import OutagePolicy
from integrations.snapshot_store import matches
from proxy import arrivals
from proxy.answers import CLIENT, Client, Headers, Receive, Scope, Send, send_answer
from proxy.arrivals import Arrival
from proxy.attribution import attribution_of
from proxy.bodies import ClientLeft, read_body
from proxy.carriage import Carriage
from proxy.dialects import ErrorKind, render_error
from proxy.gateway import Gateway
from proxy.patience import patience_of
from proxy.refusals import Refusal, refusal_of

MOST_RELOADS = 8
# Behind others a turn may be long in coming.
LOOK_UP_SECONDS = 1.0


class Call:
    """One call from its arrival to its admission; a `Carriage` takes it from there."""

    def __init__(self, gateway: Gateway, scope: Scope, receive: Receive, send: Send) -> None:
        self.gateway = gateway
        self.scope = scope
        self.receive = receive
        self.send = send
        self.call_id = uuid7()
        self.began = time.monotonic()
        self.target = arrivals.target_of(scope["path"])
        self.dialect = arrivals.guessed_dialect(scope, self.target)
        self.patience_ends: float | None = None
        self.decision_header: bytes | None = None
        self.remaining: int | None = None
        """Nano-USD that the tightest budget of this call has left, if one counts it."""
        self._carriage: Carriage | None = None
        self._refused = False
        self._is_trial = False

    @property
    def has_begun(self) -> bool:
        """The client may have seen the beginning of an answer."""
        return self._refused or (self._carriage is not None and self._carriage.started)

    async def run(self) -> None:
        """Carry the call to its end, or tell the client why not."""
        try:
            await self._carry()
        except Refusal as refusal:
            await self._refuse(refusal)
        except LedgerUnavailable:
            message = "The ledger cannot be reached, so no call can be admitted. Retry shortly."
            await self._refuse(_unavailable(message))
        except ClientLeft:
            return

    async def _carry(self) -> None:
        gateway, scope = self.gateway, self.scope
        tenant, key = await arrivals.authenticate(gateway, scope["headers"], scope["query_string"])
        address = gateway.address_of(scope)
        integration = arrivals.integration_for(tenant, key, self.target, self.dialect)
        endpoint, request, body = None, None, b""
        if integration is not None:
            endpoint = arrivals.endpoint_for(integration, scope["method"], self.target, self.dialect)
            self.dialect = endpoint.dialect
            if endpoint.has_body:
                client: Client | None = scope.get(CLIENT)
                body = await read_body(
                    scope["headers"],
                    self.receive,
                    cap=gateway.environment.max_body_bytes,
                    is_here=client is not None and client.has_asked,
                )
            request = arrivals.read_call(endpoint, body)
        attribution = attribution_of(scope["headers"], request)
        for _ in range(MOST_RELOADS):
            if integration is not None:
                await arrivals.fetch_credential(gateway, integration)
            ask = partial(
                arrivals.ask,
                gateway,
                call_id=self.call_id,
                tenant=tenant,
                key=key,
                integration=integration,
                name=self.target.name or "",
                endpoint=endpoint,
                request=request,
                address=address,
                attribution=attribution,
            )
            arrival = ask()
            if arrival.is_in_error and await self._may_try(trial := ask(is_trial=True)):
                arrival = trial
            try:
                outcome = await gateway.ledger.admit_on_loop(arrival.asking, self)
            except LedgerUnavailable:
                if integration is None or integration.outage_policy != OutagePolicy.ALLOW:
                    raise
                outcome = await gateway.ledger.admit_degraded(arrival.asking)
            if not isinstance(outcome, Stale):
                break
            found = await gateway.load_key(key.public_id, key.digest)
            # The key may have another secret since.
            if found is None or not matches(found[1], key.digest):
                raise Refusal(ErrorKind.INVALID_KEY, "This gateway key is not valid.")
            tenant, key = found
            integration = arrivals.integration_for(tenant, key, self.target, self.dialect)
            if integration is not None and endpoint is None:
                raise _unavailable("The integration was made while the call arrived. Retry.")
        else:
            raise _unavailable("The configuration changes faster than it can be read. Retry.")
        KEY_USES.note(key.public_id, outcome.decided_at, address)
        self.remaining = outcome.cost_remaining_nanos
        self.decision_header = f"{outcome.decision.result};{outcome.decision.code}".encode()
        if outcome.degraded:
            self.decision_header += b";degraded"
        if not outcome.decision.result.goes_ahead:
            raise refusal_of(outcome.decision)
        assert endpoint is not None and request is not None, "what was admitted was read"
        self._carriage = Carriage(
            gateway=gateway,
            scope=scope,
            receive=self.receive,
            send=self.send,
            began=self.began,
            own_headers=self.own_headers(),
            arrival=arrival,
            admission=outcome,
            endpoint=endpoint,
            request=request,
            body=body,
        )
        await self._carriage.run()

    async def _may_try(self, trial: Arrival) -> bool:
        """Whether this call may find out if its integration still is in error."""
        if trial.asking.hard_block is not None or trial.integration is None:
            return False
        if not self._is_trial:
            self._is_trial = await self.gateway.may_try(trial.asking.tenant_id, trial.integration.id)
        return self._is_trial

    async def wait(self, turn: "asyncio.Future[None]") -> bool:
        """Wait for a turn at what calls in flight hold; whether to wait for another. Raises `ClientLeft`."""
        if self.patience_ends is None:
            self.patience_ends = time.monotonic() + patience_of(self.scope["headers"])
        client: Client | None = self.scope.get(CLIENT)
        try:
            while (left := self.patience_ends - time.monotonic()) > 0:
                await asyncio.wait([turn], timeout=min(left, LOOK_UP_SECONDS))
                if client is not None and client.left:
                    raise ClientLeft
                if client is not None and client.is_last:
                    return False
                if turn.done():
                    return True
            return False
        finally:
            # A turn that was not taken gives its place to the next.
            turn.cancel()

    def own_headers(self) -> Headers:
        """What every answer of a call carries."""
        headers: Headers = [(b"x-customhouse-call-id", str(self.call_id).encode())]
        if self.decision_header is not None:
            headers.append((b"x-customhouse-decision", self.decision_header))
        if self.remaining is not None:
            headers.append((b"x-customhouse-cost-remaining-nanos", b"%d" % self.remaining))
        return headers

    async def _refuse(self, refusal: Refusal) -> None:
        answer = render_error(
            self.dialect,
            refusal.kind,
            refusal.message,
            request_id=str(self.call_id),
            code=refusal.code,
            param=refusal.param,
            retry_after=refusal.retry_after,
            may_be_billed=refusal.may_be_billed,
            allow=refusal.allow,
        )
        self._refused = True
        await send_answer(self.send, answer.status, [*answer.headers, *self.own_headers()], answer.body)


def _unavailable(message: str) -> Refusal:
    return Refusal(ErrorKind.UNAVAILABLE, message, code="evidence_unavailable", retry_after=1)
