"""What every test stands on: a real PostgreSQL, embedded unless `DATABASE_URL` names one."""

import pytest
from django.conf import settings
from django.db import connection
from pytest_django import DjangoDbBlocker

from config import postgres


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None) -> None:
    """Start the embedded server, but only in a run that needs a database."""
    if settings.EMBEDDED_POSTGRES:
        postgres.acquire(settings.BASE_DIR)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """Let pytest empty the tables of evidence between transactional tests; the guards on rows stay."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(r"SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname LIKE '%\_no\_truncate'")
        for table, trigger in cursor.fetchall():
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}")
