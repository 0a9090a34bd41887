"""REST: the people of a tenant. A key that manages has the rank of an admin, so owners are out of its reach."""

from collections.abc import Sequence
from typing import Any

from django.db import transaction
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.departures import KeysLeft
from accounts.models import Membership, Role, Tenant
from accounts.querysets import MembershipQuerySet
from accounts.services import HasAnAccount, add_new_member, change_role, remove_member
from integrations.access import actor_of, holder_of
from integrations.cursors import PageSerializer, asked, page_of, place_of
from integrations.doors import ChoiceField, ManagementView, StrictSerializer, check_unrestricted, given, shown
from integrations.invitation_api import invited
from integrations.versions import check_match, etag_of

KEYS = ("frozen_keys", "running_keys")
"""What became of the keys of who manages no more."""


class RoleSerializer(StrictSerializer):
    """What a member may do."""

    role = ChoiceField(Role.choices)


class NewMemberSerializer(RoleSerializer):
    """Somebody who is to have a role, by e-mail address."""

    email = serializers.EmailField(max_length=254)


class MemberQuery(PageSerializer):
    """Which members are asked for."""

    role = ChoiceField(Role.choices, required=False)
    email = serializers.CharField(max_length=254, required=False)


class MembersView(ManagementView):
    """`/api/v1/members`: list who has a role, the newest first, or give somebody one.

    Whoever is new here has it at once (201); whoever has an account already is invited, and joins if they want (202).
    """

    def get(self, request: Request) -> Response:
        check_unrestricted(holder_of(request).key)
        query = asked(MemberQuery, request.query_params)
        rows = _members(request)
        if "role" in query:
            rows = rows.filter(role=query["role"])
        if "email" in query:
            rows = rows.filter(user__email__iexact=query["email"])
        if "cursor" in query:
            rows = rows.older_than(*place_of(query["cursor"], int))
        return page_of(
            # One more than is shown tells whether there are more.
            list(rows.newest_first()[: query["limit"] + 1]),
            query["limit"],
            place=lambda member: (member.created_at, member.pk),
            records=_records,
        )

    def post(self, request: Request) -> Response:
        key = holder_of(request).key
        check_unrestricted(key)
        checked = given(NewMemberSerializer, request)
        tenant = Tenant.objects.get(pk=key.tenant_id)
        email, role = checked["email"], Role(checked["role"])
        try:
            member = add_new_member(tenant=tenant, email=email, role=role, actor=actor_of(request))
        except HasAnAccount:
            return invited(request, tenant=tenant, email=email, role=role)
        return shown(_record(member), status=201, headers={"Location": f"/api/v1/members/{member.user_id}"})


class MemberView(ManagementView):
    """`/api/v1/members/{id}`: show a member, change the role (PATCH), or take it away. The last owner stays."""

    def get(self, request: Request, member_id: int) -> Response:
        check_unrestricted(holder_of(request).key)
        return shown(_record(found(request, member_id)))

    @transaction.atomic
    def patch(self, request: Request, member_id: int) -> Response:
        check_unrestricted(holder_of(request).key)
        role = Role(given(RoleSerializer, request)["role"])
        member = _changeable(request, member_id)
        changed, left = change_role(membership=member, role=role, actor=actor_of(request))
        return shown(_record(changed) | _told(left), without=KEYS)

    @transaction.atomic
    def delete(self, request: Request, member_id: int) -> Response:
        check_unrestricted(holder_of(request).key)
        member = _changeable(request, member_id)
        left = remove_member(membership=member, actor=actor_of(request))
        return Response({"id": member.user_id, **_told(left)})


def _told(left: KeysLeft) -> dict[str, int]:
    return dict(zip(KEYS, (left.frozen, left.running), strict=True))


def found(request: Request, member_id: int) -> Membership:
    """The tenant's member, by the person's id. Raises `NotFound`."""
    member = _members(request).filter(user_id=member_id).first()
    if member is None:
        raise NotFound("There is no such member.")
    return member


def _changeable(request: Request, member_id: int) -> Membership:
    """The same, if it is as the client read it, and nobody else changes it meanwhile."""
    Tenant.objects.select_for_update(no_key=True).get(pk=holder_of(request).key.tenant_id)
    member = found(request, member_id)
    check_match(request, etag_of(_record(member)))
    return member


def _members(request: Request) -> MembershipQuerySet:
    return Membership.objects.of_tenant(holder_of(request).key.tenant_id)


def _record(member: Membership) -> dict[str, Any]:
    return {
        "id": member.user_id,
        "tenant_id": member.tenant_id,
        "email": member.user.email,
        "role": member.role,
        "created_at": member.created_at,
    }


def _records(rows: Sequence[Membership]) -> list[dict[str, Any]]:
    return [_record(member) for member in rows]
