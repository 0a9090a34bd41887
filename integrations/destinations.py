"""Which addresses an upstream may have: the open internet, and what the operator allows beside it."""

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

from integrations.providers import SANDBOX_ORIGIN, BadBaseUrl, origin_of

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# What `is_global` lets pass on some Python versions, and what clouds serve to their machines only.
NEVER = [
    ipaddress.ip_network(text)
    for text in (
        "100.64.0.0/10", "168.63.129.16/32", "169.254.0.0/16", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15",
        "2001::/23", "3fff::/20", "5f00::/16", "fec0::/10", "ff00::/8", "fe80::/10", "fc00::/7",
    )
]  # fmt: skip
NAT64 = ipaddress.ip_network("64:ff9b::/96")
NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")


class ForbiddenDestination(OSError):
    """The upstream's address is not one that this gateway may connect to."""


@dataclass(frozen=True, slots=True)
class Destinations:
    """The operator's exceptions to the rule that upstreams are on the open internet, over https."""

    hosts: frozenset[tuple[str, int]]
    networks: tuple[Network, ...]

    @classmethod
    def parse(cls, allowed: Iterable[str]) -> "Destinations":
        """Read `host:port` and CIDR items. Raises `ValueError` for anything else."""
        hosts, networks = set(), []
        for item in allowed:
            if "/" in item:
                networks.append(ipaddress.ip_network(item))
            else:
                parts = urlsplit(f"//{item}")
                if not parts.hostname or parts.port is None:
                    raise ValueError(f"`{item}` is neither host:port nor a CIDR")
                hosts.add((parts.hostname.lower(), parts.port))
        return cls(frozenset(hosts), tuple(networks))

    def check_url(self, url: str) -> None:
        """Raise `ForbiddenDestination` for what can be refused without resolving a name."""
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise ForbiddenDestination("there is no such port") from None
        if (host, port) in self.hosts:
            return
        literal = _literal(host)
        if literal is not None:
            self.check_address(literal)
        if parts.scheme != "https" and not (literal is not None and self._is_allowed_network(literal)):
            raise ForbiddenDestination("an upstream without https must be on CUSTOMHOUSE_ALLOW_UPSTREAMS")

    def check_address(self, address: Address) -> None:
        """Raise `ForbiddenDestination` unless the address is global or allowed."""
        if not self._is_allowed_network(address) and not is_global(address):
            raise ForbiddenDestination(
                "the upstream's address is not on the open internet, nor on CUSTOMHOUSE_ALLOW_UPSTREAMS"
            )

    def check_resolved(self, host: str, port: int, addresses: Iterable[str]) -> None:
        """Raise `ForbiddenDestination` unless the host, or every address that its name resolved to, is allowed."""
        if self.is_allowed_host(host, port):
            return
        # One bad answer condemns the name: an attacker's server may mix good and bad ones.
        for address in addresses:
            self.check_address(ipaddress.ip_address(address.partition("%")[0]))

    def is_allowed_host(self, host: str, port: int) -> bool:
        return (host.lower(), port) in self.hosts

    def _is_allowed_network(self, address: Address) -> bool:
        return any(address.version == network.version and address in network for network in self.networks)


def unreachable(base_url: str) -> str | None:
    """Why no call may go there, as far as the address itself tells; `None`: nothing is in the way, or it is none."""
    try:
        if origin_of(base_url) == SANDBOX_ORIGIN:
            return None
        Destinations.parse(settings.ENVIRONMENT.allow_upstreams).check_url(base_url)
    except BadBaseUrl:
        return None
    except ForbiddenDestination as error:
        return str(error)
    return None


def is_global(address: Address) -> bool:
    """Whether the address is on the open internet, whatever IPv4 address it wraps."""
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = embedded_ipv4(address)
        if wrapped is not None:
            return is_global(wrapped)
        if int(address) >> 32 == 0 or address in NAT64_LOCAL:
            return False
    if any(address.version == network.version and address in network for network in NEVER):
        return False
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_loopback
        and not address.is_unspecified
    )


def embedded_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside an IPv4-mapped, -translated, -compatible, NAT64, 6to4 or Teredo address."""
    number = int(address)
    low = ipaddress.IPv4Address(number & 0xFFFFFFFF)
    high = number >> 32
    if address in NAT64 or high in (0xFFFF, 0xFFFF0000) or (high == 0 and number > 0xFFFF):
        return low
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    return None


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    # `127.1`, `0x7f000001` and their like are addresses to the C library, so they are addresses here.
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None
