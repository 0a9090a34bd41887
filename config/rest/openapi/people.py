"""What REST says of the tenant, its people, and who changed what."""

from accounts.actors import ActorKind
from accounts.audit_events import Action
from accounts.models import Role
from config.rest.openapi.fields import A_LATER_TIME, Record, anything, flag, identity, instant, text, whole, word
from config.rest.openapi.operations import (
    MANAGE,
    READ,
    RESTRICTED,
    Operation,
    Operations,
    page_of,
    page_or_stretch_of,
    shown_page_of,
)
from integrations.audit_api import AuditEventsView, AuditQuery
from integrations.invitation_api import InvitationsView, InvitationView
from integrations.member_api import MemberQuery, MembersView, MemberView, NewMemberSerializer, RoleSerializer
from integrations.tenant_api import TenantSerializer, TenantView


class TenantRecord(Record):
    """A customer: whose integrations, keys, limits and evidence these are."""

    id = identity()
    slug = text("acme")
    name = text("Acme")
    timezone = text("Europe/Berlin")
    month_start_day = whole(1)
    evidence_months = whole(None, null=True, help_text="How many months before the present one are shown; null: all.")
    shown_from = instant(None, null=True, help_text="Evidence before is not shown; null: all is.")
    suspended_at = instant(None, null=True)
    created_at = instant()


class MemberRecord(Record):
    """A person's role at the tenant; `id` is the person's."""

    id = whole(7)
    tenant_id = identity()
    email = text("alice@acme.example")
    role = word(Role.values, "developer")
    created_at = instant()


class ChangedMemberRecord(MemberRecord):
    """The same after a change, with what became of the keys of who manages no more."""

    frozen_keys = whole(0, help_text="Keys that they made and that manage: they are refused until they are unfrozen.")
    running_keys = whole(0, help_text="Their other keys, which go on.")


class RemovedMemberRecord(Record):
    """Who has no role any more, and what became of the keys that they made."""

    id = whole(7)
    frozen_keys = whole(1, help_text="Those that manage: they are refused until they are unfrozen.")
    running_keys = whole(2, help_text="The others, which go on.")


class InvitationRecord(Record):
    """Somebody who was asked to join, and has not come yet."""

    id = identity()
    tenant_id = identity()
    status = word(["pending"])
    email = text("alice@acme.example")
    role = word(Role.values, "developer")
    was_mailed = flag(True)
    expires_at = instant(A_LATER_TIME)
    created_at = instant()


class SentInvitationRecord(InvitationRecord):
    """Somebody with this address has an account here already, so they are asked to join."""

    link = text(None, null=True, help_text="To be handed over, for no mail is set up; shown once. Null: it was mailed.")


class AuditActorRecord(Record):
    """Who did it. Of operators and the installation no more is told than that."""

    kind = word(list(ActorKind), "key")
    id = text("0198c2f5-0a1b-7c2d-8e3f-4a5b6c7d8e9f", null=True)
    label = text("deploy (cush_a1b2c3d4e5f6a7b8)")  # type: ignore[assignment]
    address = text("203.0.113.7", null=True)


class AuditObjectRecord(Record):
    """What was changed."""

    kind = text("limit")
    id = text("0198c2f4-7d5e-7b60-9a3c-1f2e3d4c5b6a")
    label = text("tenant cost per month")  # type: ignore[assignment]


class AuditEventRecord(Record):
    """One change: what differs, as it was and as it became."""

    id = whole(4711)
    created_at = instant()
    tenant_id = identity()
    actor = AuditActorRecord()
    action = word(list(Action), "limit.changed")
    object = AuditObjectRecord()
    before = anything({"amount": 500_000_000_000}, null=True)
    after = anything({"amount": 800_000_000_000}, null=True)
    reason = text("More teams.", null=True)


PEOPLE, AUDIT = "Tenant and members", "Audit"
RANK = {"rank_refused": "A key that manages has the rank of an admin: a role of owner is given and taken by owners."}
LAST = {"last_owner": "A tenant keeps an owner who can sign in."}

KNOWN = {
    "member_exists": "This person has a role there already: change it.",
}
UNPROVEN = {"address_unproven": "Somebody signs in by this address and has not shown that it is theirs."}
SO_SOON = {"too_many_invitations": "That many invitations are not sent so soon: try again in 40 minutes."}
NO_MAIL = {"mail_unavailable": "The mail server does not take the invitation: ask your operator."}

OPERATIONS: Operations = {
    (TenantView, "get"): Operation(
        id="getTenant", summary="Show the tenant of the key", tag=PEOPLE, scopes=(READ, MANAGE), answers=TenantRecord,
        has_version=True,
    ),
    (TenantView, "patch"): Operation(
        id="updateTenant", summary="Change the tenant's name or calendar", tag=PEOPLE, scopes=(MANAGE,),
        takes=TenantSerializer, is_partial=True, body={"timezone": "Europe/Berlin"}, answers=TenantRecord,
        has_version=True, checks_version=True, refusals=RESTRICTED,
    ),
    (MembersView, "get"): Operation(
        id="listMembers", summary="List who has a role", tag=PEOPLE, scopes=(READ, MANAGE), query=MemberQuery,
        answers=page_of(MemberRecord), refusals=RESTRICTED,
    ),
    (MembersView, "post"): Operation(
        id="addMember", summary="Give somebody a role", tag=PEOPLE, scopes=(MANAGE,), takes=NewMemberSerializer,
        body={"email": "alice@acme.example", "role": "developer"}, answers=MemberRecord, status=201, has_version=True,
        otherwise={202: SentInvitationRecord}, conflicts=KNOWN, refusals=RANK | RESTRICTED, delays=SO_SOON,
        outages=NO_MAIL,
    ),
    (MemberView, "get"): Operation(
        id="getMember", summary="Show a member", tag=PEOPLE, scopes=(READ, MANAGE), answers=MemberRecord,
        has_version=True, refusals=RESTRICTED,
    ),
    (MemberView, "patch"): Operation(
        id="updateMember", summary="Give a member another role", tag=PEOPLE, scopes=(MANAGE,), takes=RoleSerializer,
        body={"role": "admin"}, answers=ChangedMemberRecord, has_version=True, checks_version=True,
        conflicts=LAST | UNPROVEN,
        refusals=RANK | RESTRICTED,
    ),
    (MemberView, "delete"): Operation(
        id="removeMember", summary="Take a member's role away", tag=PEOPLE, scopes=(MANAGE,),
        answers=RemovedMemberRecord, checks_version=True, conflicts=LAST, refusals=RANK | RESTRICTED,
    ),
    (InvitationsView, "get"): Operation(
        id="listInvitations", summary="List who is invited and has not come yet", tag=PEOPLE, scopes=(READ, MANAGE),
        answers=page_or_stretch_of(InvitationRecord), refusals=RESTRICTED,
    ),
    (InvitationView, "get"): Operation(
        id="getInvitation", summary="Show an invitation", tag=PEOPLE, scopes=(READ, MANAGE),
        answers=InvitationRecord, refusals=RESTRICTED,
    ),
    (InvitationView, "delete"): Operation(
        id="revokeInvitation", summary="Withdraw an invitation", tag=PEOPLE, scopes=(MANAGE,), status=204,
        refusals=RANK | RESTRICTED,
    ),
    (AuditEventsView, "get"): Operation(
        id="listAuditEvents", summary="List who changed what", tag=AUDIT, scopes=(READ,), query=AuditQuery,
        answers=shown_page_of(AuditEventRecord), refusals=RESTRICTED,
    ),
}  # fmt: skip
