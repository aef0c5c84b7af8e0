"""Lone surrogates: what is UTF-8 stays as it is, and all that is made of the rest is UTF-8."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestra.surrogates import escaped, is_utf8, replaced

texts = st.text(st.characters())
"""Texts with surrogates among their characters."""


@given(texts)
def test_a_text_is_utf8_unless_it_has_a_surrogate(text: str) -> None:
    assert is_utf8(text) == (not any("\ud800" <= character <= "\udfff" for character in text))


@given(texts)
def test_only_surrogates_are_changed_and_the_result_is_utf8(text: str) -> None:
    parts = [each if is_utf8(each) else None for each in text]
    assert escaped(text) == "".join(
        part or f"\\u{ord(character):x}" for part, character in zip(parts, text, strict=True)
    )
    assert replaced(text) == "".join(part or "?" for part in parts)
    assert is_utf8(escaped(text))
