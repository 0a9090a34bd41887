"""The operators' site: who is let in, and what they see first."""

from functools import wraps
from typing import Any, cast

from allauth.account.decorators import secure_admin_login
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import BadRequest
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from accounts.admin_bases import operator_of
from accounts.audit import record
from accounts.audit_events import Action
from accounts.models import User
from accounts.portraits import PERSON
from config import operator_mfa
from config.admin_cards import cards_for
from console.sign_in.step_up import step_up


class OperatorSite(AdminSite):
    """Django's own admin site behind a second factor, with the state of the installation in front."""

    site_header = site_title = "Customhouse"
    index_title = "Operation"
    index_template = "admin/dashboard.html"

    def has_permission(self, request: HttpRequest) -> bool:
        return super().has_permission(request) and not lacks_factor(request)

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        return super().index(request, {**(extra_context or {}), "cards": cards_for(self, request)})

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        @wraps(view)
        def asked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            # No text of the store has such a character, so there is nothing to look for.
            if any("\0" in value for values in request.GET.lists() for value in values[1]):
                raise BadRequest("An address holds a NUL character.")
            answer: HttpResponse = (step_up(view) if _is_grave(request) else view)(request, *args, **kwargs)
            return answer

        return super().admin_view(asked, cacheable)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Let people sign in by the one door that knows second factors, and lead operators without one to it."""
        if super().has_permission(request) and lacks_factor(request):
            messages.warning(request, "Operators need a second factor: set one up, and then come back.")
            return redirect(operator_mfa.SET_UP_URL)
        answer: HttpResponse = secure_admin_login(super().login)(request, extra_context)
        return answer

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        user = cast("User", request.user)
        with transaction.atomic():
            before = User.objects.select_for_update(no_key=True).get(pk=user.pk)
            # The form writes the whole row, so it would undo what was changed since this one was read.
            user.refresh_from_db()
            answer = super().password_change(request, extra_context)
            after = User.objects.get(pk=user.pk)
            if before.password != after.password:
                seen = PERSON.of(after)
                record(
                    actor=operator_of(request), action=Action.PERSON_PASSWORD_CHANGED, before=seen, after=seen
                )  # fmt: skip
        return answer


HARMLESS = frozenset(["logout", "password_change"])
"""What may be sent by an open session that somebody left: to set one's own password asks for the one before."""
GRAVE_TO_SEE = ("_add", "_delete", "_password_change")
"""Pages that are there for nothing but to be sent: nobody fills one in, and is asked only then."""


def _is_grave(request: HttpRequest) -> bool:
    """Whether people have to show again that it is them: whatever they send grants, reveals or takes away something.

    Who only reads is not asked.
    """
    page = (request.resolver_match.url_name if request.resolver_match is not None else None) or ""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return page.endswith(GRAVE_TO_SEE)
    return page not in HARMLESS


def lacks_factor(request: HttpRequest) -> bool:
    """Whether an operator has to set up a second factor first."""
    return operator_mfa.is_lacking(cast("User", request.user))
