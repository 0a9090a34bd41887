"""The cast of the tests is what the services would have made of it."""

import re

import pytest
from django.db import connection, transaction

from accounts.models import Role, User
from accounts.services import add_member, create_tenant
from tests import people

pytestmark = pytest.mark.django_db

TABLES = ("cus_tenants", "cus_users", "account_emailaddress", "cus_memberships", "cus_audit_events")
OTHER_EACH_TIME = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|md5\$[^\"]*|\d{4}-\d\d-\d\dT[^\"]*")
"""Ids, hashes and times."""


def rows() -> list[str]:
    """All that is in these tables but what is another each time; people are called by their names."""
    found = []
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"SELECT '{table} ' || (to_jsonb(t) - 'id')::text FROM {table} t ORDER BY id")  # noqa: S608
            found += [OTHER_EACH_TIME.sub("", row) for (row,) in cursor.fetchall()]
    for user in User.objects.all():
        found = [re.sub(rf'("(?:user|object)_id": "?){user.pk}\b', rf"\1{user.email}", row) for row in found]
    return found


def test_acme_is_what_the_services_make() -> None:
    with transaction.atomic():
        tenant = create_tenant(name="Acme", slug="acme")
        for person, role in (("alice", Role.OWNER), ("bob", Role.VIEWER)):
            add_member(tenant=tenant, email=f"{person}@acme.example", role=role, password=people.PASSWORD)
        by_services = rows()
        transaction.set_rollback(True)
    people.acme()
    assert rows() == by_services


def test_the_cast_signs_in_by_its_password() -> None:
    assert people.alice().check_password(people.PASSWORD)
    assert people.bob().check_password(people.PASSWORD)
