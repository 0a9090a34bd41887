"""With whom: a tenant's providers, its credentials, its gateway keys."""

from datetime import datetime

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

from accounts.addresses import network_of
from accounts.ids import uuid7
from accounts.json_values import why_unstorable
from accounts.models import Tenant, User
from integrations.identity_providers import IdentityProvider as IdentityProvider
from integrations.kept_answers import KeptAnswer as KeptAnswer
from integrations.limits import Limit as Limit
from integrations.providers import PROVIDERS, SANDBOX_ORIGIN, BadBaseUrl, ProviderType, origin_of
from integrations.querysets import GatewayKeyQuerySet, IntegrationQuerySet

DEFAULT_MAX_OUTPUT_TOKENS = 16_384


class Status(models.TextChoices):
    """Whether calls may be carried."""

    CREATED = "created"
    ENABLED = "enabled"
    DISABLED = "disabled"
    ERROR = "error"


class HealthState(models.TextChoices):
    """How the provider was last seen."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    FAILING = "failing"


class OnDisconnect(models.TextChoices):
    """What happens upstream when the client leaves."""

    DRAIN = "drain", "read on for the exact usage, at most 10 s"
    CLOSE = "close", "close within 1 s and settle by count"


class OutagePolicy(models.TextChoices):
    """What happens to calls while the ledger cannot be reached."""

    DENY = "deny", "refuse: no call without its admission"
    ALLOW = "allow", "go ahead: strict limits are suspended until the ledger is back"


class Integration(models.Model):
    """A provider as one tenant uses it: where it is, whose credential opens it, whether calls may pass."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="integrations")
    name = models.CharField(
        max_length=64,
        validators=[RegexValidator(r"^[a-z0-9][a-z0-9-]*\Z", "Use lower-case letters, digits and hyphens.")],
        help_text="Part of the proxy URL: /proxy/NAME/…",
    )
    provider_type = models.CharField(max_length=32, choices=[(t.value, PROVIDERS[t].title) for t in ProviderType])
    base_url = models.CharField(max_length=512, blank=True, help_text="Empty: the provider's own.")
    config = models.JSONField(default=dict, blank=True)
    status = models.CharField(max_length=16, choices=Status, default=Status.CREATED)
    health_state = models.CharField(max_length=16, choices=HealthState, default=HealthState.UNKNOWN)
    health_checked_at = models.DateTimeField(null=True, blank=True)
    health_message = models.CharField(max_length=500, blank=True)
    default_model = models.CharField(max_length=200, blank=True)
    max_output_tokens = models.PositiveIntegerField(
        default=DEFAULT_MAX_OUTPUT_TOKENS,
        help_text="Output cap sent upstream when a call names none and a strict limit needs a bound.",
    )
    on_disconnect = models.CharField(max_length=16, choices=OnDisconnect, default=OnDisconnect.DRAIN)
    outage_policy = models.CharField(
        max_length=16,
        choices=OutagePolicy,
        default=OutagePolicy.DENY,
        # Processes of the version before go on writing rows.
        db_default=OutagePolicy.DENY,
        help_text="While the ledger cannot be reached, calls that go ahead may exceed every limit; they are counted "
        "when it is back.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = IntegrationQuerySet.as_manager()

    class Meta:
        db_table = "cus_integrations"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "name"], condition=Q(deleted_at=None), name="cus_integrations_name_once"
            ),
            models.CheckConstraint(condition=Q(status__in=Status.values), name="cus_integrations_status"),
            models.CheckConstraint(
                condition=Q(outage_policy__in=OutagePolicy.values), name="cus_integrations_outage_policy"
            ),
            models.CheckConstraint(condition=Q(max_output_tokens__gte=1), name="cus_integrations_max_output"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def origin(self) -> str:
        """Scheme, host and port that the credential is bound to."""
        return origin_of(self.base_url)

    def clean(self) -> None:
        if why := why_unstorable(self.config) if isinstance(self.config, dict) else "It has to be a JSON object.":
            raise ValidationError({"config": why})
        if self.provider_type == ProviderType.SANDBOX:
            self.base_url = SANDBOX_ORIGIN
        elif self.base_url == SANDBOX_ORIGIN:
            raise ValidationError({"base_url": "Only a sandbox integration reaches the sandbox."})
        if not self.base_url and self.provider_type:
            self.base_url = PROVIDERS[ProviderType(self.provider_type)].base_url or ""
        if not self.base_url:
            raise ValidationError({"base_url": "This provider type needs a base URL."})
        self.base_url = self.base_url.rstrip("/") if self.base_url != SANDBOX_ORIGIN else SANDBOX_ORIGIN
        try:
            origin_of(self.base_url)
        except BadBaseUrl as error:
            raise ValidationError({"base_url": str(error)}) from error


class Credential(models.Model):
    """One version of an integration's credential: sealed, or a reference to where it is kept."""

    integration = models.ForeignKey(Integration, on_delete=models.PROTECT, related_name="credentials")
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+")
    version = models.PositiveIntegerField()
    origin = models.CharField(max_length=512)
    reference = models.CharField(max_length=512, blank=True)
    ciphertext = models.BinaryField(null=True)
    wrapped_key = models.BinaryField(null=True)
    master_key_id = models.CharField(max_length=16, blank=True)
    tail = models.CharField(max_length=4, blank=True)
    """The last four characters, all that is ever shown."""
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "cus_credentials"
        constraints = [
            models.UniqueConstraint(fields=["integration", "version"], name="cus_credentials_version_once"),
            models.CheckConstraint(
                condition=Q(reference="", ciphertext__isnull=False, wrapped_key__isnull=False)
                | (~Q(reference="") & Q(ciphertext=None, wrapped_key=None)),
                name="cus_credentials_sealed_or_referenced",
            ),
        ]

    def __str__(self) -> str:
        if self.is_own:
            return "none"
        return self.reference or f"…{self.tail}"

    @property
    def is_own(self) -> bool:
        """Whether it stands for none: the sandbox lives in this server and needs no key."""
        return self.origin == SANDBOX_ORIGIN


class Scope(models.TextChoices):
    """What a gateway key may be used for."""

    INFERENCE = "inference", "carry calls"
    READ = "read", "read the tenant's evidence"
    INGEST = "ingest", "report calls made elsewhere"
    MANAGE = "manage", "change integrations, keys and limits"


def check_network(text: str) -> None:
    """Raise `ValidationError` for what is neither an address nor a CIDR."""
    try:
        network_of(text)
    except ValueError as error:
        raise ValidationError(f"{error}.") from None


class GatewayKey(models.Model):
    """A key that programs call the gateway with; only its digest is kept."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="gateway_keys")
    name = models.CharField(max_length=100)
    public_id = models.CharField(max_length=16, unique=True, editable=False)
    digest = models.BinaryField(max_length=32, editable=False)
    previous_digest = models.BinaryField(max_length=32, null=True, editable=False)
    """Of the secret before the last rotation, which is good until `previous_expires_at`."""
    previous_expires_at = models.DateTimeField(null=True, editable=False)
    scopes = ArrayField(models.CharField(max_length=16, choices=Scope), default=list)
    integrations = models.ManyToManyField(Integration, blank=True, help_text="None chosen: all of the tenant's.")
    allowed_models = ArrayField(
        models.CharField(max_length=200), default=list, blank=True, help_text="Empty: every model."
    )
    allowed_networks = ArrayField(
        models.CharField(max_length=64, validators=[check_network]),
        default=list,
        # Processes of the version before go on writing rows.
        db_default=[],
        blank=True,
        help_text="Addresses and CIDRs from which it is taken, with commas; empty: from everywhere.",
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    frozen_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoke_reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    last_used_at = models.DateTimeField(null=True, editable=False)
    """Of the newest call or REST request, a few seconds late: see `integrations.key_uses`."""
    last_used_address = models.GenericIPAddressField(null=True, editable=False)
    request_count = models.BigIntegerField(default=0, db_default=0, editable=False)
    """How many of its calls were decided. What workers counted in the seconds before they were killed is missing here,
    and is in the decisions."""

    objects = GatewayKeyQuerySet.as_manager()

    class Meta:
        db_table = "cus_gateway_keys"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def prefix(self) -> str:
        """The part that may be shown."""
        return f"cush_{self.public_id}"

    def state_at(self, now: datetime) -> str:
        """Whether the key is taken, in one word."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "frozen" if self.frozen_at is not None else "active"


class MasterKeyCanary(models.Model):
    """A known text sealed by the master key in use: tells a wrong key before it does harm."""

    master_key_id = models.CharField(max_length=16, primary_key=True)
    sealed = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "cus_master_key_canaries"

    def __str__(self) -> str:
        return self.master_key_id
