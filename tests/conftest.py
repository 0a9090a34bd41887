"""What every test stands on: a real PostgreSQL, embedded unless `DATABASE_URL` names one."""

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.db import connection
from pytest_django import DjangoDbBlocker

from config import postgres
from tests.servers import Servers


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


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker) -> Iterator[Servers]:
    """Starts real servers, each over a database of its own."""
    with Servers(tmp_path_factory.mktemp("servers"), django_db_blocker) as made:
        yield made
