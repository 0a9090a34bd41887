"""Whether the process lives, and whether it can take calls."""

import asyncio

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connection
from django.db.migrations.executor import MigrationExecutor

from integrations.services import master_key_problem
from proxy.answers import Send, send_json
from proxy.gateway import LOAD_SECONDS, Gateway

_migrated = False


async def healthz(send: Send) -> None:
    """The process lives."""
    await send_json(send, 200, {"status": "ok"})


async def readyz(gateway: Gateway | None, send: Send, *, is_leaving: bool = False) -> None:
    """Calls can be admitted: database, migrations, master key, ledger; and the process is not leaving.

    A process without a gateway admits none: it is ready as soon as the store and the master key are.
    """
    problems = ["draining"] if is_leaving else []
    if gateway is not None and not gateway.ledger.is_ready:
        problems.append("ledger: no connection")
    try:
        async with asyncio.timeout(LOAD_SECONDS):
            problems += await (gateway.in_thread(_problems) if gateway is not None else _problems_of_store())
    except Exception as error:  # noqa: BLE001 - whatever keeps the database away, the answer is not ready
        problems.append(f"database: {type(error).__name__}")
    status = {"status": "ready"} if not problems else {"status": "not ready", "problems": problems}
    await send_json(send, 503 if problems else 200, status)


@sync_to_async
def _problems_of_store() -> list[str]:
    close_old_connections()
    return _problems()


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
