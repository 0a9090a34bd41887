"""One provider and one server of three workers for the races that kill nobody."""

from collections.abc import Iterator

import pytest

from tests.races.books import prepare
from tests.servers import Server, Servers
from tests.upstream import Upstream


@pytest.fixture(scope="package")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """A provider on real sockets."""
    with Upstream(tmp_path_factory.mktemp("races") / "upstream", own_process=True) as made:
        yield made


@pytest.fixture(scope="package")
def crew(servers: Servers, upstream: Upstream) -> Iterator[Server]:
    """Three workers behind one port, and the database that looks at every admission."""
    with servers.serving(workers=3, upstreams=[upstream]) as made:
        prepare(made)
        yield made
