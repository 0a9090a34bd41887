"""What one gateway process holds: its ledger, its memory of configuration and prices, its upstream client."""

import asyncio
import gc
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections

from accounts.addresses import client_address, parse_networks
from enforcement.entries import LedgerUnavailable
from enforcement.ledger import Ledger, LedgerSettings
from enforcement.outages import JournalSettings
from enforcement.sealer import Sealer
from enforcement.store import database_url
from integrations.custody import open_credential
from integrations.destinations import Destinations
from integrations.secret_server import SecretUnavailable
from integrations.snapshot import KeySnapshot, TenantSnapshot
from integrations.snapshot_store import SnapshotStore
from integrations.vault import StoredCredential, VaultError
from proxy.answers import Scope
from proxy.health.watch import Watch
from proxy.upstream import Upstreams, UpstreamTimeouts
from telemetry.price_book import PriceBook
from telemetry.seal_keys import seal_key
from telemetry.services import book_version, load_book
from telemetry.upkeep import Upkeep

logger = logging.getLogger(__name__)

Loaded = TypeVar("Loaded")

# Loads are rare and short; two threads keep one slow query from stopping the others.
LOADING_THREADS = 2
# Of their own, as a secret server that is slow must not keep keys from being loaded.
SECRET_THREADS = 4
# Nobody waits longer for a store that is there and says nothing.
LOAD_SECONDS = 10.0
RESERVATION_MARGIN_SECONDS = 120
READY_SECONDS = 10.0
GC_THRESHOLDS = (50_000, 20, 50)
CLIENTS_KEPT = 4096


