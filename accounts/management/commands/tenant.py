"""Customers: create, list, show, change."""

from django.db.models import Count
from django.utils import timezone
from django.utils.text import slugify

from accounts.commands import FOR_TENANT, CommandFailed, Options, VerbCommand, argument, one_of, tenant_named, verb
from accounts.models import Tenant
from accounts.printing import Record
from accounts.services import change_tenant, create_tenant

TIMEZONE = argument("--timezone", help="IANA name; days and months of the limits begin in it.")
MONTH_START = argument(
    "--month-start", dest="month_start_day", type=int, metavar="DAY", help="Day on which months begin, 1 to 28."
)


FIELDS = ("name", "timezone", "month_start_day")


class Command(VerbCommand):
    help = "Customers: create, list, show, change."

    @verb(
        "create",
        "Register a customer.",
        argument("--name", required=True),
        argument("--slug", help="Its name in commands; made from the name if not given."),
        TIMEZONE,
        MONTH_START,
    )
    def create(self, options: Options) -> Record:
        slug = options.slug or slugify(options.name)
        if Tenant.objects.filter(slug=slug).exists():
            raise CommandFailed(
                f"There is a tenant `{slug}` already: give this one another name in commands with --slug.",
                code="slug_taken",
            )
        made = create_tenant(
            name=options.name,
            slug=slug,
            timezone=options.timezone or "UTC",
            month_start_day=1 if options.month_start_day is None else options.month_start_day,
            actor=self.actor,
        )
        return record_of(made)

    @verb("list", "List all customers.")
    def listing(self, options: Options) -> list[Record]:
        tenants = Tenant.objects.annotate(members=Count("memberships")).order_by("slug")
        return [record_of(tenant) | {"members": tenant.members} for tenant in tenants]

    @verb("show", "Show one customer.", FOR_TENANT)
    def detail(self, options: Options) -> Record:
        return record_of(tenant_named(options.tenant))

    @verb(
        "update",
        "Change a customer, or suspend it: a suspended customer's calls are refused.",
        FOR_TENANT,
        argument("--name"),
        TIMEZONE,
        MONTH_START,
        argument(
            "--evidence-months",
            type=int,
            metavar="MONTHS",
            help="How many months before the present one it is shown; 0: all.",
        ),
        one_of(argument("--suspend", action="store_true"), argument("--resume", action="store_true")),
    )
    def update(self, options: Options) -> Record:
        tenant = tenant_named(options.tenant)
        changes: dict[str, object] = {
            field: value for field in FIELDS if (value := getattr(options, field)) is not None
        }
        if options.evidence_months is not None:
            changes["evidence_months"] = options.evidence_months or None
        if options.suspend or options.resume:
            changes["suspended_at"] = (tenant.suspended_at or timezone.now()) if options.suspend else None
        if not changes:
            raise CommandFailed("Nothing to change was given.", code="usage")
        return record_of(change_tenant(tenant=tenant, changes=changes, actor=self.actor))


def record_of(tenant: Tenant) -> dict[str, object]:
    """A customer as commands show it."""
    return {
        "id": tenant.pk,
        "slug": tenant.slug,
        "name": tenant.name,
        "timezone": tenant.timezone,
        "month_start_day": tenant.month_start_day,
        "evidence_months": tenant.evidence_months,
        "suspended_at": tenant.suspended_at,
        "created_at": tenant.created_at,
    }
