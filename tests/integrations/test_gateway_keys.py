"""The shape of gateway keys."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.gateway_keys import ALPHABET, digest_of, generate, public_id_of


def test_a_new_key_names_its_public_id() -> None:
    new = generate()
    assert public_id_of(new.text) == new.public_id
    assert new.text.startswith(f"cush_{new.public_id}_")


def test_a_key_has_256_bits_of_its_own() -> None:
    texts = {generate().text for _ in range(200)}
    assert len(texts) == 200
    assert all(len(text.split("_")[2]) == 49 for text in texts)
    assert 62**43 > 2**255


def test_any_mistyped_character_is_noticed_without_a_query() -> None:
    text = generate().text
    for position in range(len("cush_"), len(text)):
        for typed in ALPHABET[::7]:
            wrong = text[:position] + typed + text[position + 1 :]
            assert (public_id_of(wrong) is None) == (wrong != text), wrong


@pytest.mark.parametrize(
    "text", ["", "cush", "cush__", "sk-proj-abc", "cush_a_b", "cush_a_b_c", "\udcff" * 67, "_" * 67]
)
def test_what_is_no_key_has_no_public_id(text: str) -> None:
    assert public_id_of(text) is None


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=120))
def test_no_text_breaks_the_reading_of_keys(text: str) -> None:
    assert public_id_of(text) is None
    assert len(digest_of(text)) == 32


def test_a_key_does_not_show_in_its_representation() -> None:
    new = generate()
    assert new.text not in repr(new)
    assert digest_of(new.text) == new.digest
