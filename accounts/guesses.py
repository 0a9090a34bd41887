"""How often passwords may be guessed: longer waits after each failure, none without an end.

Failures are counted per account and network, per account, and per network. A browser in which the account's owner has
signed in before is counted by itself alone: whatever others try, it comes in. So does whoever sets a new password.
"""

import ipaddress
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import models, transaction
from django.utils.crypto import salted_hmac

FORGOTTEN_AFTER = timedelta(days=1)
"""Since the last failure."""
LONGEST_WAIT = timedelta(minutes=15)
IPV6_PREFIX = 64


@dataclass(frozen=True, slots=True)
class Patience:
    """How many failures cost nothing, and how long the first wait after them is; each further one doubles it."""

    free: int
    first_wait: timedelta

    def wait_after(self, failures: int) -> timedelta:
        """How long nobody may try after that many failures in a row."""
        if failures < self.free:
            return timedelta(0)
        # Beyond this every wait is the longest, whatever the number.
        doublings = min(failures - self.free, 16)
        return min(self.first_wait * (1 << doublings), LONGEST_WAIT)


PATIENCE = {
    "account and network": Patience(5, timedelta(seconds=15)),
    "account": Patience(50, timedelta(seconds=30)),
    "network": Patience(30, timedelta(seconds=15)),
    "browser": Patience(10, timedelta(seconds=15)),
}


class Guesses(models.Model):
    """Failures in a row of one kind; the key is a keyed digest, so that no list of addresses can be read here."""

    key = models.CharField(max_length=40, primary_key=True)
    kind = models.CharField(max_length=20)
    failures = models.PositiveIntegerField(default=0)
    blocked_until = models.DateTimeField(null=True)
    last_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "cus_password_guesses"

    def __str__(self) -> str:
        return f"{self.kind}: {self.failures}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """Who tries to be whom: the account as it was typed, from which address, in which known browser of the account."""

    account: str
    address: str
    browser: str | None = None

    @property
    def keys(self) -> dict[str, str]:
        """By digest, the kinds by which this attempt is counted."""
        account = plain_account(self.account)
        if self.browser is not None:
            counted = {"browser": f"{account}\n{self.browser}"}
        else:
            network = network_of(self.address)
            counted = {"account and network": f"{account}\n{network}", "account": account, "network": network}
        return {_digest(kind, text): kind for kind, text in counted.items()}


def plain_account(text: str) -> str:
    """One spelling of an address, whatever its case, spaces or equivalent letters."""
    return unicodedata.normalize("NFKC", text).strip().casefold()


def network_of(address: str) -> str:
    """An IPv4 address, or the network of an IPv6 address that one customer of a provider gets."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))
    return str(parsed)


@transaction.atomic
def charge(attempt: Attempt, *, now: datetime) -> timedelta | None:
    """Count a failure before the password is looked at, so that guesses at once are counted too.

    The time to wait if the attempt is not allowed, and then nothing is counted; `None`: go ahead, and `release` after
    a right password.
    """
    rows = _locked(attempt, now)
    waits = [row.blocked_until - now for row in rows if row.blocked_until is not None and row.blocked_until > now]
    if waits:
        return max(waits)
    for row in rows:
        forgotten = row.last_at < now - FORGOTTEN_AFTER
        row.failures = 1 if forgotten else row.failures + 1
        row.last_at = now
        row.blocked_until = now + PATIENCE[row.kind].wait_after(row.failures)
    Guesses.objects.bulk_update(rows, ["failures", "last_at", "blocked_until"])
    return None


@transaction.atomic
def release(attempt: Attempt, *, now: datetime) -> None:
    """Take back what `charge` counted; where only the account's owner is counted, forget all failures."""
    for row in _locked(attempt, now):
        if row.kind in ("account and network", "browser"):
            row.delete()
            continue
        # An attacker with an account of their own must not wipe out the failures that others' accounts have seen.
        row.failures = max(0, row.failures - 1)
        row.blocked_until = None
        row.save(update_fields=["failures", "blocked_until"])
    # Whoever holds one of these is counting again, and is not waited for: there is no order between us.
    old = Guesses.objects.filter(last_at__lt=now - FORGOTTEN_AFTER).select_for_update(skip_locked=True)
    Guesses.objects.filter(pk__in=list(old.values_list("pk", flat=True))).delete()


def forgive(attempt: Attempt) -> None:
    """Forget the failures of an account whose owner has set a new password; those of the network stay."""
    keys = [key for key, kind in attempt.keys.items() if kind != "network"]
    Guesses.objects.filter(key__in=keys).delete()


def _locked(attempt: Attempt, now: datetime) -> Sequence[Guesses]:
    """The rows of an attempt, made where they are missing, locked in one order."""
    fresh = [Guesses(key=key, kind=kind, last_at=now) for key, kind in sorted(attempt.keys.items())]
    Guesses.objects.bulk_create(fresh, ignore_conflicts=True)
    return list(Guesses.objects.select_for_update().filter(key__in=attempt.keys).order_by("key"))


def _digest(kind: str, text: str) -> str:
    return salted_hmac(f"accounts.guesses {kind}", text, algorithm="sha256").hexdigest()[:40]
