"""Actions of the admin site: nothing happens before it is confirmed with a reason, and each row's outcome is told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import timezone

from accounts.actors import Actor
from accounts.admin_bases import HouseAdmin, operator_of

MOST_ROWS = 500
MOST_NAMED = 20
CONFIRMED = "confirmed"


class ReasonForm(forms.Form):
    """What an audit event says of why."""

    reason = forms.CharField(
        max_length=200,
        help_text="Stands in the audit event, which the tenant can read.",
        widget=forms.TextInput(attrs={"size": 60, "autocomplete": "off"}),
    )


@dataclass(frozen=True, slots=True)
class Order:
    """What was confirmed: by whom, when, why, and whatever else its form asked."""

    actor: Actor
    now: datetime
    reason: str
    values: Mapping[str, Any]


Act = Callable[[Any, Any, Order], object]
"""Does it to one row; text that it returns is told."""
Acting = Callable[[Any, HttpRequest, QuerySet[Any]], HttpResponse | None]


def confirmed(
    title: str,
    *,
    effect: str,
    permission: str = "change",
    leaves: Callable[[Any, datetime], str | None] = lambda row, now: None,
    previews: Callable[[Any, datetime], str] | None = None,
    form: type[ReasonForm] = ReasonForm,
    refusals: tuple[type[Exception], ...] = (),
    most: int = MOST_ROWS,
) -> Callable[[Act], Acting]:
    """Make a method that acts on one row an action that is confirmed first.

    `effect` says to people what it does. `leaves` says why a row is left out, `previews` what will be known of a row.
    `refusals` are what a service may say to a row: the others are acted on all the same.
    """

    def decorate(act: Act) -> Acting:
        @admin.action(description=title, permissions=[permission])
        @wraps(act)
        def acting(self: Any, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
            rows = list(queryset[: most + 1])
            if len(rows) > most:
                self.message_user(request, f"At most {most} at a time: choose fewer.", messages.ERROR)
                return None
            now = timezone.now()
            why = {row.pk: leaves(row, now) for row in rows}
            left = [(row, reason) for row in rows if (reason := why[row.pk]) is not None]
            meant = [row for row in rows if why[row.pk] is None]
            asked = form(request.POST if CONFIRMED in request.POST else None)
            if asked.is_valid():
                values = asked.cleaned_data
                order = Order(operator_of(request), now, values["reason"], values)
                _act(self, request, meant, lambda row: act(self, row, order), refusals)
                return None
            return TemplateResponse(
                request,
                "admin/confirm_action.html",
                {
                    **self.admin_site.each_context(request),
                    "title": title,
                    "effect": effect,
                    "action": act.__name__,
                    "checkbox": ACTION_CHECKBOX_NAME,
                    "opts": self.opts,
                    "form": asked,
                    "meant": meant,
                    "named": [(row, previews(row, now) if previews else "") for row in meant[:MOST_NAMED]],
                    "more": len(meant) - MOST_NAMED,
                    "left": left[:MOST_NAMED],
                    "left_count": len(left),
                },
            )

        return acting

    return decorate


class ReasonedDeletion(HouseAdmin):
    """Rows that may be deleted, one by one or several, by an action `remove` that is confirmed with a reason."""

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page of the action, for one row."""
        found = self.get_object(request, unquote(object_id))
        if not self.has_delete_permission(request, found):
            raise PermissionDenied
        if found is None:
            raise Http404("There is no such row.")
        chosen = self.get_queryset(request).filter(pk=found.pk)
        acting: Acting = type(self).remove  # type: ignore[attr-defined]  # what the name says of the page
        answer = acting(self, request, chosen)
        return answer or redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")


def _act(
    page: Any,
    request: HttpRequest,
    rows: list[Model],
    act: Callable[[Model], object],
    refusals: tuple[type[Exception], ...],
) -> None:
    done = 0
    for row in rows:
        try:
            told = act(row)
        except ValidationError as error:
            page.message_user(request, f"{row}: {' '.join(error.messages)}", messages.ERROR)
        except refusals as error:
            page.message_user(request, f"{row}: {error}", messages.ERROR)
        else:
            done += 1
            if isinstance(told, str) and told:
                page.message_user(request, f"{row}: {told}", messages.WARNING)
    if done:
        page.message_user(request, f"Done for {done}; it holds from the next call on.", messages.SUCCESS)
    elif not rows:
        page.message_user(request, "There was nothing to do.", messages.WARNING)
