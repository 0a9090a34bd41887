"""How the ledger's own connections reach the database of Django's settings."""

from django.db import connections
from psycopg.conninfo import make_conninfo

NAMES = ("host", "port", "user", "password", "dbname", "sslmode", "sslrootcert", "sslcert", "sslkey")


def database_url() -> str:
    """The connection string for psycopg."""
    parts = connections["default"].get_connection_params()
    return make_conninfo(**{name: parts[name] for name in NAMES if parts.get(name)})
