"""Being asked again who one is, before what must not happen by a session that somebody left open."""

from collections.abc import Callable
from functools import wraps

from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.reauthentication import is_reauthentication_required
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.http import urlencode

from console.desk import DeskRequest, View


def step_up(view: View[...]) -> Callable[..., HttpResponse]:
    """Show the page to those who have shown again, minutes ago, that it is them; others are led there and back.

    What a form says is not kept meanwhile, for it may be a secret.
    """

    @wraps(view)
    def wrapped(request: DeskRequest, /, *args: object, **kwargs: object) -> HttpResponse:
        if not is_reauthentication_required(request, app="console"):
            return view(request, *args, **kwargs)
        methods = get_adapter().get_reauthentication_methods(request.user)
        if not methods:
            raise PermissionDenied
        if request.method == "POST":
            messages.info(request, "That took a while: please fill in the form again.")
        return redirect(f"{methods[0]['url']}?{urlencode({'next': request.get_full_path()})}")

    return wrapped