class Gateway:
    """Lives from the start of a process to its end; all but loads run on its event loop."""

    def __init__(self) -> None:
        environment = settings.ENVIRONMENT
        self.environment = environment
        self.snapshots = SnapshotStore()
        self.book = PriceBook.of(())
        self._book_version: int | None = None
        self._trusted_proxies = parse_networks(environment.trusted_proxies)
        # The same few come again and again, and reading addresses costs more than remembering them.
        self._client_of = lru_cache(CLIENTS_KEPT)(partial(client_address, trusted=self._trusted_proxies))
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(LOADING_THREADS, thread_name_prefix="gateway-load")
        self._secret_threads = ThreadPoolExecutor(SECRET_THREADS, thread_name_prefix="gateway-secret")
        self._reading: dict[str, asyncio.Future[None]] = {}
        timeouts = UpstreamTimeouts(
            connect=environment.upstream_connect_seconds,
            first_byte=environment.upstream_first_byte_seconds,
            idle=environment.upstream_idle_seconds,
        )
        destinations = Destinations.parse(environment.allow_upstreams)
        self.upstreams = Upstreams(destinations, timeouts)
        self.health = Watch(
            destinations, spacing_seconds=environment.probe_spacing_seconds, has_probes=environment.probes
        )
        url = settings.DATABASE_DIRECT_URL or database_url()
        self.upkeep = Upkeep(url, keep_months=environment.retention_months)
        self.sealer = Sealer(url, seal_key(), checkpoints=environment.checkpoint_file)
        self.ledger = Ledger(
            LedgerSettings(
                url=url,
                reservation_seconds=environment.upstream_total_seconds + RESERVATION_MARGIN_SECONDS,
                sweep_interval_seconds=environment.sweep_interval_seconds,
                sweep_grace_seconds=environment.sweep_grace_seconds,
                journal=JournalSettings(environment.journal_dir, environment.journal_max_bytes),
            ),
            on_config=self._config_changed,
            on_reconnect=self._config_unknown,
            deliver=self._loop.call_soon_threadsafe,
        )

    @property
    def own_url(self) -> str:
        """Where this very server is reached from its own machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.environment.host, self.environment.host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.environment.port}"

    def address_of(self, scope: Scope) -> str:
        """The address that a request comes from, as far as trusted proxies say; empty where nobody knows."""
        client = scope.get("client")
        peer: str = client[0] if client else ""
        if not self._trusted_proxies:
            return peer
        heard = b",".join([value for name, value in scope["headers"] if name == b"x-forwarded-for"])
        return self._client_of(peer, heard.decode("latin-1"))

    async def start(self) -> None:
        """Open the ledger. Without a database the gateway answers all the same, and says 503 until it is there."""
        self.ledger.start()
        self.health.start()
        self.upkeep.start()
        self.sealer.start()
        # Whoever takes over from another worker must not begin with refusals.
        await asyncio.to_thread(self.ledger.wait_ready, READY_SECONDS)
        # What lives for the whole process need not be looked at by every collection, and calls leave few cycles.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)

    async def stop(self) -> None:
        """Finish every settlement, then leave."""
        await self.upstreams.close()
        await asyncio.to_thread(self.ledger.stop)
        await asyncio.to_thread(self.health.stop)
        await asyncio.to_thread(self.upkeep.stop)
        await asyncio.to_thread(self.sealer.stop)
        self._threads.shutdown(wait=True)
        self._secret_threads.shutdown(wait=False, cancel_futures=True)

    async def load_key(self, public_id: str, digest: bytes | None = None) -> tuple[TenantSnapshot, KeySnapshot] | None:
        """Read key, tenant and, where it changed, the price book from the database. Raises `LedgerUnavailable`.

        The key is as the secret with this digest opens it.
        """
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                return await self._in_thread(self._load_key, public_id, digest)
        except (InterfaceError, OperationalError, TimeoutError):
            raise LedgerUnavailable from None

    async def read_secret(self, stored: StoredCredential) -> None:
        """Have a credential in memory that another server keeps; calls that need the same one wait for one question.

        Raises `SecretUnavailable`. What the server refuses is found when the credential is opened.
        """
        reading = self._reading.get(stored.reference)
        if reading is None:
            reading = self._loop.run_in_executor(self._secret_threads, _read_secret, stored)
            self._reading[stored.reference] = reading
            reading.add_done_callback(lambda _: self._reading.pop(stored.reference, None))
        # Whoever leaves must not take the answer from the others.
        await asyncio.shield(reading)

    async def may_try(self, tenant_id: UUID, integration_id: UUID) -> bool:
        """Whether a call may go to an integration in error. Where the database does not say, it may not."""
        if not self.health.is_time_to_try(integration_id):
            return False
        try:
            return await self._in_thread(self.health.may_try, tenant_id, integration_id)
        except (InterfaceError, OperationalError):
            return False

    async def in_thread(self, work: Callable[..., Loaded], *arguments: Any) -> Loaded:
        """Run what needs the database beside the event loop."""
        return await self._in_thread(work, *arguments)

    async def _in_thread(self, work: Callable[..., Loaded], *arguments: Any) -> Loaded:
        return await self._loop.run_in_executor(self._threads, _with_connection, work, arguments)

    def _load_key(self, public_id: str, digest: bytes | None) -> tuple[TenantSnapshot, KeySnapshot] | None:
        found = self.snapshots.read(public_id, digest)
        # A price is in force from the config version on that came with it: the book must not be older than that.
        version = book_version()
        if version != self._book_version:
            self.book = load_book()
            self._book_version = version
        if found is not None:
            self.snapshots.keep(*found)
        return found

    def _config_changed(self, payload: str) -> None:
        try:
            tenant_id = UUID(payload)
        except ValueError:
            logger.warning("A notification about configuration names no tenant")
            self._config_unknown()
        else:
            self._loop.call_soon_threadsafe(self.snapshots.drop, tenant_id)

    def _config_unknown(self) -> None:
        self._loop.call_soon_threadsafe(self.snapshots.drop_all)


def now() -> datetime:
    """The process's clock, in UTC."""
    return datetime.now(UTC)


def _read_secret(stored: StoredCredential) -> None:
    try:
        open_credential(stored)
    except SecretUnavailable as error:
        logger.warning("A credential cannot be read: %s", error)
        raise
    except VaultError as error:
        logger.warning("A credential cannot be used: %s", error)


def _with_connection(work: Callable[..., Loaded], arguments: tuple[Any, ...]) -> Loaded:
    close_old_connections()
    return work(*arguments)
