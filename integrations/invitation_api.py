"""REST: who is invited to a tenant, until they come. Nobody is joined who was not asked."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils import timezone
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.invitation_mail import NotMailed, mail_link
from accounts.invitation_services import invite, revoke_invitation
from accounts.invitations import InvitationQuerySet
from accounts.links import invitation_link
from accounts.models import Invitation, Role, Tenant
from integrations.access import actor_of, holder_of
from integrations.doors import ManagementView, check_unrestricted

# Nobody on the way keeps an answer that holds a link.
NOT_STORED = {"Cache-Control": "no-store"}


class InvitationsView(ManagementView):
    """`/api/v1/invitations`: list who is invited and has not come yet, the newest first."""

    def get(self, request: Request) -> Response:
        check_unrestricted(holder_of(request).key)
        return self.listed(request, _open(request).order_by("-pk"), _records)


class InvitationView(ManagementView):
    """`/api/v1/invitations/{id}`: show an invitation that can be accepted, or withdraw it."""

    def get(self, request: Request, invitation_id: UUID) -> Response:
        check_unrestricted(holder_of(request).key)
        return Response(_record(_found(request, invitation_id)))

    def delete(self, request: Request, invitation_id: UUID) -> Response:
        check_unrestricted(holder_of(request).key)
        revoke_invitation(
            invitation=_found(request, invitation_id), now=timezone.now(), actor=actor_of(request)
        )  # fmt: skip
        return Response(status=204)


def invited(request: Request, *, tenant: Tenant, email: str, role: Role) -> Response:
    """Invite somebody, by mail where it is set up, else by the link in the answer. Raises `NotMailed` like `invite`."""
    by_mail, now, actor = settings.MAIL_IS_SET_UP, timezone.now(), actor_of(request)
    made, token = invite(
        tenant=tenant,
        email=email,
        role=role,
        now=now,
        by_mail=by_mail,
        until=holder_of(request).key.expires_at,
        actor=actor,
    )
    link = invitation_link(request._request, token)
    if by_mail:
        try:
            # Whoever names a key could write anything there.
            mail_link(invitation=made, link=link, inviter=f"A program of {tenant.slug}")
        except NotMailed:
            revoke_invitation(invitation=made, now=now, actor=actor)
            raise
    told = {**_record(made), "link": None if by_mail else link}
    return Response(told, status=202, headers=NOT_STORED | {"Location": f"/api/v1/invitations/{made.pk}"})


def _open(request: Request) -> InvitationQuerySet:
    return Invitation.objects.for_tenant(holder_of(request).key.tenant_id).good_at(timezone.now())


def _found(request: Request, invitation_id: UUID) -> Invitation:
    row = _open(request).filter(pk=invitation_id).first()
    if row is None:
        raise NotFound("There is no such invitation, or not any more.")
    return row


def _record(invitation: Invitation) -> dict[str, Any]:
    return {
        "id": invitation.pk,
        "tenant_id": invitation.tenant_id,
        "status": "pending",
        "email": invitation.email,
        "role": invitation.role,
        "was_mailed": invitation.was_mailed,
        "expires_at": invitation.expires_at,
        "created_at": invitation.created_at,
    }


def _records(rows: Sequence[Invitation]) -> list[dict[str, Any]]:
    return [_record(row) for row in rows]
