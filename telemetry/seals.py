"""Seals: signed statements of which rows of evidence there were, each naming the one before it."""

import hashlib
from typing import TYPE_CHECKING

from django.db import models

from accounts.append_only import AppendOnlyModel
from telemetry.seal_headers import SealHeader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID


class SealQuerySet(models.QuerySet["Seal"]):
    """Reads of seals, the tenant first."""

    def for_tenant(self, tenant_id: "UUID") -> "SealQuerySet":
        return self.filter(tenant_id=tenant_id)

    def newest(self, tenant_id: "UUID") -> "Seal | None":
        """The last seal of a tenant."""
        return self.for_tenant(tenant_id).order_by("-number").first()

    def newest_of_each(self) -> "Iterator[Seal]":
        """The last seal of every tenant, in the order of tenants: by the index, however many each has."""
        tenants = self.order_by("tenant_id").values_list("tenant_id", flat=True)
        tenant_id = tenants.first()
        while tenant_id is not None:
            newest = self.newest(tenant_id)
            assert newest is not None, "seals are never deleted"
            yield newest
            tenant_id = tenants.filter(tenant_id__gt=tenant_id).first()


class Seal(AppendOnlyModel):
    """Up to a thousand rows of one tenant's evidence, sealed in the order in which they were queued."""

    tenant_id = models.UUIDField()
    """`telemetry.evidence.NOBODY` for evidence of the installation."""
    number = models.BigIntegerField()
    """1, 2, 3 … of the tenant."""
    sealed_at = models.DateTimeField()
    form = models.SmallIntegerField()
    """Of the canonical texts, see `telemetry.seal_forms`."""
    count = models.IntegerField()
    total = models.BigIntegerField()
    """Rows of this seal and of all before it."""
    root = models.BinaryField()
    previous = models.BinaryField()
    hash = models.BinaryField()
    signature = models.BinaryField()
    public_key = models.BinaryField()
    """Ed25519, 32 bytes: whose signature it is."""
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    leaves = models.BinaryField()
    """`telemetry.seal_headers.LEAF`, one after the other."""

    objects = SealQuerySet.as_manager()

    class Meta:
        db_table = "cus_seals"
        constraints = [models.UniqueConstraint(fields=["tenant_id", "number"], name="cus_seals_once")]

    def __str__(self) -> str:
        return f"seal {self.number} of {self.tenant_id}"

    @property
    def header(self) -> SealHeader:
        """Without the leaves, which it names by their digest."""
        return SealHeader(
            tenant_id=self.tenant_id,
            number=self.number,
            sealed_at=self.sealed_at,
            form=self.form,
            count=self.count,
            total=self.total,
            root=bytes(self.root),
            previous=bytes(self.previous),
            leaves_digest=hashlib.sha256(self.leaves).digest(),
            first_at=self.first_at,
            last_at=self.last_at,
            public_key=bytes(self.public_key),
            hash=bytes(self.hash),
            signature=bytes(self.signature),
        )
