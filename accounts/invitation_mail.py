"""How an invitation reaches the person it is for."""

import logging
import smtplib

from django.core.mail import send_mail
from django.template.loader import render_to_string

from accounts.models import Invitation

logger = logging.getLogger(__name__)


class NotMailed(Exception):
    """The mail server does not take the invitation: ask your operator."""


def mail_link(*, invitation: Invitation, link: str, inviter: str) -> None:
    """Send the link to the invited address; `inviter` says who invites. Raises `NotMailed`."""
    context = {"invitation": invitation, "link": link, "inviter": inviter}
    text = render_to_string("account/mail/invitation.txt", context)
    try:
        # Headers have one line, whatever a name from before has.
        send_mail(" ".join(f"Invitation to {invitation.tenant.name}".split()), text, None, [invitation.email])
    except (OSError, smtplib.SMTPException) as error:
        logger.error("Mail cannot be handed over: %s.", type(error).__name__)
        raise NotMailed(NotMailed.__doc__) from None
