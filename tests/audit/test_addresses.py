"""Whose word about a client's address counts."""

import pytest

from accounts.addresses import client_address, covers, is_allowed, is_trusted, network_of, parse_networks

TRUSTED = parse_networks(["10.0.0.0/8", "127.0.0.1", "2001:db8::/32"])


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("192.0.2.1", "127.0.0.1", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "127.0.0.1, 198.51.100.7, 10.9.9.9", "198.51.100.7"),
        ("::ffff:10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"),
        ("2001:db8::1", "2001:db9::7", "2001:db9::7"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "127.0.0.1, nonsense", ""),
        ("unix:", "127.0.0.1", "unix:"),
    ],
)
def test_the_last_address_that_is_no_trusted_proxy_is_the_clients(peer: str, forwarded_for: str, client: str) -> None:
    assert client_address(peer, forwarded_for, TRUSTED) == client


def test_without_trusted_proxies_only_the_peer_counts() -> None:
    assert client_address("127.0.0.1", "198.51.100.7", ()) == "127.0.0.1"


def test_an_address_of_the_other_family_is_not_in_a_network() -> None:
    assert not is_trusted("::1", parse_networks(["0.0.0.0/0"]))


@pytest.mark.parametrize(
    ("address", "networks", "may"),
    [
        ("192.0.2.7", [], True),
        ("192.0.2.7", ["192.0.2.0/24"], True),
        ("::ffff:192.0.2.7", ["192.0.2.0/24"], True),
        ("2001:db8::7", ["192.0.2.0/24", "2001:db8::/64"], True),
        ("192.0.3.7", ["192.0.2.0/24"], False),
        ("::1", ["0.0.0.0/0"], False),
        ("", ["0.0.0.0/0", "::/0"], False),
        ("", [], True),
    ],
)
def test_who_may_speak_is_who_is_in_one_of_the_networks(address: str, networks: list[str], may: bool) -> None:
    assert is_allowed(address, parse_networks(networks)) is may


@pytest.mark.parametrize(
    ("outer", "inner", "is_covered"),
    [
        ([], [], True),
        ([], ["10.0.0.0/8"], True),
        (["10.0.0.0/8"], [], False),
        (["10.0.0.0/8"], ["10.1.0.0/16", "10.2.3.4"], True),
        (["10.0.0.0/8"], ["10.1.0.0/16", "192.0.2.1"], False),
        (["10.0.0.0/8"], ["::/0"], False),
        (["::/0", "10.0.0.0/8"], ["2001:db8::/32", "10.0.0.1"], True),
    ],
)
def test_networks_cover_what_lies_within_them(outer: list[str], inner: list[str], is_covered: bool) -> None:
    assert covers(parse_networks(outer), parse_networks(inner)) is is_covered


@pytest.mark.parametrize("text", ["", "office", "10.0.0.1/8", "10.0.0.0/33", "::ffff:10.0.0.0/104"])
def test_what_names_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        network_of(text)
