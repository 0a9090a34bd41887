"""An admitted call between provider and client: forward, relay, witness.

Whatever happens here, the call is witnessed exactly once, and always before the client can know that it has ended.
"""

import asyncio
import logging
import time
from contextlib import suppress

from enforcement import faults
from enforcement.entries import Admission, Ended
from integrations.custody import is_refused_by_provider
from integrations.models import OnDisconnect
from proxy import arrivals
from proxy.answers import CLIENT, Client, Headers, Receive, Scope, Send, send_answer
from proxy.arrivals import Arrival
from proxy.dialects import (
    CallRequest,
    Dialect,
    Endpoint,
    ErrorKind,
    credential,
    join,
    prepare_body,
    reader,
    render_error,
    stream_error,
    to_client,
    to_provider,
)
from proxy.gateway import Gateway
from proxy.http1 import UpstreamFailed
from proxy.redaction import Redactor, redacted
from proxy.upstream import Answer
from proxy.witness import Ending, milliseconds, unread_entry, usage_entry
from telemetry.entries import UsageEntry
from telemetry.rates import ModelPrice

logger = logging.getLogger(__name__)

UNAUTHORIZED = 401
DRAIN_SECONDS = 10.0
# A client that does not read cannot be told.
TELL_SECONDS = 5.0
REQUEST_ID_HEADERS = (b"x-request-id", b"request-id")


