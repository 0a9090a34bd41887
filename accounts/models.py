"""Who: the people, the customers, and which person may act for which customer."""

from typing import ClassVar
from unicodedata import category

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from accounts.audit_events import AuditEvent as AuditEvent
from accounts.calendars import Calendar
from accounts.guesses import Guesses as Guesses
from accounts.ids import uuid7
from accounts.invitations import Invitation as Invitation
from accounts.querysets import MembershipQuerySet
from accounts.time_zones import check_timezone


class UserManager(BaseUserManager["User"]):
    """Creates people by their e-mail address."""

    def create_user(self, email: str, password: str | None = None, **fields: object) -> "User":
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: object) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email__iexact=username)


class User(AbstractBaseUser, PermissionsMixin):
    """A person who signs in with an e-mail address."""

    email = models.EmailField(max_length=254, unique=True)
    name = models.CharField(max_length=150, blank=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField("operator", default=False, help_text="May use the admin site.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"

    class Meta:
        db_table = "cus_users"
        constraints = [models.UniqueConstraint(Lower("email"), name="cus_users_email_any_case")]

    def __str__(self) -> str:
        return self.email


MOST_EVIDENCE_MONTHS = 1_200
NOT_IN_NAMES = ("Cc", "Zl", "Zp")
"""Control characters and line ends, by their Unicode category."""


class Tenant(models.Model):
    """A customer: the owner of integrations, keys, limits and evidence."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=150)
    slug = models.SlugField(max_length=64, unique=True)
    timezone = models.CharField(max_length=64, default="UTC", validators=[check_timezone])
    month_start_day = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(28)],
        help_text="Day on which the months of limits begin, 1 to 28.",
    )
    calendar_version = models.PositiveIntegerField(default=0, editable=False)
    """Rises when time zone or start day change: usage is counted anew from the evidence."""
    calendar_since = models.DateTimeField(null=True, editable=False)
    """From when on its hours and days have sums of their own, by its time zone and of all calls; empty: always."""
    config_version = models.BigIntegerField(default=1, editable=False)
    """Rises with every change that an admission must see."""
    evidence_months = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_EVIDENCE_MONTHS)],
        help_text="How many months before the present one its members and programs are shown; empty: all.",
    )
    """See `accounts.horizon`. At least one, so that every period of a limit that runs is shown."""
    requires_second_factor = models.BooleanField(default=False)
    """Members see nothing of it before they have set one up."""
    suspended_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "cus_tenants"
        constraints = [
            models.CheckConstraint(
                condition=Q(month_start_day__gte=1, month_start_day__lte=28), name="cus_tenants_month_start"
            )
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Refuse a name that does not fit on a line; one from before may stay, so that its tenant can be suspended."""
        super().clean()
        if all(category(character) not in NOT_IN_NAMES for character in self.name):
            return
        if self.name not in Tenant.objects.filter(pk=self.pk).values_list("name", flat=True):
            raise ValidationError({"name": "A name holds neither line ends nor other control characters."})

    @property
    def calendar(self) -> Calendar:
        """By what the windows of its limits begin and end."""
        return Calendar(self.timezone, self.month_start_day, self.calendar_version)


class Role(models.TextChoices):
    """What a member may do, from most to least."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    VIEWER = "viewer"


class Membership(models.Model):
    """A person's role at one tenant."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role, default=Role.VIEWER)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = MembershipQuerySet.as_manager()

    class Meta:
        db_table = "cus_memberships"
        constraints = [models.UniqueConstraint(fields=["tenant", "user"], name="cus_memberships_once")]

    def __str__(self) -> str:
        return f"{self.user} at {self.tenant}: {self.role}"
