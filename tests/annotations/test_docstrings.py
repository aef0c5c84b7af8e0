"""Docstrings: three styles, one meaning."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.annotations.docstrings import described

GOOGLE = """Find passages.

    The nearest first.

    Args:
        query (str): What to look for:
            words, not a question.
        most: How many at most.

    Returns:
        The passages: all of them.
    """
NUMPY = """Find passages.

    The nearest first.

    Parameters
    ----------
    query : str
        What to look for:
        words, not a question.
    most : int, optional
        How many at most.

    Returns
    -------
    list
        The passages: all of them.
    """
SPHINX = """Find passages.

    The nearest first.

    :param str query: What to look for:
        words, not a question.
    :param most: How many at most.
    :returns: The passages: all of them.
    """


@given(st.text(st.sampled_from("ab:- \n\tArgsPm*()"), max_size=60))
def test_a_docstring_is_never_an_error_and_nothing_is_made_up(text: str) -> None:
    found = described(text)
    assert set("".join(found.text.split())) <= set(text)
    assert set("".join(found.members)) <= set(text)


@pytest.mark.parametrize("docstring", [GOOGLE, NUMPY, SPHINX], ids=["google", "numpy", "sphinx"])
def test_every_style_says_the_same(docstring: str) -> None:
    found = described(docstring)
    assert found.text == "Find passages.\n\nThe nearest first."
    assert found.members == {
        "query": "What to look for: words, not a question.",
        "most": "How many at most.",
    }


def test_text_that_looks_like_a_heading_is_text() -> None:
    """Without its colon or its line, a word is a word."""
    assert described("Look.\n\nNotes\non this.\n\nWell known: yes").text == (
        "Look.\n\nNotes\non this.\n\nWell known: yes"
    )
    assert described(None).text == ""
    assert described("Args:\n    a: b").members == {"a": "b"}
    assert described("Args:\n    no entry here").members == {}