class Carriage:
    """One admitted call on its way to the provider and back."""

    def __init__(
        self,
        *,
        gateway: Gateway,
        scope: Scope,
        receive: Receive,
        send: Send,
        began: float,
        own_headers: Headers,
        arrival: Arrival,
        admission: Admission,
        endpoint: Endpoint,
        request: CallRequest,
        body: bytes,
    ) -> None:
        assert arrival.integration is not None and arrival.credential is not None, "what was admitted can be sent"
        self.gateway = gateway
        self.scope = scope
        self.receive = receive
        self.send = send
        self.began = began
        self.own_headers = own_headers
        self.asking = arrival.asking
        self.integration = arrival.integration
        self.credential = arrival.credential
        self.admission = admission
        self.endpoint = endpoint
        self.request = request
        self.body = body
        self.ending = Ending()
        self.reader = reader(endpoint, request.stream, strip_usage=request.inject_usage)
        self.output_cap = self._output_cap()
        self.answer: Answer | None = None
        self.head: Headers = []
        self.started = False
        self.client_left = False
        self.witnessed = False
        self.cut = False
        self.task = asyncio.current_task()
        self.loop = asyncio.get_running_loop()
        self.timer = self.loop.call_later(gateway.environment.upstream_total_seconds, self._cut_off)

    async def run(self) -> None:
        """Carry the call to its end. Raises only what cancels the whole process."""
        client: Client | None = self.scope.get(CLIENT)
        watcher = None if client is not None else self.loop.create_task(self._watch_client())
        try:
            if client is not None:
                client.departures.add(self._client_left)
            if client is not None and client.left:
                # It left while the call was admitted: nobody waits for an answer that would have to be paid.
                self.client_left = True
            else:
                await self._forward()
                await self._relay()
        except UpstreamFailed as failure:
            await self._tell(failure)
        except asyncio.CancelledError:
            if not self.cut or self.task is None:
                raise
            self.task.uncancel()
            self._leave_provider()
            if not self.client_left:
                with suppress(TimeoutError):
                    async with asyncio.timeout(TELL_SECONDS):
                        await self._tell(UpstreamFailed("the call took too long", sent=True, timed_out=True))
        finally:
            if client is not None:
                client.departures.discard(self._client_left)
            if watcher is not None:
                watcher.cancel()
            self.timer.cancel()
            self._leave_provider()
            self._witness()

    async def _forward(self) -> None:
        body = prepare_body(self.endpoint, self.request, self.body, self.output_cap) if self.body else b""
        headers = to_provider(self.scope["headers"])
        headers.append(credential(self.endpoint.dialect, self.credential))
        faults.point("before_dispatch")
        self.answer = await self.gateway.upstreams.send(
            self.endpoint.method,
            self._url(),
            headers,
            body,
            on_sent=self._sent,
            ours=arrivals.is_sandbox(self.integration),
        )
        self.body = b""
        faults.point("after_dispatch")

    def _sent(self) -> None:
        self.ending.dispatched = True

    def _leave_provider(self) -> None:
        if self.answer is not None:
            self.answer.close()
            self.answer = None

    def _url(self) -> str:
        base_url = self.integration.base_url
        if arrivals.is_sandbox(self.integration):
            version = "/v1" if self.endpoint.dialect is Dialect.OPENAI else ""
            base_url = f"{self.gateway.own_url}/sandbox{version}"
        return join(base_url, self.endpoint, self.scope["query_string"].decode("latin-1"))

    def _output_cap(self) -> int | None:
        """The granted output, where the caller set no cap and a strict limit rests on the bound."""
        if not self.asking.demand.cap_is_ours:
            return None
        if any(limit.mode == "strict" and limit.metric in ("cost", "tokens") for limit in self.asking.limits):
            return self.admission.decision.output_tokens
        return None

    async def _relay(self) -> None:
        answer, ending = self.answer, self.ending
        assert answer is not None, "what is relayed has begun"
        ending.status = answer.status
        if answer.status == UNAUTHORIZED and self.integration.credential is not None:
            is_refused_by_provider(self.integration.credential)
        self.head, length = self._read_head(answer)
        if 300 <= answer.status < 400:
            raise UpstreamFailed("the provider redirects, and redirects are not followed", sent=True)
        if self.request.stream and answer.status < 300:
            await self._start(answer.status)
        redactor = Redactor(self.credential) if answer.status >= 400 else None
        received = 0
        while chunk := await answer.read():
            if ending.ttft_ms is None:
                ending.ttft_ms = milliseconds(self.began, time.monotonic())
            received += len(chunk)
            # What follows the end of the protocol is passed on, and says nothing more.
            out = chunk if self.witnessed else self.reader.feed(chunk)
            if not self.witnessed and (received == length or self.reader.ended):
                out += self._witness(complete=True)
            if received == length and redactor is None:
                await self._finish(out)
                return
            await self._pass_on(out if redactor is None else redactor.feed(out))
            if self.request.stream:
                faults.point("mid_stream")
        rest = self._witness(complete=True)
        if redactor is not None:
            rest = redactor.feed(rest) + redactor.finish()
        await self._finish(rest)

    def _read_head(self, answer: Answer) -> tuple[Headers, int | None]:
        headers = to_client(answer.headers)
        length = None
        for name, value in answer.headers:
            if name == b"content-length" and value.isdigit():
                length = int(value)
                # A stream has no length for its client: an event may be taken out of it, or an error added.
                if not self.request.stream:
                    headers.append((name, value))
            elif name == b"content-encoding" and value.lower() not in (b"", b"identity"):
                # Neither its usage nor a credential that it repeats could be seen.
                raise UpstreamFailed("the provider compresses its answer, which nobody asked for", sent=True)
            elif name in REQUEST_ID_HEADERS:
                self.ending.request_id = value.decode("latin-1")
        headers += self.own_headers
        if self.output_cap is not None:
            headers.append((b"x-customhouse-output-cap", b"%d" % self.output_cap))
        return headers, length

    async def _start(self, status: int) -> None:
        if not self.started:
            self.started = True
            await self.send({"type": "http.response.start", "status": status, "headers": self.head})

    async def _pass_on(self, out: bytes) -> None:
        if not out or self.client_left:
            return
        if not self.started:
            await self._start(self.ending.status or 0)
        await self.send({"type": "http.response.body", "body": out, "more_body": True})

    async def _finish(self, rest: bytes) -> None:
        if self.client_left:
            return
        await self._start(self.ending.status or 0)
        await self.send({"type": "http.response.body", "body": rest})

    async def _tell(self, failure: UpstreamFailed) -> None:
        """Tell the client that the provider failed; after the first byte only a stream still has a way to."""
        code = "upstream_timeout" if failure.timed_out else "upstream_error" if failure.sent else "upstream_unreachable"
        if not self.witnessed:
            self.ending.error_code, self.ending.error_message = code, str(failure)
        self._witness()
        kind = ErrorKind.TIMEOUT if failure.timed_out else ErrorKind.BAD_GATEWAY
        message = f"The call failed: {failure}."
        call_id = str(self.asking.call_id)
        if self.client_left:
            return
        if not self.started:
            self.started = True
            answer = render_error(
                self.endpoint.dialect, kind, message, request_id=call_id, code=code, may_be_billed=failure.sent
            )
            await send_answer(self.send, answer.status, [*answer.headers, *self.own_headers], answer.body)
        elif self.request.stream:
            event = stream_error(self.endpoint, kind, message, request_id=call_id, code=code)
            await self.send({"type": "http.response.body", "body": event})

    async def _watch_client(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self._client_left()

    def _client_left(self) -> None:
        self.client_left = True
        if self.integration.on_disconnect == OnDisconnect.CLOSE:
            self._cut_off()
        else:
            self.timer.cancel()
            self.timer = self.loop.call_later(DRAIN_SECONDS, self._cut_off)

    def _cut_off(self) -> None:
        """End the call where it is."""
        if self.cut:
            return
        self.cut = True
        if self.task is not None:
            self.task.cancel()

    def _witness(self, *, complete: bool = False) -> bytes:
        """Hand the call's end to the ledger, once. Gives the bytes that the reader still held back."""
        if self.witnessed:
            return b""
        self.witnessed = True
        ending = self.ending
        ending.complete = complete
        ending.client_left = self.client_left
        ending.latency_ms = milliseconds(self.began, time.monotonic())
        rest = self.reader.rest()
        self.gateway.ledger.settle(Ended(self.admission.holds, self._account))
        if complete:
            faults.point("before_last_byte")
        return rest

    def _account(self) -> UsageEntry:
        """The usage row of the call. Runs in a thread of the ledger's, when nothing that it reads changes any more."""
        try:
            usage = usage_entry(
                asking=self.asking,
                admission=self.admission,
                endpoint=self.endpoint,
                request=self.request,
                reading=self.reader.reading(),
                ending=self.ending,
                price_for=self._price_for,
            )
        except Exception:
            # A call that cannot be understood is still a call, and what it holds must not be held for ever.
            logger.exception("An answer could not be accounted for", extra={"call_id": self.asking.call_id})
            usage = unread_entry(self.asking, self.admission, self.ending)
        if self.asking.attribution is not None:
            usage = self.asking.attribution.put_on(usage)
        if usage.error_message:
            usage = usage.with_error_message(redacted(usage.error_message, self.credential))
        self.gateway.health.saw(
            usage,
            is_trial=self.asking.metadata is arrivals.TRIAL,
            is_own=arrivals.is_sandbox(self.integration),
        )
        return usage

    def _price_for(self, model: str) -> ModelPrice | None:
        asking = self.asking
        return self.gateway.book.find(asking.provider, model, self.admission.decided_at, asking.tenant_id)
