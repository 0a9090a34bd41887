"""The servers that tests start are real ones."""

import requests

from tests.people import acme
from tests.servers import Servers


def test_a_server_serves_its_own_database(servers: Servers) -> None:
    with servers.serving() as server:
        with server.django():
            tenant = acme()
        assert requests.get(server.url + "/readyz", timeout=5).json() == {"status": "ready"}
        assert server.rows("SELECT id FROM cus_tenants") == [{"id": tenant.pk}]
        assert server.workers() == [server.pid]
        server.kill()
        server.start()
        server.wait_settled()
        assert server.stop() == 0
