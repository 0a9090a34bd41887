"""What was changed, by whom, and from where: append-only, like all evidence."""

from enum import StrEnum

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from accounts.actors import ActorKind
from accounts.append_only import AppendOnlyModel
from accounts.querysets import AuditQuerySet


class Action(StrEnum):
    """What can have happened. Programs rely on these words: they are added to, and never change their meaning."""

    TENANT_CREATED = "tenant.created"
    TENANT_CHANGED = "tenant.changed"
    TENANT_SUSPENDED = "tenant.suspended"
    TENANT_RESUMED = "tenant.resumed"
    PERSON_CREATED = "person.created"
    PERSON_CHANGED = "person.changed"
    PERSON_PASSWORD_CHANGED = "person.password_changed"
    PERSON_PASSWORD_LINK_MADE = "person.password_link_made"
    PERSON_ADDRESS_CHANGED = "person.address_changed"
    PERSON_ADDRESS_VERIFIED = "person.address_verified"
    PERSON_FACTOR_ADDED = "person.factor_added"
    PERSON_FACTOR_REMOVED = "person.factor_removed"
    PERSON_RECOVERY_CODES_MADE = "person.recovery_codes_made"
    PERSON_FACTORS_RESET = "person.factors_reset"
    PERSON_SIGNED_IN = "person.signed_in"
    PERSON_SIGN_IN_FAILED = "person.sign_in_failed"
    PERSON_SESSIONS_ENDED = "person.sessions_ended"
    PERSON_IDENTITY_LINKED = "person.identity_linked"
    PERSON_ERASED = "person.erased"
    GROUP_CREATED = "group.created"
    GROUP_CHANGED = "group.changed"
    GROUP_DELETED = "group.deleted"
    MEMBER_ADDED = "member.added"
    MEMBER_ROLE_CHANGED = "member.role_changed"
    MEMBER_REMOVED = "member.removed"
    MEMBER_INVITED = "member.invited"
    MEMBER_INVITATION_REVOKED = "member.invitation_revoked"
    MEMBER_INVITATION_ACCEPTED = "member.invitation_accepted"
    MEMBER_JOINED = "member.joined"
    SINGLE_SIGN_ON_SET = "single_sign_on.set"
    SINGLE_SIGN_ON_REMOVED = "single_sign_on.removed"
    INTEGRATION_CREATED = "integration.created"
    INTEGRATION_CHANGED = "integration.changed"
    INTEGRATION_MOVED = "integration.moved"
    INTEGRATION_ENABLED = "integration.enabled"
    INTEGRATION_DISABLED = "integration.disabled"
    INTEGRATION_DELETED = "integration.deleted"
    INTEGRATION_HEALTH_CHANGED = "integration.health_changed"
    CREDENTIAL_ADDED = "credential.added"
    CREDENTIAL_ROTATED = "credential.rotated"
    KEY_CREATED = "key.created"
    KEY_CHANGED = "key.changed"
    KEY_ROTATED = "key.rotated"
    KEY_FROZEN = "key.frozen"
    KEY_UNFROZEN = "key.unfrozen"
    KEY_REVOKED = "key.revoked"
    LIMIT_CREATED = "limit.created"
    LIMIT_CHANGED = "limit.changed"
    LIMIT_RAISED = "limit.raised"
    LIMIT_LIFTED = "limit.lifted"
    LIMIT_UNSCHEDULED = "limit.unscheduled"
    PRICE_SET = "price.set"
    PRICES_IMPORTED = "prices.imported"
    MASTER_KEY_ADDED = "master_key.added"
    INTEGRATION_CHECKED = "integration.checked"
    END_USER_FORGOTTEN = "end_user.forgotten"
    INTEGRATION_BYPASSED = "integration.bypass_detected"
    COVERAGE_OVERRIDDEN = "integration.coverage_overridden"
    CALL_CONFLICTED = "call.conflicted"
    RESERVATION_CHARGED = "reservation.charged"
    BACKUP_WRITTEN = "backup.written"
    EVIDENCE_EXPIRED = "evidence.expired"
    EVIDENCE_EXPORTED = "evidence.exported"


class AuditEvent(AppendOnlyModel):
    """One change: who made it, from where, and what was before and after it."""

    tenant_id = models.UUIDField(null=True)
    """Whose object was changed; none: the installation's."""
    actor_kind = models.CharField(max_length=16, choices=[(kind.value, kind.value) for kind in ActorKind])
    actor_id = models.CharField(max_length=64, blank=True)
    actor_label = models.CharField(max_length=254, blank=True)
    address = models.GenericIPAddressField(null=True)
    # No choices: each new word would be a migration, and `accounts.audit.record` takes an `Action` only.
    action = models.CharField(max_length=64)
    object_kind = models.CharField(max_length=32)
    object_id = models.CharField(max_length=64)
    object_label = models.CharField(max_length=254, blank=True)
    before = models.JSONField(null=True)
    """What differs, as it was; none for what did not exist."""
    after = models.JSONField(null=True)
    """What differs, as it became; none for what exists no longer."""
    reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    objects = AuditQuerySet.as_manager()

    class Meta:
        db_table = "cus_audit_events"
        constraints = [
            models.CheckConstraint(
                condition=Q(actor_kind__in=[kind.value for kind in ActorKind]), name="cus_audit_events_actor"
            )
        ]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="cus_audit_events_newest"),
            models.Index(fields=["tenant_id", "-created_at", "-id"], name="cus_audit_events_tenant"),
            # Written once for each thing that is told of a call, so that is looked for.
            models.Index(
                fields=["tenant_id", "object_id"],
                condition=Q(action="call.conflicted"),
                name="cus_audit_events_conflicts",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.object_label}"
