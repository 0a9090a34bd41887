"""From where a client speaks, also when proxies stand before us. Pure."""

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# The same few come again and again, and reading one costs more than finding it.
ADDRESSES_KEPT = 4096


def parse_networks(items: Iterable[str]) -> tuple[Network, ...]:
    """Read addresses and CIDRs. Raises `ValueError` for anything else."""
    return tuple(ipaddress.ip_network(item) for item in items)


def network_of(text: str) -> Network:
    """The network that an address or a CIDR names. Raises `ValueError`, which says what is wrong with it."""
    network = ipaddress.ip_network(text.strip())
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError(f"{text} is IPv4 in the clothes of IPv6: write it as IPv4")
    return network


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


def is_allowed(address: str, networks: Sequence[Network]) -> bool:
    """Whether whoever speaks from `address` may: from anywhere where no networks are named, else from these alone.

    An address that nobody knows is in no network.
    """
    return not networks or is_trusted(address, networks)


def covers(networks: Sequence[Network], others: Sequence[Network]) -> bool:
    """Whether all of `others` lie within `networks`. None named means everywhere."""
    if not networks or not others:
        return not networks
    return all(any(_is_part(other, network) for network in networks) for other in others)


def normal(text: str) -> str | None:
    """The address as it is written, IPv4 as such; `None` for what is no address."""
    address = _address(text)
    return None if address is None else str(address)


@lru_cache(ADDRESSES_KEPT)
def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # A socket for both families shows IPv4 peers as mapped addresses, which operators do not write.
    return getattr(address, "ipv4_mapped", None) or address


def _is_part(part: Network, network: Network) -> bool:
    if isinstance(part, ipaddress.IPv4Network):
        return isinstance(network, ipaddress.IPv4Network) and part.subnet_of(network)
    return isinstance(network, ipaddress.IPv6Network) and part.subnet_of(network)


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
