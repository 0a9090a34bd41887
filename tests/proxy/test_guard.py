"""Where the gateway may connect to: the open internet over https, and what the operator allows beside it."""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from integrations.destinations import Destinations, ForbiddenDestination, is_global
from proxy.http1 import UpstreamFailed
from proxy.upstream import Upstreams, UpstreamTimeouts
from tests.proxy.calling import ask
from tests.proxy.customers import Customer

NOTHING = Destinations.parse([])

NEVER = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.254", "127.0.0.1"),
    *("127.255.255.255", "168.63.129.16", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255"),
    *("192.0.0.8", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.51.100.1"),
    *("203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::127.0.0.1", "::169.254.169.254", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
    *("::ffff:169.254.169.254", "::ffff:0:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1"),
    *("64:ff9b:1::1", "64:ff9b:1::a9fe:a9fe", "100::1", "2001::1", "2001:db8::1", "2001:10::1", "2002:7f00:1::"),
    *("2002:a9fe:a9fe::", "2002:a00:1::1", "3fff::1", "5f00::1", "fc00::1", "fd00::1", "fd00:ec2::254"),
    *("fe80::1", "fec0::1", "ff02::1", "ff0e::1", "2001:0:7f00:1::1", "2001:0:53aa:64c:0:fbff:5601:5601"),
]
GLOBAL = ["1.1.1.1", "8.8.8.8", "93.184.215.14", "172.32.0.1", "192.169.0.1", "2606:4700::1111", "2a00:1450:4001::200e"]
REFUSED_URLS = [
    "http://api.openai.com/v1",
    "http://1.1.1.1/",
    "https://127.0.0.1/",
    "https://127.1/",
    "https://127.0.1/",
    "https://0/",
    "https://0.0.0.0:8443/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://0x7f.0x0.0x0.0x1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://2852039166/",
    "https://0xa9fea9fe/",
    "https://[::1]/",
    "https://[::]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[fe80::1%25eth0]/",
    "https://[fd00::1]/",
    "https://user:pass@127.0.0.1/",
    "https://10.1.2.3:443/v1",
    "ftp://1.1.1.1/",
    "file:///etc/passwd",
    "gopher://1.1.1.1/",
    "//1.1.1.1/",
]


@pytest.mark.parametrize("text", NEVER)
def test_an_address_off_the_open_internet_is_refused(text: str) -> None:
    assert not is_global(ipaddress.ip_address(text))
    with pytest.raises(ForbiddenDestination):
        NOTHING.check_address(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", GLOBAL)
def test_an_address_on_the_open_internet_is_fine(text: str) -> None:
    NOTHING.check_address(ipaddress.ip_address(text))


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_a_url_that_leads_elsewhere_is_refused_before_any_name_is_resolved(url: str) -> None:
    with pytest.raises(ForbiddenDestination):
        NOTHING.check_url(url)


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "https://1.1.1.1/", "https://api.example:8443/v1"])
def test_a_url_of_a_provider_is_fine(url: str) -> None:
    NOTHING.check_url(url)


def test_the_operator_may_allow_a_host_on_one_port_alone() -> None:
    allowed = Destinations.parse(["127.0.0.1:8080", "Model.Internal:9000"])
    allowed.check_url("http://127.0.0.1:8080/v1")
    allowed.check_url("http://model.internal:9000/v1")
    for other in ("http://127.0.0.1:8081/", "https://127.0.0.1/", "http://model.internal/", "http://127.0.0.2:8080/"):
        with pytest.raises(ForbiddenDestination):
            allowed.check_url(other)


def test_the_operator_may_allow_a_network_of_either_kind() -> None:
    allowed = Destinations.parse(["10.1.0.0/16", "fd00:1::/32"])
    allowed.check_url("http://10.1.2.3:11434/v1")
    allowed.check_url("https://[fd00:1::5]/v1")
    for other in ("http://10.2.0.1/", "https://10.2.0.1/", "https://[fd00:2::5]/", "https://[::ffff:10.2.0.1]/"):
        with pytest.raises(ForbiddenDestination):
            allowed.check_url(other)


@pytest.mark.parametrize("item", ["model.internal", "127.0.0.1", "10.0.0.0/33", ":80", "http://a:b", ""])
def test_what_is_neither_a_host_with_a_port_nor_a_network_is_no_exception(item: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever part of it cannot be read
        Destinations.parse([item])


@contextmanager
def listening() -> Iterator[tuple[int, list[object]]]:
    """A loopback port, and everybody who connected to it."""
    connected: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def accept() -> None:
            try:
                while True:
                    peer, address = listener.accept()
                    connected.append(address)
                    peer.close()
            except OSError:
                return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1], connected
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def send(destinations: Destinations, url: str) -> None:
    """Try to reach a URL. Raises `UpstreamFailed`."""

    async def attempt() -> None:
        client = Upstreams(destinations, UpstreamTimeouts(connect=2, first_byte=2, idle=2))
        try:
            await client.send("GET", url, [], b"", on_sent=lambda: None)
        finally:
            await client.close()

    asyncio.run(attempt())


def answering(*addresses: str) -> Callable[..., list[tuple[object, ...]]]:
    """A resolver that gives these addresses for every name."""

    def resolve(host: str, port: int, *arguments: object, **named: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return resolve


def test_a_name_is_dialled_where_it_was_checked_and_only_on_its_port() -> None:
    with listening() as (port, connected), listening() as (other, unwanted):
        allowed = Destinations.parse([f"localhost:{port}"])
        with pytest.raises(UpstreamFailed) as reached:
            send(allowed, f"http://localhost:{port}/")
        with pytest.raises(UpstreamFailed) as refused:
            send(allowed, f"https://localhost:{other}/")
        assert (reached.value.sent, refused.value.sent) == (True, False)
        assert (len(connected), unwanted) == (1, [])


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["1.1.1.1", "127.0.0.1"], ["169.254.169.254"], ["10.0.0.1"]])
def test_one_forbidden_address_condemns_a_name(monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answering(*addresses))
    with pytest.raises(UpstreamFailed, match="not on the open internet") as refused:
        send(NOTHING, "https://rebound.example/v1")
    assert not refused.value.sent


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/v1",
        "https://127.0.0.1:{port}/v1",
        "http://localhost:{port}/v1",
        "https://localhost:{port}/v1",
        "https://localhost.:{port}/v1",
        "https://2130706433:{port}/v1",
        "https://0x7f.1:{port}/v1",
        "https://[::ffff:127.0.0.1]:{port}/v1",
        "https://0:{port}/v1",
    ],
)
def test_a_custom_integration_on_this_machine_is_never_dialled(customer: Customer, url: str) -> None:
    with listening() as (port, connected):
        customer.integrate(url.format(port=port), provider="custom", name="openai")
        answer = ask(customer)
        assert (answer.status, answer.error["code"]) == (502, "upstream_unreachable")
        assert connected == []
    row = customer.only_usage()
    assert (row["dispatched"], row["cost_nanos"], row["quality"]) == (False, 0, "reported")
