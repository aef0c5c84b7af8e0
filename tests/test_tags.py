"""Tags of a run: what is accepted, from a mapping, from words and from a header."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.tags import (
    NAME_CHARS_MAX,
    TAGS_MAX,
    VALUE_CHARS_MAX,
    fault_of,
    tags_of,
    tags_of_header,
)

CHARACTERS = st.characters(exclude_categories=["Cs"])
NAMES = st.text(CHARACTERS, min_size=1, max_size=NAME_CHARS_MAX)
VALUES = st.text(CHARACTERS, max_size=VALUE_CHARS_MAX)
TAGS = st.dictionaries(NAMES, VALUES, max_size=TAGS_MAX)


@given(TAGS, st.lists(st.sampled_from(["", " ", ","]), min_size=TAGS_MAX, max_size=TAGS_MAX))
def test_a_header_gives_back_the_tags_that_were_encoded_in_it(
    tags: dict[str, str], around: list[str]
) -> None:
    """Also if a proxy has joined several headers, with empty parts between them."""
    parts = [f"{quote(name)}={quote(value)}" for name, value in tags.items()]
    padded = [f"{more}{part} " for more, part in zip(around, parts, strict=False)]
    assert fault_of(tags) is None
    assert tags_of_header([",".join(padded)]) == tags == tags_of_header(padded)


@given(TAGS.filter(lambda tags: not any("=" in name for name in tags)))
def test_words_give_back_their_tags(tags: dict[str, str]) -> None:
    """Only the first `=` separates."""
    assert tags_of(f"{name}={value}" for name, value in tags.items()) == tags


@pytest.mark.parametrize(
    ("tags", "fault"),
    [
        ({f"n{n}": "" for n in range(17)}, "there are 17 tags, and a run may have 16; leave some"),
        ({"": "x"}, "the name has 0 characters: ''; write 1 to 64"),
        ({"n" * 65: "x"}, "the name has 65 characters: 'nnn"),
        ({"team": "x" * 513}, "the value of 'team' has 513 characters: 'xxx"),
        ({"ticket": 5}, "the value of 'ticket' is 5, and not a text; write '5'"),
        ({3: "x"}, "the name is 3, and not a text; write '3'"),
        ({"team": "\ud800"}, "the value of 'team' contains half of a character"),
        (["team"], '[\'team\'] is not a mapping; write {"team": "search"}'),
        (None, "None is not a mapping"),
    ],
)
def test_other_tags_are_refused_with_what_to_write(tags: object, fault: str) -> None:
    assert (fault_of(tags) or "").startswith(fault)
    if isinstance(tags, Mapping):
        assert len(fault_of(tags) or "") < 300, "a long value is cut"


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("team", "'team' is not a tag; write name=value, such as team=search"),
        ("=search", "'=search' is not a tag"),
        ("team=a,team=b", "the tag 'team' is given twice"),
        ("team=\xe9", "'team=é' is not ASCII; percent-encode"),
        ("team=%ff", "'team=%ff' is not percent-encoded UTF-8"),
        (f"team={'x' * 513}", "the value of 'team' has 513 characters"),
    ],
)
def test_a_header_that_says_no_tags_is_refused(header: str, fault: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        tags_of_header([header])
    assert str(raised.value).startswith(fault)
