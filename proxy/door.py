"""The door for programs: our own ASGI application, in front of Django's."""

import asyncio
import logging

from integrations.key_uses import KEY_USES
from proxy.answers import LEAVING, Receive, Scope, Send, send_answer, send_json
from proxy.arrivals import guessed_dialect, target_of
from proxy.calls import Call
from proxy.dialects import ErrorKind, render_error
from proxy.gateway import Gateway
from proxy.probes import healthz, readyz
from proxy.sandbox import sandbox

logger = logging.getLogger(__name__)

OWN_PATHS = ("/proxy/", "/v1/", "/sandbox/")
PROBES = ("/healthz", "/readyz")


class Door:
    """Serves the data plane of one process; without a gateway, its probes only."""

    def __init__(self, *, has_gateway: bool = True) -> None:
        self._has_gateway = has_gateway
        self._gateway: Gateway | None = None

    @staticmethod
    def serves(path: str) -> bool:
        """Whether a path belongs to the data plane."""
        return path.startswith(OWN_PATHS) or path in PROBES

    async def lifespan(self, receive: Receive, send: Send) -> None:
        """Open the gateway when the server starts, and close it when it ends."""
        await receive()
        try:
            if self._has_gateway:
                self._gateway = Gateway()
                await self._gateway.start()
            KEY_USES.start()
        except Exception as error:
            logger.exception("The gateway did not start")
            await send({"type": "lifespan.startup.failed", "message": type(error).__name__})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._gateway is not None:
            await self._gateway.stop()
        await asyncio.to_thread(KEY_USES.stop)
        await send({"type": "lifespan.shutdown.complete"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path == "/healthz":
            await healthz(send)
            return
        gateway = self._gateway
        assert gateway is not None or not self._has_gateway, "a server runs the lifespan before it serves"
        if path == "/readyz":
            await readyz(gateway, send, is_leaving=LEAVING in scope.get("state", ()))
        elif gateway is None:
            await send_json(send, 404, {"detail": "This process serves people only."})
        elif path.startswith("/sandbox/"):
            await sandbox(scope, receive, send, path[len("/sandbox") :])
        else:
            await self._carry(gateway, scope, receive, send)

    async def _carry(self, gateway: Gateway, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(gateway, scope, receive, send)
        try:
            await call.run()
        except Exception:
            logger.exception("A call failed unexpectedly", extra={"call_id": call.call_id})
            if call.has_begun:
                raise
            dialect = guessed_dialect(scope, target_of(scope["path"]))
            answer = render_error(
                dialect, ErrorKind.INTERNAL, "The gateway failed.", request_id=str(call.call_id), may_be_billed=True
            )
            await send_answer(send, answer.status, [*answer.headers, *call.own_headers()], answer.body)
