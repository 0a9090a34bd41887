"""People who run the installation: create, list, remove."""

from django.contrib.auth.models import Group
from django.contrib.auth.password_validation import validate_password
from django.core.validators import validate_email

from accounts.commands import (
    CommandFailed,
    Options,
    VerbCommand,
    argument,
    one_of,
    secret_arguments,
    secret_from,
    verb,
)
from accounts.models import User
from accounts.operators import dismiss_operator, make_operator, operators
from accounts.printing import Record

EMAIL = argument("--email", required=True)


class Command(VerbCommand):
    help = "People who run the installation at the admin site: create, list, remove."

    @verb(
        "create",
        "Let a person use the admin site as one of the groups, or do everything; other groups are taken away.",
        EMAIL,
        one_of(
            argument(
                "--group",
                action="append",
                metavar="NAME",
                help="support (reads), operator, finance, or one of your own; may be given again.",
            ),
            argument("--superuser", action="store_true", help="May do everything."),
            required=True,
        ),
        one_of(*secret_arguments("password", "the new person's password")),
    )
    def create(self, options: Options) -> Record:
        validate_email(options.email)
        groups = [group_named(name) for name in options.group or ()]
        password = secret_from(options, "password")
        known = User.objects.filter(email__iexact=options.email).exists()
        if known and password:
            raise CommandFailed(
                f"{options.email} is known and keeps the password: leave it out, or use `changepassword --email`.",
                code="person_exists",
            )
        if password:
            validate_password(password)
        user = make_operator(
            email=options.email,
            password=password,
            groups=groups,
            is_superuser=options.superuser,
            actor=self.actor,
        )
        if not known and not password:
            self.note("Without a password this person cannot sign in: set one with `changepassword --email`.")
        return record_of(user)

    @verb("list", "List everybody who may use the admin site.")
    def listing(self, options: Options) -> list[Record]:
        return [record_of(user) for user in operators().order_by("email")]

    @verb("remove", "Take a person's right to the admin site away; the person and the roles at customers stay.", EMAIL)
    def remove(self, options: Options) -> Record:
        user = operators().filter(email__iexact=options.email).first()
        if user is None:
            raise CommandFailed(f"{options.email} is no operator.", code="not_found")
        return record_of(dismiss_operator(user=user, actor=self.actor))


def group_named(name: str) -> Group:
    """The group of that name. Raises `CommandFailed`."""
    found = Group.objects.filter(name=name).first()
    if found is None:
        names = ", ".join(Group.objects.order_by("name").values_list("name", flat=True))
        raise CommandFailed(f"There is no group `{name}`, but {names or 'none'}.", code="not_found")
    return found


def record_of(user: User) -> Record:
    """An operator as commands show one."""
    return {
        "email": user.email,
        "superuser": user.is_superuser,
        "groups": sorted(group.name for group in user.groups.all()),
        "operator": user.is_staff,
        "can_sign_in": user.is_active and user.has_usable_password(),
        "last_login": user.last_login,
    }
