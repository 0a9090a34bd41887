"""Answers to requests that may be repeated: kept for a day for the key that asked, and sealed, as some hold secrets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, transaction
from django.db.models import QuerySet

from integrations import vault
from integrations.custody import key_ring, master_key
from integrations.models import KeptAnswer
from integrations.vault import Binding, KeyRing, Sealed, VaultError

KEPT_FOR = timedelta(hours=24)
MOST_FORGOTTEN = 500
ORIGIN = "answer:"

CLAIM = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"
# Two that forget at the same time must not wait for each other.
FORGET = """
DELETE FROM cus_kept_answers WHERE id IN (
    SELECT id FROM cus_kept_answers WHERE created_at <= %s ORDER BY created_at LIMIT %s FOR UPDATE SKIP LOCKED
)
"""


class AnswerIsLost(Exception):
    """The request was done, but its answer was not kept, or no longer opens."""


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A request that its client may repeat, under a name that is the client's own."""

    tenant_id: UUID
    key_id: UUID
    name: str
    digest: bytes
    """Of all that it asks for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered, and to what."""

    digest: bytes
    status: int
    headers: Mapping[str, str]
    body: str = field(repr=False)


def claim(asked: Repeatable) -> bool:
    """Whether nobody else is at this request; until the end of the transaction nobody else will be."""
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, [f"{asked.key_id} {asked.name}"])
        return bool(cursor.fetchone()[0])


def kept(asked: Repeatable, *, now: datetime) -> Answer | None:
    """The answer to the first request of this name within a day, whatever it asked for. Raises `AnswerIsLost`."""
    rows = KeptAnswer.objects.filter(tenant_id=asked.tenant_id, key_id=asked.key_id, name=asked.name)
    row = rows.filter(created_at__gt=now - KEPT_FOR).first()
    if row is None:
        return None
    if bytes(row.digest) != asked.digest:
        # Another request learns no more than that.
        return Answer(bytes(row.digest), row.status, {}, "")
    return Answer(bytes(row.digest), row.status, row.headers, _opened(row, asked))


@transaction.atomic
def keep(asked: Repeatable, answer: Answer, *, now: datetime) -> None:
    """Keep the answer, sealed, and forget old ones. Without a usable master key only that there was one is kept."""
    with connection.cursor() as cursor:
        cursor.execute(FORGET, [now - KEPT_FOR, MOST_FORGOTTEN])
    KeptAnswer.objects.filter(tenant_id=asked.tenant_id, key_id=asked.key_id, name=asked.name).delete()
    row = KeptAnswer(
        tenant_id=asked.tenant_id,
        key_id=asked.key_id,
        name=asked.name,
        digest=answer.digest,
        status=answer.status,
        headers=dict(answer.headers),
        created_at=now,
    )
    try:
        sealed = vault.seal(answer.body, binding=_binding(asked), master=master_key())
    except VaultError:
        pass
    else:
        row.ciphertext, row.wrapped_key, row.master_key_id = (
            sealed.ciphertext, sealed.wrapped_key, sealed.master_key_id,
        )  # fmt: skip
    row.save()


def _opened(row: KeptAnswer, asked: Repeatable) -> str:
    if row.ciphertext is None or row.wrapped_key is None:
        raise AnswerIsLost
    sealed = Sealed(bytes(row.ciphertext), bytes(row.wrapped_key), row.master_key_id)
    try:
        return vault.unseal(sealed, binding=_binding(asked), master=key_ring().opening(sealed.master_key_id))
    except VaultError:
        raise AnswerIsLost from None


def wrapped_otherwise(ring: KeyRing, *, now: datetime) -> QuerySet[KeptAnswer]:
    """The answers that are still kept, and that another master key than the current one wraps."""
    rows = KeptAnswer.objects.filter(created_at__gt=now - KEPT_FOR)
    return rows.exclude(master_key_id__in=["", ring.current.id])


def rewrap_answer(row: KeptAnswer, ring: KeyRing) -> bool:
    """Wrap an answer under the current master key, unsaved; whether it could be opened. One that cannot is lost."""
    sealed = Sealed(bytes(row.ciphertext or b""), bytes(row.wrapped_key or b""), row.master_key_id)
    asked = Repeatable(row.tenant_id, row.key_id, row.name, bytes(row.digest))
    try:
        sealed = vault.rewrap(sealed, binding=_binding(asked), ring=ring)
    except VaultError:
        return False
    row.wrapped_key, row.master_key_id = sealed.wrapped_key, sealed.master_key_id
    return True


def _binding(asked: Repeatable) -> Binding:
    """It opens for the same key, name and request only, and for no integration."""
    return Binding(asked.tenant_id, asked.key_id, f"{ORIGIN}{asked.name}\x1f{asked.digest.hex()}", 1)
