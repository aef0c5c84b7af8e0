"""Normal forms in linear time: in pieces, with the same result."""

from __future__ import annotations

from unicodedata import normalize

from hypothesis import given
from hypothesis import strategies as st

from orchestra.normal_forms import pieces

texts = st.lists(st.text(max_size=99) | st.text("a\u0301\u0316\u3099か ", max_size=99), max_size=40)


@given(texts, st.sampled_from([" ", "\n", ""]))
def test_the_pieces_of_a_text_are_the_text(words: list[str], space: str) -> None:
    text = space.join(words)
    assert "".join(pieces(text)) == text
    assert all(len(each) <= 256 for each in pieces(text))


@given(texts)
def test_pieces_have_the_normal_form_of_the_text(words: list[str]) -> None:
    """They end between words, if no word is longer than a piece."""
    text = " ".join(words)
    for form in ("NFKC", "NFKD"):
        assert "".join(normalize(form, each) for each in pieces(text)) == normalize(form, text)


@given(st.integers(0, 300), st.text("がパ漢。é", max_size=9))
def test_without_spaces_no_letter_is_parted_from_its_accent(before: int, rest: str) -> None:
    text = normalize("NFD", "漢" * before + "が" * 300 + rest)
    assert "".join(normalize("NFC", each) for each in pieces(text)) == normalize("NFC", text)
