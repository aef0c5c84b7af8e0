"""HTML: what a reader of the page would read, in order, and nothing else."""

from __future__ import annotations

import re
from itertools import count

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.steps.texts.html import readable

SHOWN = ("div", "p", "section", "ul", "li", "b", "a", "h2", "td", "pre", "unknown-element")
NOT_SHOWN = ("nav", "script", "style", "template", "svg", 'div hidden=""', 'ul role="navigation"')


@attrs.frozen
class Element:
    """An element, its words and the elements in it."""

    tag: str
    inner: tuple[Element, ...] = ()

    def written(self, words: count[int]) -> str:
        inner = " ".join(
            ["", f"word{next(words)}", *(each.written(words) for each in self.inner), ""]
        )
        return f"<{self.tag}>{inner}</{self.tag.partition(' ')[0]}>"

    def seen(self, words: count[int], *, shown: bool = True) -> list[str]:
        shown = shown and self.tag not in NOT_SHOWN
        mine = f"word{next(words)}"
        found = [word for each in self.inner for word in each.seen(words, shown=shown)]
        return [mine, *found] if shown else []


# Scripts and styles have no elements in them.
leaves = st.sampled_from((*SHOWN, *NOT_SHOWN)).map(Element)
elements = st.recursive(
    leaves,
    lambda inner: st.builds(
        Element,
        st.sampled_from([tag for tag in (*SHOWN, *NOT_SHOWN) if tag not in ("script", "style")]),
        st.lists(inner, max_size=3).map(tuple),
    ),
    max_leaves=12,
)


@given(elements)
def test_what_is_shown_is_read_in_order_and_nothing_else(page: Element) -> None:
    text = readable(page.written(count()))
    assert re.findall(r"word\d+", text) == page.seen(count())


@given(st.lists(st.sampled_from(["<", ">", "!", "[", "-", "/", "&#0", "p", "a b='", "x", '"'])))
def test_anything_gives_a_text_without_markup_of_its_own(parts: list[str]) -> None:
    assert isinstance(readable("".join(parts)), str)


@pytest.mark.parametrize("mark", ["<!", "<!--", "</", "<![", "<a b='", "<script>", "<td>a"])
def test_marks_that_nothing_ends_take_no_quadratic_time(mark: str) -> None:
    """In quadratic time, this would not end within hours."""
    assert readable(f"<p>Read.</p>{mark * 300_000}").startswith("Read.")


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<title>Page</title><p>Text.", "# Page\n\nText."),
        ("<title>Page - Site</title><h1>Page</h1>Text.", "# Page\n\nText."),
        ('<h2>Doors<a class="headerlink" href="#doors">¶</a></h2>', "## Doors"),
        ("<p>It <b>opens</b>\nat&nbsp;nine &amp; closes.", "It opens at\xa0nine & closes."),
        ("one<br>two", "one\ntwo"),
        ("<ul><li>a<ul><li>b</ul><li><p>c</ul>d", "- a\n- b\n- c\n\nd"),
        ("<table><tr><th>A<th>B<tr><td>1<td>2</table>", "| A | B\n| 1 | 2"),
        ("<tr><td><p>1</p></td><td><div>2</div></td></tr>", "| 1 | 2"),
        ("<tr><td><p>1</p><p>2</p></td><td>3</td></tr>a", "| 1\n\n2\n\n3\n\na"),
        ("<h2>Doors<br>and windows</h2>", "## Doors and windows"),
        ("<pre><code>a = 1\n  b = `2`</code></pre>", "```\na = 1\n  b = `2`\n```"),
        ("<pre>```</pre>", "````\n```\n````"),
        ("<p>a</p><nav><nav>b</nav>c</nav>d", "a\n\nd"),
        ("<input hidden>a<![if IE]>b<!-- c --><p></p>", "ab"),
        ("<p>a<script>b", "a"),
        ("1 < 2 > 1", "1 < 2 > 1"),
        ("<h1> </h1>", ""),
    ],
)
def test_the_form_of_a_page_is_that_of_markdown(html: str, text: str) -> None:
    assert readable(html) == text
