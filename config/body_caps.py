"""How much of a body reaches Django, whose handler would keep on disk whatever comes before anybody looks at it."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from config.rest.parsing import LARGEST_BODY_BYTES
from proxy.answers import Message, Receive, Send, send_json


def capped(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """The same exchange, in which a body that nobody takes ends with a 413 before all of it has come."""
    taken, is_refused = 0, False

    async def receive_some() -> Message:
        nonlocal taken, is_refused
        if is_refused:
            return {"type": "http.disconnect"}
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > LARGEST_BODY_BYTES:
            is_refused = True
            detail = f"The body has more than {LARGEST_BODY_BYTES:,} bytes."
            await send_json(send, 413, {"status": 413, "code": "request_too_large", "detail": detail})
            return {"type": "http.disconnect"}
        return message

    async def send_unless_refused(message: Message) -> None:
        if not is_refused:
            await send(message)

    return receive_some, send_unless_refused


class MeasuredBodies:
    """Says how long a body is that came in chunks: REST's framework takes one of untold length for none."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "HTTP_TRANSFER_ENCODING" in request.META and not request.META.get("CONTENT_LENGTH"):
            request.META["CONTENT_LENGTH"] = str(len(request.body))
        return self.get_response(request)
