"""How an invitation reaches the person it is for."""

import logging
import smtplib

from django.core.mail import send_mail
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse

from accounts.models import Invitation
from console.sign_in.people import publicly

logger = logging.getLogger(__name__)


class NotMailed(Exception):
    """The mail server does not take the invitation: ask your operator."""


def link_of(request: HttpRequest, token: str) -> str:
    """The link that is opened to accept."""
    return publicly(request.build_absolute_uri(reverse("invitation_link", kwargs={"token": token})))


def mail_link(request: HttpRequest, invitation: Invitation, token: str) -> None:
    """Send the link to the invited address. Raises `NotMailed`."""
    context = {"invitation": invitation, "link": link_of(request, token), "inviter": request.user}
    text = render_to_string("console/mail/invitation.txt", context)
    try:
        # Headers have one line, whatever a name from before has.
        send_mail(" ".join(f"Invitation to {invitation.tenant.name}".split()), text, None, [invitation.email])
    except (OSError, smtplib.SMTPException) as error:
        logger.error("Mail cannot be handed over: %s.", type(error).__name__)
        raise NotMailed(NotMailed.__doc__) from None
