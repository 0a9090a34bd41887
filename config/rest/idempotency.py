"""POSTs that may be repeated: `Idempotency-Key` gives the answer of the first, and nothing is done twice."""

import hashlib
import re
from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied

from config.rest.errors import EXPECTED_OUTSIDE, RETRY_SECONDS, problem, refusal
from integrations.access import KeyHolder, holder_kept
from integrations.answers import Answer, AnswerIsLost, Repeatable, claim, keep, kept
from integrations.doors import RepeatableView
from integrations.models import Scope

KEY = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
SHAPE = re.compile(r"[\x21-\x7e]{1,255}")
KEPT_HEADERS = ("Content-Type", "ETag", "Location", "Cache-Control")


class BadName(Exception):
    """The name of a request is none."""


class IdempotentPosts:
    """Runs a POST and keeps its answer in one transaction, so that neither is there without the other.

    Only successes are kept: a refusal changed nothing, so the same request is tried anew. What the ledger holds is
    committed by a connection of its own: of a process killed in between, a hold may stay until it expires.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> HttpResponse | None:
        """Answer in the view's place where the request has a key."""
        key = request.headers.get(KEY)
        door: Any = getattr(view, "cls", object)
        if key is None or request.method != "POST" or not issubclass(door, RepeatableView):
            return None
        try:
            asked = _asked(request, key, door.repeats_for)
            # The view says what is wrong with whoever asks.
            return _once(asked, view, request, arguments, named) if asked is not None else None
        except BadName:
            return problem(
                request, 400, "idempotency_key_invalid", f"{KEY} has 1 to 255 visible ASCII characters."
            )  # fmt: skip
        except EXPECTED_OUTSIDE as error:
            return refusal(request, error)


def _asked(request: HttpRequest, key: str, scope: Scope | None) -> Repeatable | None:
    """The request under its name; `None` where whoever asks may not. Raises `BadName`."""
    holder = _holder(request, scope)
    if holder is None:
        return None
    if not SHAPE.fullmatch(key):
        raise BadName
    # Where no scope is needed to ask, what is answered may still depend on those that there are.
    scopes = sorted(holder.key.scopes) if scope is None else []
    return Repeatable(holder.key.tenant_id, holder.key.id, key, _digest(request, scopes))


def _once(
    asked: Repeatable, view: Callable[..., Any], request: HttpRequest, arguments: tuple[Any, ...], named: dict[str, Any]
) -> HttpResponse:
    with transaction.atomic():
        if not claim(asked):
            answer = problem(
                request, 409, "idempotency_key_in_use", "The first request with this key is still running."
            )
            answer["Retry-After"] = RETRY_SECONDS
            return answer
        before = _before(request, asked)
        return before if before is not None else _run(asked, view, request, arguments, named)


def _before(request: HttpRequest, asked: Repeatable) -> HttpResponse | None:
    try:
        found = kept(asked, now=timezone.now())
    except AnswerIsLost:
        return problem(
            request, 409, "idempotent_answer_lost", "This request was done, and its answer can no longer be opened."
        )
    if found is None:
        return None
    if found.digest != asked.digest:
        return problem(request, 422, "idempotency_key_reused", "This key belongs to another request.")
    answer = HttpResponse(found.body, status=found.status, headers=found.headers)
    answer[REPLAYED] = "true"
    return answer


def _run(
    asked: Repeatable, view: Callable[..., Any], request: HttpRequest, arguments: tuple[Any, ...], named: dict[str, Any]
) -> HttpResponse:
    answer: HttpResponse = view(request, *arguments, **named)
    if hasattr(answer, "render"):
        answer = answer.render()
    if not 200 <= answer.status_code < 300:
        transaction.set_rollback(True)
        return answer
    headers = {name: answer[name] for name in KEPT_HEADERS if name in answer}
    keep(asked, Answer(asked.digest, answer.status_code, headers, answer.content.decode()), now=timezone.now())
    return answer


def _holder(request: HttpRequest, scope: Scope | None) -> KeyHolder | None:
    try:
        holder = holder_kept(request)
    except (AuthenticationFailed, PermissionDenied):
        return None
    if holder is None or holder.integration_id is not None:
        return None
    return holder if scope is None or scope in holder.key.scopes else None


def _digest(request: HttpRequest, scopes: list[str]) -> bytes:
    """What the request asks for, and of what. Raises `RequestDataTooBig`."""
    words = " ".join([str(request.method), request.get_full_path(), *scopes])
    target = f"{words}\n".encode("utf-8", "surrogateescape")
    return hashlib.sha256(target + request.body).digest()
