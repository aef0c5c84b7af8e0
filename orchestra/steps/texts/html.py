"""HTML as Markdown: its readable text, without scripts, styles and navigation. Pure.

Headings, list items, table rows and preformatted text keep their form, so that `split` cuts along
them. Links, pictures and emphasis become plain text, or nothing.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

_UNREAD = frozenset(
    {
        *("button", "canvas", "dialog", "iframe", "menu", "nav", "noscript", "object", "script"),
        *("select", "style", "svg", "template", "textarea"),
    }
)
"""Elements whose contents are no text of the page."""
_BLOCKS = frozenset(
    {
        *("address", "article", "aside", "blockquote", "body", "caption", "dd", "details", "div"),
        *("dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4"),
        *("h5", "h6", "head", "header", "hr", "html", "legend", "li", "main", "ol", "p", "pre"),
        *("section", "summary", "table", "tbody", "tfoot", "thead", "title", "tr", "ul"),
    }
)
"""Elements that begin and end a block; others are a part of a line."""
_PREFIXES = {"li": "- ", "tr": "| ", **{f"h{level}": "#" * level + " " for level in range(1, 7)}}
"""The Markdown of a block, by its element."""
_PARAGRAPHS = ("p", "div")
"""Blocks that may be the whole content of a table's cell."""
_CELL = " | "
_LEFT_OPEN = frozenset(
    {
        *("area", "base", "body", "br", "col", "dd", "dt", "embed", "head", "hr", "html", "img"),
        *("input", "li", "link", "meta", "p", "source", "tbody", "td", "tfoot", "th", "thead"),
        *("tr", "track", "wbr"),
    }
)
"""Elements that may have no end tag, so that nothing tells how long they are hidden."""
_CLOSES_ALL = "<!---->"
"""Ends a tag or comment that was not ended. Without it, the parser would look for the end of each
`<` up to the end of the document, in quadratic time.
"""
_SPACE = re.compile(r"[ \t\n\r\f]+")


def readable(html: str) -> str:
    """The readable text of an HTML document, as Markdown; empty if there is none.

    Left out is also what is hidden (`hidden`, `aria-hidden`), or has the role of a navigation or
    menu. The title is the first heading if there is no `<h1>`. Any text is accepted.
    """
    reader = _Reader()
    reader.feed(f"{html}{_CLOSES_ALL}")
    reader.close()
    return reader.markdown()


class _Reader(HTMLParser):
    """Collects the blocks of a document. Of elements that are not read, one is open at most."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._blocks: list[str] = []
        self._line: list[str] = []
        """The text of the present block; empty, outside `<pre>`, until there is more than space."""
        self._prefix = ""
        self._title = ""
        self._pre = False
        self._unread = ""
        self._depth = 0
        """How many elements of the unread one's name are open."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._unread:
            self._depth += tag == self._unread
        elif tag in _UNREAD or (tag not in _LEFT_OPEN and _is_hidden(dict(attrs))):
            self._unread, self._depth = tag, 1
        elif tag == "br":
            self._line += ["\n"] * bool(self._line)
        elif tag in ("td", "th"):
            self._line += [_CELL] * bool(self._line)
        elif tag in _PARAGRAPHS and self._line[-1:] == [_CELL]:
            pass  # it begins the cell
        elif tag in _BLOCKS and not self._pre:
            self._end_block()
            self._prefix = _PREFIXES.get(tag, self._prefix)
            self._pre = tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if self._unread:
            self._depth -= tag == self._unread
            if not self._depth:
                self._unread = ""
        elif tag == "title":
            self._title = self._title or self._text()
            self._line = []
        elif self._pre and tag != "pre":
            self._line.append("\n" if tag in _BLOCKS else "")
        elif tag in _PARAGRAPHS and self._prefix == _PREFIXES["tr"]:
            self._line += [" "] * bool(self._line)  # the next cell is on the same line
        elif tag in _BLOCKS:
            self._end_block()
            self._prefix = "" if tag in _PREFIXES else self._prefix
            self._pre = False

    def handle_data(self, data: str) -> None:
        if self._unread:
            return
        if self._pre:
            self._line.append(data)
        elif self._line or not data.isspace():
            self._line.append(_SPACE.sub(" ", data))

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        """Pass over `<![...>` like a browser does; the parser's own method may raise."""
        return self.parse_bogus_comment(i, report)

    def markdown(self) -> str:
        """The document; to be called once, at its end."""
        self._end_block()
        if self._title and not any(block.startswith("# ") for block in self._blocks):
            self._blocks.insert(0, f"# {self._title}")
        joined: list[str] = []
        for before, block in pairwise(["", *self._blocks]):
            together = block[:2] in ("- ", "| ") and before[:2] == block[:2]
            joined += ["\n" if together else "\n\n", block]
        return "".join(joined).strip()

    def _text(self) -> str:
        """The lines of the present block, without white space around each of them."""
        lines = "".join(self._line).split("\n")
        return "\n".join(filter(None, (_SPACE.sub(" ", line).strip() for line in lines)))

    def _end_block(self) -> None:
        if self._pre:
            block = _fenced("".join(self._line).strip("\n"))
        else:
            text = self._text()
            if self._prefix:  # one line, without the mark of a link
                text = text.replace("\n", " ").rstrip("¶")
            block = f"{self._prefix}{text}" if text else ""
        if block:
            self._blocks.append(block)
            self._prefix = ""
        self._line = []


def _is_hidden(attrs: dict[str, str | None]) -> bool:
    hides = "hidden" in attrs or attrs.get("aria-hidden") == "true"
    return hides or attrs.get("role") in ("navigation", "menu", "menubar")


def _fenced(code: str) -> str:
    """A fenced block; its marks are longer than any in the code."""
    longest = max(map(len, re.findall("`+", code)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}\n{code}\n{marks}" if code.strip() else ""
