"""Whether the process lives, and whether it can take calls."""

from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from integrations.services import master_key_problem
from proxy.answers import Send, send_json
from proxy.gateway import Gateway

_migrated = False


async def healthz(send: Send) -> None:
    """The process lives."""
    await send_json(send, 200, {"status": "ok"})


async def readyz(gateway: Gateway, send: Send) -> None:
    """Calls can be admitted: database, migrations, master key, ledger; and the process is not leaving."""
    problems = [] if not gateway.draining else ["draining"]
    if not gateway.ledger.is_ready:
        problems.append("ledger: no connection")
    try:
        problems += await gateway.in_thread(_problems)
    except Exception as error:  # noqa: BLE001 - whatever keeps the database away, the answer is not ready
        problems.append(f"database: {type(error).__name__}")
    status = {"status": "ready"} if not problems else {"status": "not ready", "problems": problems}
    await send_json(send, 503 if problems else 200, status)


def _problems() -> list[str]:
    global _migrated
    problems = []
    if not _migrated:
        executor = MigrationExecutor(connection)
        _migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
        if not _migrated:
            problems.append("database: migrations are pending")
    else:
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    problem = master_key_problem() if not problems else None
    if problem is not None:
        problems.append(f"master key: {problem}")
    return problems
