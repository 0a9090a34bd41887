"""Sealed credentials open for exactly what they were sealed for."""

import base64
from dataclasses import replace
from uuid import UUID

import pytest

from integrations.vault import (
    Binding,
    CredentialDoesNotOpen,
    MasterKey,
    Sealed,
    VaultError,
    opens_canary,
    seal,
    seal_canary,
    unseal,
)

SECRET = "sk-proj-canary-5d1f0a77c2e94b"
BINDING = Binding(UUID(int=1), UUID(int=2), "https://api.openai.com:443", 1)


def master() -> MasterKey:
    return MasterKey.parse(MasterKey.generate())


def test_a_sealed_credential_opens_for_its_binding() -> None:
    key = master()
    assert unseal(seal(SECRET, binding=BINDING, master=key), binding=BINDING, master=key) == SECRET


@pytest.mark.parametrize(
    "moved",
    [
        replace(BINDING, tenant_id=UUID(int=9)),
        replace(BINDING, integration_id=UUID(int=9)),
        replace(BINDING, origin="https://attacker.example:443"),
        replace(BINDING, origin="http://api.openai.com:443"),
        replace(BINDING, version=2),
    ],
)
def test_a_credential_that_was_moved_or_pointed_elsewhere_does_not_open(moved: Binding) -> None:
    key = master()
    sealed = seal(SECRET, binding=BINDING, master=key)
    with pytest.raises(CredentialDoesNotOpen):
        unseal(sealed, binding=moved, master=key)


def test_another_master_key_does_not_open_it_even_under_a_forged_id() -> None:
    key, other = master(), master()
    sealed = seal(SECRET, binding=BINDING, master=key)
    for tried in (sealed, replace(sealed, master_key_id=other.id)):
        with pytest.raises(CredentialDoesNotOpen):
            unseal(tried, binding=BINDING, master=other)


@pytest.mark.parametrize("part", ["ciphertext", "wrapped_key"])
def test_a_changed_bit_anywhere_is_noticed(part: str) -> None:
    key = master()
    sealed = seal(SECRET, binding=BINDING, master=key)
    stored: bytes = getattr(sealed, part)
    for position in range(len(stored)):
        changed = bytearray(stored)
        changed[position] ^= 1
        with pytest.raises(CredentialDoesNotOpen):
            unseal(replace(sealed, **{part: bytes(changed)}), binding=BINDING, master=key)  # type: ignore[arg-type]


@pytest.mark.parametrize("part", ["ciphertext", "wrapped_key"])
def test_a_part_that_was_cut_short_is_noticed(part: str) -> None:
    key = master()
    sealed = seal(SECRET, binding=BINDING, master=key)
    for length in (0, 5, 12, 20):
        with pytest.raises(CredentialDoesNotOpen):
            unseal(replace(sealed, **{part: b"x" * length}), binding=BINDING, master=key)  # type: ignore[arg-type]


def test_parts_of_two_credentials_do_not_fit_together() -> None:
    key = master()
    one, two = (seal(SECRET, binding=BINDING, master=key) for _ in range(2))
    with pytest.raises(CredentialDoesNotOpen):
        unseal(replace(one, wrapped_key=two.wrapped_key), binding=BINDING, master=key)


def test_sealing_twice_gives_nothing_to_compare() -> None:
    key = master()
    one, two = (seal(SECRET, binding=BINDING, master=key) for _ in range(2))
    assert one.ciphertext != two.ciphertext
    assert SECRET.encode() not in one.ciphertext


def test_only_the_key_that_sealed_it_opens_the_canary() -> None:
    key, other = master(), master()
    assert opens_canary(seal_canary(key), key)
    assert not opens_canary(seal_canary(key), other)
    assert not opens_canary(b"", key)


@pytest.mark.parametrize("text", ["", "not base64!", base64.b64encode(bytes(31)).decode(), "ab" * 32])
def test_a_master_key_that_is_none_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(VaultError) as refused:
        MasterKey.parse(text)
    assert not text or text not in str(refused.value)


def test_nothing_of_a_secret_is_in_a_representation() -> None:
    key = master()
    sealed = seal(SECRET, binding=BINDING, master=key)
    shown = repr((key, Sealed(sealed.ciphertext, sealed.wrapped_key, key.id)))
    assert repr(key.material) not in shown
    assert SECRET not in shown
