"""How a key is written: read back as it was, and nothing else is one."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from orchestra.access.token import (
    ALPHABET,
    ENTROPY_BYTES,
    LENGTH,
    PATTERN,
    id_of,
    minted,
    parsed,
    why_malformed,
)

ENTROPY = st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES)
ANY_TEXT = st.text(st.characters()) | st.binary().map(lambda raw: raw.decode("latin-1"))
"""Surrogates and controls too: whatever a header may hold."""

KEY = minted(bytes(range(ENTROPY_BYTES))).text


def other_end(text: str) -> str:
    """A key whose checksum is wrong."""
    return text[:-1] + ("1" if text[-1] == "0" else "0")


@given(ENTROPY)
def test_a_key_is_read_back_as_it_was_written(entropy: bytes) -> None:
    token = minted(entropy)
    assert parsed(token.text) == token
    assert len(token.text) == LENGTH
    assert re.fullmatch(PATTERN, token.text)
    assert id_of(token.id) == id_of(f"ork_{token.id}") == id_of(token.text) == token.id
    assert token.secret not in repr(token)


@given(ENTROPY, ENTROPY)
def test_other_bytes_are_another_key(one: bytes, other: bytes) -> None:
    """No entropy is lost: 64 bits of the id, 256 of the secret."""
    same_id, same_secret = one[:8] == other[:8], one[8:] == other[8:]
    assert (minted(one).id == minted(other).id) == same_id
    assert (minted(one).secret == minted(other).secret) == same_secret


@given(ENTROPY, st.integers(0, LENGTH - 1), st.sampled_from(ALPHABET + "_- é\n\0"))
def test_a_key_with_one_wrong_character_is_none(entropy: bytes, at: int, wrong: str) -> None:
    text = minted(entropy).text
    typed = text[:at] + wrong + text[at + 1 :]
    assert (parsed(typed) is None) == (typed != text)


@given(ENTROPY, st.integers(0, LENGTH - 2))
def test_a_key_with_two_characters_swapped_is_none(entropy: bytes, at: int) -> None:
    text = minted(entropy).text
    typed = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    assert (parsed(typed) is None) == (typed != text)


@given(ANY_TEXT | st.tuples(ENTROPY, ANY_TEXT).map(lambda pair: minted(pair[0]).text + pair[1]))
def test_whatever_is_no_key_is_told_without_a_word_of_it(text: str) -> None:
    """Of a text nothing is told but how long it is: it may be a secret, with a slip in it."""
    told = {why_malformed(each) for each in ("", "sk-", "ork_", KEY[:-1] + "!", other_end(KEY))}
    assert why_malformed(text) in told | {f"it has {len(text)} characters, not {LENGTH}"}


def test_what_is_wrong_with_a_text_is_told() -> None:
    text = KEY
    assert why_malformed("sk-proj-1") == "it does not begin with ork_"
    assert why_malformed("") == "it is not in one header, as `Authorization: Bearer KEY`"
    assert why_malformed(text[:-1]) == "it has 64 characters, not 65"
    assert why_malformed(text[:-1] + "!") == "it is not of the form ork_ID_SECRET"
    wrong = "its checksum is wrong: it was copied with a mistake"
    assert why_malformed(other_end(text)) == wrong


def test_a_key_looks_as_it_is_documented() -> None:
    assert KEY == "ork_001IYT0XLWR_1u8QmlquE1rQpeqoulx6MZVGVGgufeog3UsDEHmrG2p1o5UqE"


def test_what_names_no_key_has_no_id() -> None:
    for text in ("", "ork_", "a" * 10, "a" * 12, "ork_" + "a" * 10 + "!", "keys:key:" + "a" * 11):
        assert id_of(text) is None
