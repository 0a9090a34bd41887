"""The operators' site: who is let in, and what they see first."""

from typing import Any, cast

from allauth.account.decorators import secure_admin_login
from django.contrib import messages
from django.contrib.admin import AdminSite
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


class OperatorSite(AdminSite):
    """Django's own admin site behind a second factor, with the state of the installation in front."""

    site_header = site_title = "Customhouse"
    index_title = "Operation"
    index_template = "admin/dashboard.html"

    def has_permission(self, request: HttpRequest) -> bool:
        return super().has_permission(request) and not lacks_factor(request)

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        return super().index(request, {**(extra_context or {}), "cards": cards_for(self, request)})

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


def lacks_factor(request: HttpRequest) -> bool:
    """Whether an operator has to set up a second factor first."""
    return operator_mfa.is_lacking(cast("User", request.user))
