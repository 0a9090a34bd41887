"""What an operator looks at when something is wrong, each with what to do about it. Nothing here prints a secret."""

import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, connection
from django.utils import timezone

from accounts.clocks import seconds_apart
from accounts.commands import CommandFailed
from accounts.models import Tenant
from accounts.time_zones import disagreeing
from config import postgres
from config.entry import RUN
from config.environment import OWN_SECRETS, PROJECT, Environment
from config.postgres.places import Place
from config.startup import check_secrets, check_sessions, pending_migrations
from enforcement.journal import REJECTED
from integrations import outbound
from integrations.custody import secret_server
from integrations.destinations import Destinations
from integrations.models import Integration, Status
from integrations.providers import ProviderType
from integrations.services import master_key_problem
from integrations.vault import VaultError
from telemetry.guards import guards_off
from telemetry.models import PriceVersion
from telemetry.retention import days_ahead
from telemetry.services import OVERRIDE

OLDEST_SERVER, NEWEST_SERVER = 15, 18
MOST_SKEW_SECONDS = 1.0
OLDEST_PRICES = timedelta(days=60)
LEAST_DATA_BYTES = 1024**3
LEAST_OPEN_FILES = 4096
MOST_ORIGINS = 50
MOST_GUARDS = 5
LEAST_DAYS_AHEAD = 45
LOOKING_THREADS = 8
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Seen:
    """One line: `state` is `ok`, `problem` or `skipped`, and `fix` says what to do about a problem."""

    check: str
    state: str
    found: str
    fix: str | None = None


def ok(check: str, found: str) -> Seen:
    return Seen(check, "ok", found)


def problem(check: str, found: str, fix: str) -> Seen:
    return Seen(check, "problem", found, fix)


def look_around(environment: Environment) -> Iterator[Seen]:
    """Every check in turn. What needs the database is skipped where there is none."""
    yield from _secrets()
    database = _database()
    yield database
    for name, check in IN_THE_DATABASE.items():
        if database.state == "ok":
            yield from check()
        else:
            yield Seen(name, "skipped", "the database does not answer")
    yield _secret_server(environment)
    yield from _disk(environment)
    yield _journal(environment)
    yield _metrics()
    yield _open_files()


def _secrets() -> Iterator[Seen]:
    try:
        check_secrets()
    except CommandFailed as failure:
        yield problem("secrets", str(failure), "Run `manage.py init` once, or set the variable.")
        return
    folder = PROJECT / "var" / "secrets"
    written = [folder / name for name in OWN_SECRETS if (folder / name).is_file()]
    loose = [str(path) for path in written if path.stat().st_mode & 0o077]
    if loose:
        yield problem("secrets", f"others may read {', '.join(loose)}", f"chmod 600 {' '.join(loose)}")
    else:
        yield ok("secrets", "set")


def _database() -> Seen:
    name = "database"
    try:
        if settings.EMBEDDED_POSTGRES:
            postgres.acquire(PROJECT)
        began = time.perf_counter()
        connection.ensure_connection()
        took = time.perf_counter() - began
        check_sessions()
    except postgres.EmbeddedPostgresError as error:
        return problem(name, _first_line(error), "Do what the message says.")
    except CommandFailed as failure:
        return problem(name, str(failure), "Set DATABASE_DIRECT_URL.")
    except OSError as error:
        # Counters of queries are files, and without their folder no connection is made.
        return problem(name, str(error), "See to what the message names.")
    except Exception as error:  # noqa: BLE001 - whatever keeps the database away is what we are here to tell
        return problem(name, _first_line(error), "Start PostgreSQL, and see that DATABASE_URL leads there.")
    major = connection.connection.info.server_version // 10_000
    kind = "embedded " if settings.EMBEDDED_POSTGRES else ""
    if not OLDEST_SERVER <= major <= NEWEST_SERVER:
        return problem(name, f"PostgreSQL {major}", f"Use PostgreSQL {OLDEST_SERVER} to {NEWEST_SERVER}.")
    return ok(name, f"{kind}PostgreSQL {major}, connected in {took * 1000:.0f} ms")


def _migrations() -> Iterator[Seen]:
    pending = pending_migrations()
    if pending:
        yield problem("migrations", f"{pending} are pending", "Run `manage.py init`.")
    else:
        yield ok("migrations", "none pending")


def _clock() -> Iterator[Seen]:
    skew = seconds_apart()
    if skew > MOST_SKEW_SECONDS:
        yield problem("clock", f"{skew:.1f} s apart from the database", "Let NTP set both machines' clocks.")
    else:
        yield ok("clock", "the same as the database's")


def _time_zones() -> Iterator[Seen]:
    differ = disagreeing(sorted(set(Tenant.objects.values_list("timezone", flat=True))), now=timezone.now())
    if differ:
        yield problem(
            "time zones",
            f"{', '.join(differ)}: the database divides days otherwise than this machine",
            "Bring both to the same rules: tzdata here, and PostgreSQL's minor version there.",
        )
    else:
        yield ok("time zones", "days are the same to the database")


def _master_key() -> Iterator[Seen]:
    found = master_key_problem()
    if found is None:
        yield ok("master key", "opens its canary, and wraps all stored keys")
    else:
        yield problem("master key", found, "Set the right keys: docs/security.md says how they are exchanged.")


