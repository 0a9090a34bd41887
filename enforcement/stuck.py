"""Writes: what operators let go of that a call left behind."""

from datetime import datetime

from django.db import transaction

from accounts.actors import Actor
from accounts.audit import record
from accounts.audit_events import Action
from accounts.portraits import Portrait
from enforcement.lanes import connect
from enforcement.models import Reservation, Worker
from enforcement.store import database_url
from enforcement.sweeper import EXTERNAL_WORKER, charge

RESERVATION = Portrait(
    "reservation", ("call_id", "worker_id", "bound_tokens_in", "bound_tokens_out", "bound_cost_nanos", "expires_at")
)


class NotStuck(Exception):
    """Its call may still run: it has not expired, and who carries it is alive."""


def is_stuck(reservation: Reservation, now: datetime) -> bool:
    """Whether nobody is left who would settle it in time."""
    if reservation.expires_at <= now:
        return True
    if reservation.worker_id == EXTERNAL_WORKER:
        return False
    return not Worker.objects.filter(pk=reservation.worker_id, missing_since=None).exists()


def charge_reservation(*, reservation: Reservation, now: datetime, actor: Actor, reason: str) -> None:
    """Settle a stuck call at its bound, as the sweeper does; nothing happens to one that was settled meanwhile.

    Raises `NotStuck` and `psycopg.Error`.
    """
    if not is_stuck(reservation, now):
        raise NotStuck(NotStuck.__doc__)
    before = RESERVATION.of(reservation)
    with connect(database_url(), "operator") as session:
        charged = charge(session, [reservation.call_id])
    # The ledger's transaction is its own: what it wrote is evidence already, and this says who asked for it.
    if charged:
        with transaction.atomic():
            record(actor=actor, action=Action.RESERVATION_CHARGED, before=before, reason=reason)
