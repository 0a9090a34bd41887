"""What operators see first: a card for each thing to watch, and no card that waits for ever or says what is not known.

Each card is read in a savepoint under a timeout of its own: what cannot be read is `unknown`, and the others are there.
"""

import logging
import time
from collections.abc import Iterator
from datetime import datetime

import psycopg
from django.contrib.admin import AdminSite
from django.db import DatabaseError, connection, transaction
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from config.admin_readings import GAUGES, Card, Gauge

logger = logging.getLogger(__name__)

CARD_TIMEOUT = "1500ms"
ALL_SECONDS = 5.0


def cards_for(site: AdminSite, request: HttpRequest) -> list[Card]:
    """The cards whose rows this operator may see, in the order of how much they matter."""
    return list(_read(_visible(site, request), timezone.now()))


def _visible(site: AdminSite, request: HttpRequest) -> list[Gauge]:
    """Of the rows behind a card everybody may know who may list them; the installation itself is every operator's."""
    registered = site._registry
    return [
        gauge
        for gauge in GAUGES
        if gauge.model is None
        or (gauge.model in registered and registered[gauge.model].has_view_permission(request))
    ]  # fmt: skip


def _read(gauges: list[Gauge], now: datetime) -> Iterator[Card]:
    deadline = time.monotonic() + ALL_SECONDS
    with transaction.atomic():
        _limit(f"'{CARD_TIMEOUT}'")
        for gauge in gauges:
            card = unknown(gauge, "There was no time left to read it.")
            if time.monotonic() < deadline:
                card = _one(gauge, now)
            yield _linked(card, gauge)
        _limit("DEFAULT")


def _one(gauge: Gauge, now: datetime) -> Card:
    try:
        with transaction.atomic():
            return gauge.read(now)
    except (DatabaseError, OSError) as error:
        cause = error.__cause__
        if isinstance(cause, psycopg.errors.QueryCanceled):
            return unknown(gauge, "There is too much of it to be read here: see the metrics.")
        logger.exception("The card `%s` cannot be read", gauge.title)
        return unknown(gauge, "It cannot be read now.")


def unknown(gauge: Gauge, why: str) -> Card:
    """A card of what nobody knows, which is not zero."""
    return Card(gauge.title, "unknown", state="unknown", note=why)


def _linked(card: Card, gauge: Gauge) -> Card:
    if gauge.model is None:
        return card
    options = gauge.model._meta
    try:
        url = reverse(f"admin:{options.app_label}_{options.model_name}_changelist")
    except NoReverseMatch:
        return card
    return card.at(url + gauge.query)


def _limit(timeout: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout TO {timeout}")