def _providers() -> Iterator[Seen]:
    in_use = Integration.objects.present().filter(status__in=[Status.ENABLED, Status.ERROR])
    in_use = in_use.exclude(provider_type=ProviderType.SANDBOX)
    origins = sorted({(row.provider_type, row.origin) for row in in_use.only("provider_type", "base_url")})
    if not origins:
        yield ok("providers", "none in use but the sandbox")
    destinations = Destinations.parse(settings.ENVIRONMENT.allow_upstreams)
    with ThreadPoolExecutor(LOOKING_THREADS) as threads:
        yield from threads.map(lambda one: _provider(one[0], one[1], destinations), origins[:MOST_ORIGINS])
    if len(origins) > MOST_ORIGINS:
        yield Seen("providers", "skipped", f"{len(origins) - MOST_ORIGINS} more")


def _provider(provider_type: str, origin: str, destinations: Destinations) -> Seen:
    """Whether anything answers there, to a request without a credential."""
    name = f"provider {provider_type}"
    try:
        outbound.get(f"{origin}/", {"user-agent": "customhouse"}, destinations=destinations)
    except outbound.Unreachable as error:
        return problem(
            name, f"{origin}: {error}", "See to DNS, the firewall, the roots of trust and CUSTOMHOUSE_ALLOW_UPSTREAMS."
        )
    return ok(name, f"{origin} answers")


def _secret_server(environment: Environment) -> Seen:
    """Whether the server that keeps provider keys takes our token."""
    name = "secret server"
    if environment.vault_addr is None:
        return ok(name, "none is configured")
    try:
        secret_server().check()
    except VaultError as error:
        return problem(name, f"{environment.vault_addr}: {error}", "See to its address, token and policy.")
    return ok(name, f"{environment.vault_addr} takes our token")


def _prices() -> Iterator[Seen]:
    packages = PriceVersion.objects.exclude(source__startswith=OVERRIDE)
    newest = packages.order_by("-effective_from", "-pk").first()
    name, installed = "prices", f"genai-prices {version('genai-prices')}"
    if newest is None:
        yield problem(name, "there are none", "Run `manage.py init`.")
    elif not newest.source.startswith(f"{installed} "):
        yield problem(name, f"{installed} was not taken in", "Run `manage.py price import`.")
    elif timezone.now() - newest.created_at > OLDEST_PRICES:
        days = (timezone.now() - newest.created_at).days
        yield problem(name, f"{installed}, {days} days ago", "Upgrade genai-prices, then run `manage.py price import`.")
    else:
        yield ok(name, installed)


def _months() -> Iterator[Seen]:
    name, days = "months of evidence", days_ahead(now=timezone.now())
    if days < LEAST_DAYS_AHEAD:
        yield problem(name, f"the last one ends in {days} days", "Run `manage.py partitions add` as the tables' owner.")
    else:
        yield ok(name, f"there are some for {days} days")


def _guards() -> Iterator[Seen]:
    name, off = "guards of evidence", list(guards_off())
    if off:
        more = f"; and {len(off) - MOST_GUARDS} more" if len(off) > MOST_GUARDS else ""
        yield problem(
            name,
            "; ".join(off[:MOST_GUARDS]) + more,
            "As the owner, for each table named: ALTER TABLE … ENABLE TRIGGER USER; what is gone is made again by "
            "hand, as in accounts/append_only.py. Then run `manage.py verify_evidence`.",
        )
    else:
        yield ok(name, "all are on")


IN_THE_DATABASE: dict[str, Callable[[], Iterator[Seen]]] = {
    "migrations": _migrations,
    "clock": _clock,
    "time zones": _time_zones,
    "master key": _master_key,
    "prices": _prices,
    "months of evidence": _months,
    "guards of evidence": _guards,
    "providers": _providers,
}


def _disk(environment: Environment) -> Iterator[Seen]:
    yield _room("disk for the journal", environment.journal_dir, environment.journal_max_bytes)
    if settings.EMBEDDED_POSTGRES:
        yield _room("disk for the database", Path(Place.of(PROJECT).state), LEAST_DATA_BYTES)


def _room(name: str, folder: Path, needed: int) -> Seen:
    there = _nearest(folder)
    free = shutil.disk_usage(there).free
    told = f"{free / GIB:.1f} GiB free at {folder}"
    if free < needed:
        return problem(name, told, f"Make room: {needed / GIB:.2f} GiB is the least.")
    if not os.access(there, os.W_OK):
        return problem(name, f"{folder} cannot be written", "Let the server's account write there.")
    return ok(name, told)


def _journal(environment: Environment) -> Seen:
    rejected = environment.journal_dir / REJECTED
    if rejected.is_file() and rejected.stat().st_size:
        return problem(
            "journal",
            f"{rejected.stat().st_size} bytes of calls that the database refused, in {rejected}",
            "Look at them, count them by hand, and move the file away.",
        )
    return ok("journal", "nothing that the database refused")


def _metrics() -> Seen:
    given = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    folder = Path(given) if given else RUN
    if os.access(_nearest(folder), os.W_OK) and (not given or folder.is_dir()):
        return ok("metrics", str(folder))
    if given:
        return problem("metrics", f"{folder} cannot be written", "Make the folder, or unset PROMETHEUS_MULTIPROC_DIR.")
    return ok("metrics", f"{folder} cannot be written, so a temporary folder is used")


def _open_files() -> Seen:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < LEAST_OPEN_FILES:
        return problem("open files", f"at most {most}; a call needs two", "Raise the limit: LimitNOFILE=65536.")
    return ok("open files", "no limit" if most == resource.RLIM_INFINITY else f"at most {most}")


def _nearest(folder: Path) -> Path:
    """The folder, or what is above it and exists."""
    return next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))


def _first_line(error: BaseException) -> str:
    if isinstance(error, DatabaseError) and error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]
