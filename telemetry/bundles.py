"""Proof bundles for the customer itself, made while they are read."""

import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from io import RawIOBase
from typing import Any
from uuid import UUID

import psycopg
from django.db import transaction

from accounts.actors import SYSTEM, Actor
from accounts.audit import record
from accounts.audit_events import Action
from accounts.locks import own_session, snapshot
from accounts.models import Tenant
from accounts.portraits import Portrait
from telemetry.proof import Proof

LOCK_CLASS, PLACE_CLASS = 0x50524F46, 0x50524F47
PIECE_BYTES = 64 * 1024
PATIENCE_SECONDS, LONGEST_SECONDS = 60, 900.0
"""How long its reader may take over one piece, and over all: until then the snapshot keeps old rows from being cleared
away, everybody's."""
MOST_AT_ONCE = 2


class BundleInTheMaking(Exception):
    """A bundle of this tenant is being read already, or as many of others as may be at once."""


@dataclass(frozen=True, slots=True)
class Exported:
    """Whose evidence of which period was read."""

    tenant_id: UUID
    since: datetime
    until: datetime


EXPORTED = Portrait("evidence", ("since", "until"), id="tenant_id", label=lambda exported: "")


def bundle_of(
    *, tenant: Tenant, since: datetime, until: datetime, through: int = 0, actor: Actor = SYSTEM
) -> Iterator[bytes]:
    """The pieces of a ZIP file: the proof bundle of `[since, until)`, without what only operators are told.

    Its chain reaches the seal of number `through`, if there is one. One at a time of each tenant, and two of all:
    raises `BundleInTheMaking`. Whoever stops reading has to close it; it ends by itself, cut off, after a minute in
    which nobody read, and after a quarter of an hour. Raises `TimeoutError` while it is read.
    """
    pieces = _pieces(tenant, since, until, through)
    # What can be refused is refused before anything is sent.
    first = next(pieces)
    with transaction.atomic():
        record(actor=actor, action=Action.EVIDENCE_EXPORTED, after=EXPORTED.of(Exported(tenant.pk, since, until)))
    return _from_the_first(first, pieces)


def _from_the_first(first: bytes, rest: Any) -> Iterator[bytes]:
    with closing(rest):
        yield first
        yield from rest


def _pieces(tenant: Tenant, since: datetime, until: datetime, through: int) -> Iterator[bytes]:
    with own_session() as session, snapshot(session):
        session.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{PATIENCE_SECONDS}s'")
        if not _takes(session, LOCK_CLASS, str(tenant.pk)):
            raise BundleInTheMaking
        if not any(_takes(session, PLACE_CLASS, str(place)) for place in range(MOST_AT_ONCE)):
            raise BundleInTheMaking
        until_when = time.monotonic() + LONGEST_SECONDS
        written = _Written()
        with zipfile.ZipFile(written, "w") as archive:
            proof = Proof(session, tenant, since, until, archive, through, is_for_tenant=True)
            for _ in proof.parts():
                if len(written.data) >= PIECE_BYTES:
                    yield written.take()
                if time.monotonic() > until_when:
                    raise TimeoutError("The bundle was read too slowly.")
        yield written.take()


def _takes(session: psycopg.Connection[Any], lock: int, what: str) -> bool:
    row = session.execute("SELECT pg_try_advisory_xact_lock(%s, hashtext(%s))", [lock, what]).fetchone()
    return row == (True,)


class _Written(RawIOBase):
    """What was written and not taken yet; nobody goes back in it."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self.data)
        self.data.clear()
        return taken
