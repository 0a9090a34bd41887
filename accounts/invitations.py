"""Invitations: how people come to a tenant, as nobody registers by themselves."""

import hashlib
import secrets
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from accounts.ids import uuid7

LIFETIME = timedelta(days=7)


class InvitationQuerySet(models.QuerySet["Invitation"]):
    """Reads of invitations."""

    def for_tenant(self, tenant_id: UUID) -> "InvitationQuerySet":
        return self.filter(tenant_id=tenant_id)

    def pending(self) -> "InvitationQuerySet":
        """Neither accepted nor revoked; they may have expired."""
        return self.filter(accepted_at=None, revoked_at=None)

    def good_at(self, now: datetime) -> "InvitationQuerySet":
        """Those that can be accepted."""
        return self.pending().filter(expires_at__gt=now)


class Invitation(models.Model):
    """The offer of a role at a tenant to whoever reads the mail of one address; of its link only a digest is kept."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.CASCADE, related_name="invitations")
    email = models.EmailField(max_length=254)
    role = models.CharField(max_length=16)
    invited_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+")
    """None: a gateway key, or an operator or a command, who stand above every tenant."""
    invited_by_key = models.UUIDField(null=True)
    """The gateway key that sent it. Keys live above this floor, which is why it is no link."""
    token_digest = models.CharField(max_length=64, unique=True)
    was_mailed = models.BooleanField(default=False)
    """The link went to the address alone, so whoever has it reads the address's mail."""
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True)
    accepted_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    revoked_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = InvitationQuerySet.as_manager()

    class Meta:
        db_table = "cus_invitations"
        constraints = [
            models.UniqueConstraint(
                Lower("email"),
                "tenant",
                condition=Q(accepted_at=None, revoked_at=None),
                name="cus_invitations_one_pending",
            )
        ]
        indexes = [
            models.Index(fields=["tenant", "-created_at"], name="cus_invitations_of_tenant"),
            models.Index(fields=["email", "-created_at"], name="cus_invitations_to_address"),
        ]

    def __str__(self) -> str:
        return self.email


def new_token() -> str:
    """256 bits of randomness, for a link."""
    return secrets.token_urlsafe(32)


def digest_of(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()
