"""The master key's rotation: data keys are wrapped anew while servers go on opening credentials.

Only `wrapped_key` and `master_key_id` of a row change, together and in one transaction per batch, so that a rotation
may end anywhere and be begun again: what is done is not done twice. The credential itself is never in the clear.
Answers that are kept for a day, to be repeated, are wrapped anew in the same way.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from django.db import transaction
from django.db.models import Count, QuerySet
from django.utils import timezone

from integrations import vault
from integrations.answers import KEPT_FOR, rewrap_answer, wrapped_otherwise
from integrations.custody import binding_of
from integrations.identity_providers import IdentityProvider
from integrations.models import Credential, KeptAnswer, MasterKeyCanary
from integrations.single_sign_on import binding_for
from integrations.vault import Binding, KeyRing, Sealed, VaultError

SealedRow = Credential | IdentityProvider
SEALED: tuple[type[SealedRow], ...] = (Credential, IdentityProvider)
"""Every table with secrets under a master key."""
LOCK = 0x63757372
BATCH = 500
LIVING = r"""
SELECT application_name FROM pg_stat_activity
WHERE datname = current_database() AND application_name ~ '^customhouse presence'
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """A secret, or a canary, that does not open; `problem` says why and holds no secret."""

    problem: str
    master_key_id: str
    tenant: str | None = None
    integration: str | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What one batch came to."""

    done: int
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class KeyUse:
    """How much a master key wraps, and whether its canary opens; `None`: there is none, or no key."""

    master_key_id: str
    role: str
    """`current`, `previous`, or `unknown` to this process."""
    credentials: int
    answers: int
    """Those that are kept to be repeated."""
    canary_opens: bool | None


def ignorant_workers(session: psycopg.Connection[object], ring: KeyRing) -> int:
    """How many living gateway workers would not open what the current master key wraps."""
    names = [str(row[0]).split() for row in session.execute(LIVING).fetchall()]  # type: ignore[index]
    return sum(ring.current.id not in name for name in names)


def waiting(ring: KeyRing) -> int:
    """How many secrets another master key than the current one wraps."""
    return sum(_waiting(table, ring).count() for table in SEALED)


def sealed_rows() -> int:
    """How many secrets there are."""
    return sum(table._default_manager.exclude(ciphertext=None).count() for table in SEALED)


def rewrap_answers(*, ring: KeyRing, now: datetime, batch_size: int = BATCH, dry_run: bool = False) -> Iterator[int]:
    """Wrap the data keys of kept answers under the current master key; yields how many after each durable batch.

    One that does not open stays as it is: whoever repeats its request is told that it is lost, until its day is over.
    """
    after = 0
    while True:
        with transaction.atomic():
            # Whoever holds one replaces or forgets it, and may be waiting for others of this batch.
            rows = list(
                wrapped_otherwise(ring, now=now)
                .filter(pk__gt=after)
                .select_for_update(skip_locked=True)
                .order_by("pk")[:batch_size]
            )
            changed = [row for row in rows if rewrap_answer(row, ring)]
            if not dry_run:
                KeptAnswer.objects.bulk_update(changed, ["wrapped_key", "master_key_id"])
        if not rows:
            return
        after = rows[-1].pk
        yield len(changed)


def rewrap(*, ring: KeyRing, batch_size: int = BATCH, dry_run: bool = False) -> Iterator[Step]:
    """Wrap every data key under the current master key; yields after each batch that is durable.

    What does not open is left as it is and told. With `dry_run` everything is tried and nothing written.
    """
    for table in SEALED:
        yield from _rewrap(table, ring, batch_size, dry_run)


def _rewrap(table: type[Any], ring: KeyRing, batch_size: int, dry_run: bool) -> Iterator[Step]:
    after: object = None
    while True:
        with transaction.atomic():
            rows = list(_after(_waiting(table, ring), after).select_for_update()[:batch_size])
            changed, findings = _rewrapped(rows, ring)
            if not dry_run:
                table._default_manager.bulk_update(changed, ["wrapped_key", "master_key_id"])
        if not rows:
            return
        after = rows[-1].pk
        yield Step(len(changed), findings)


def _waiting(table: type[SealedRow], ring: KeyRing) -> QuerySet[Any]:
    return table._default_manager.exclude(master_key_id__in=["", ring.current.id])


def _after(rows: QuerySet[Any], last: object) -> QuerySet[Any]:
    ordered = rows.order_by("pk")
    return ordered if last is None else ordered.filter(pk__gt=last)


def _rewrapped(rows: list[SealedRow], ring: KeyRing) -> tuple[list[SealedRow], list[Finding]]:
    changed, findings = list[SealedRow](), []
    for row in rows:
        try:
            sealed = vault.rewrap(_sealed(row), binding=_binding(row), ring=ring)
        except VaultError as error:
            findings.append(_finding(row, str(error)))
            continue
        row.wrapped_key, row.master_key_id = sealed.wrapped_key, sealed.master_key_id
        changed.append(row)
    return changed, findings


def verify(*, ring: KeyRing, batch_size: int = BATCH) -> Iterator[Step]:
    """Open every secret and every canary of a known key; yields after each batch."""
    found = uses(ring, now=timezone.now())
    yield Step(0, [Finding("The canary does not open.", use.master_key_id) for use in found if _is_damaged(use)])
    for table in SEALED:
        after: object = None
        sealed = table._default_manager.exclude(ciphertext=None)
        while rows := list(_after(sealed, after)[:batch_size]):
            yield Step(len(rows), [finding for row in rows if (finding := _opened(row, ring)) is not None])
            after = rows[-1].pk


def _opened(row: SealedRow, ring: KeyRing) -> Finding | None:
    try:
        vault.unseal(_sealed(row), binding=_binding(row), master=ring.opening(row.master_key_id))
    except VaultError as error:
        return _finding(row, str(error))
    return None


def uses(ring: KeyRing, *, now: datetime) -> list[KeyUse]:
    """Every master key that is set, or was ever used here, and what it still wraps."""
    counted = Counter[str]()
    for table in SEALED:
        counted.update(_counted(table._default_manager.all()))
    answers = Counter[str](_counted(KeptAnswer.objects.filter(created_at__gt=now - KEPT_FOR)))
    canaries = {row.master_key_id: bytes(row.sealed) for row in MasterKeyCanary.objects.order_by("created_at")}
    known = {key.id: key for key in ring.keys}
    found = []
    for master_key_id in dict.fromkeys([*known, *canaries, *sorted(counted), *sorted(answers)]):
        key, canary = known.get(master_key_id), canaries.get(master_key_id)
        opens = vault.opens_canary(canary, key) if key is not None and canary is not None else None
        role = "unknown" if key is None else "current" if key is ring.current else "previous"
        found.append(KeyUse(master_key_id, role, counted[master_key_id], answers[master_key_id], opens))
    return found


def _counted(rows: QuerySet[Any]) -> dict[str, int]:
    """How many secrets each master key wraps."""
    sealed = rows.exclude(ciphertext=None).values_list("master_key_id")
    return dict(sealed.annotate(count=Count("pk")).order_by("master_key_id"))


def _is_damaged(use: KeyUse) -> bool:
    return use.canary_opens is False


def _binding(row: SealedRow) -> Binding:
    """What the row was sealed for: its own origin, for older versions may have had another."""
    if isinstance(row, IdentityProvider):
        return binding_for(row)
    return binding_of(
        tenant_id=row.tenant_id, integration_id=row.integration_id, origin=row.origin, version=row.version
    )


def _sealed(row: SealedRow) -> Sealed:
    return Sealed(bytes(row.ciphertext or b""), bytes(row.wrapped_key or b""), row.master_key_id)


def _finding(row: SealedRow, problem: str) -> Finding:
    place = "single sign-on" if isinstance(row, IdentityProvider) else row.integration.name
    return Finding(problem, row.master_key_id, row.tenant.slug, place, row.version)
