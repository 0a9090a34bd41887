"""Where members of a tenant sign in, if the tenant has an identity provider of its own (OpenID Connect)."""

from uuid import UUID

from django.db import models

from accounts.ids import uuid7
from accounts.models import Tenant


class IdentityProviderQuerySet(models.QuerySet["IdentityProvider"]):
    """Reads of identity providers; every one starts at the tenant."""

    def for_tenant(self, tenant_id: UUID) -> "IdentityProviderQuerySet":
        return self.filter(tenant_id=tenant_id)


class IdentityProvider(models.Model):
    """A tenant's provider; our secret there is sealed like every credential, for this tenant, provider and issuer."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.OneToOneField(Tenant, on_delete=models.PROTECT, related_name="+")
    issuer = models.URLField(max_length=512)
    client_id = models.CharField(max_length=255)
    trusts_addresses = models.BooleanField(default=False)
    """Whether addresses are taken as verified although the provider does not say that they are."""
    version = models.PositiveIntegerField(default=1)
    """Of the secret."""
    ciphertext = models.BinaryField()
    wrapped_key = models.BinaryField()
    master_key_id = models.CharField(max_length=16)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = IdentityProviderQuerySet.as_manager()

    class Meta:
        db_table = "cus_identity_providers"

    def __str__(self) -> str:
        return self.issuer
