"""One provider and two servers for all tests of the call path; a customer for each test."""

from collections.abc import Iterator

import pytest

from enforcement import presence
from tests.integrations.secret_store import TOKEN, SecretStore
from tests.proxy.customers import Customer
from tests.proxy.stepping import Stage
from tests.servers import Server, Servers
from tests.upstream import Upstream
from tests.upstream.running import OTHER_HOST


@pytest.fixture(scope="session")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """A provider on real sockets."""
    with Upstream(tmp_path_factory.mktemp("upstream") / "log", own_process=True) as made:
        yield made


@pytest.fixture(scope="session")
def server(servers: Servers, upstream: Upstream) -> Iterator[Server]:
    """The server as it comes."""
    with servers.serving(upstreams=[upstream]) as made:
        yield made


@pytest.fixture(scope="session")
def secret_store() -> Iterator[SecretStore]:
    """Where the provider keys of some customers of `hasty` are kept."""
    with SecretStore() as made:
        yield made


@pytest.fixture(scope="session")
def hasty(servers: Servers, upstream: Upstream, secret_store: SecretStore) -> Iterator[Server]:
    """A server without patience or room: a second for providers, three for calls, 50,000 bytes for requests.

    It may also reach whatever a test starts at `OTHER_HOST`, and believes a proxy on its own machine.
    """
    allowed = f"127.0.0.1:{upstream.port},127.0.0.1:{upstream.other_port},{OTHER_HOST}/32"
    with servers.serving(
        upstreams=[upstream],
        CUSTOMHOUSE_ALLOW_UPSTREAMS=allowed,
        CUSTOMHOUSE_UPSTREAM_CONNECT_SECONDS="1",
        CUSTOMHOUSE_UPSTREAM_FIRST_BYTE_SECONDS="1",
        CUSTOMHOUSE_UPSTREAM_IDLE_SECONDS="1",
        CUSTOMHOUSE_UPSTREAM_TOTAL_SECONDS="3",
        CUSTOMHOUSE_MAX_BODY_BYTES="50000",
        CUSTOMHOUSE_TRUSTED_PROXIES="127.0.0.1",
        CUSTOMHOUSE_VAULT_ADDR=secret_store.url,
        CUSTOMHOUSE_VAULT_TOKEN=TOKEN,
    ) as made:
        yield made


@pytest.fixture
def customer(server: Server) -> Customer:
    """A customer of the server, without an integration yet."""
    return Customer.of(server)


@pytest.fixture
def stage(request: pytest.FixtureRequest, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A gateway in this process, whose customer's `on_disconnect` may be a parameter."""
    monkeypatch.setattr(presence, "WAKE_SECONDS", 0.05)
    made = Stage(upstream, monkeypatch, on_disconnect=getattr(request, "param", "drain"))
    try:
        yield made
    finally:
        made.close()
