"""Who a client is when proxies stand before us. Pure."""

import ipaddress
from collections.abc import Iterable, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(items: Iterable[str]) -> tuple[Network, ...]:
    """Read addresses and CIDRs. Raises `ValueError` for anything else."""
    return tuple(ipaddress.ip_network(item) for item in items)


def client_address(peer: str, forwarded_for: str, trusted: Sequence[Network]) -> str:
    """The client's address: the peer's, or what trusted proxies say in `X-Forwarded-For`.

    Each proxy appends whom it heard from, so the last address that is no trusted proxy's is the client's: whatever
    stands before it is the client's own word. If all are trusted, the first one it is. An unreadable one gives "".
    """
    if not is_trusted(peer, trusted):
        return peer
    heard = [item.strip() for item in forwarded_for.split(",") if item.strip()]
    client = peer
    for item in reversed(heard):
        address = _address(item)
        if address is None:
            return ""
        client = str(address)
        if not _is_in(address, trusted):
            break
    return client


def is_trusted(peer: str, trusted: Sequence[Network]) -> bool:
    """Whether the address is that of a trusted proxy."""
    address = _address(peer)
    return address is not None and _is_in(address, trusted)


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # A socket for both families shows IPv4 peers as mapped addresses, which operators do not write.
    return getattr(address, "ipv4_mapped", None) or address


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
