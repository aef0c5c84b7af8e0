"""`prompt`: what a template that only a run knows says of itself when it cannot be filled."""

from __future__ import annotations

import re
from datetime import date

import pytest

from orchestra.steps.prompt import prompt


def test_a_template_is_filled_in() -> None:
    assert prompt.call("{a!r:>4} {b.real} {{}}", a="x", b=3) == " 'x' 3 {}"
    assert prompt.call("a._b {{a._b}} {a:_>3} {_c}", a="x", _c=3) == "a._b {a._b} __x 3"
    assert prompt.call("{at:%Y._%m} {d[_id]}", at=date(2026, 5, 1), d={"_id": 7}) == "2026._05 7"


@pytest.mark.parametrize(
    ("template", "error", "told"),
    [
        ("{q} {ctx}", KeyError, "the template names 'ctx', but is given: q; write `{{` and `}}`"),
        ('{"a": 1} {q}', KeyError, '`{"a": 1}` in the template names no part; write `{{`'),
        ("{} {q}", KeyError, "`{}` in the template names no part; write `{{`"),
        ("{q", ValueError, "the template is invalid: expected '}' before end of string; write"),
        ("{q.__class__.mro}", ValueError, "`{q.__class__.mro}` in the template reads an attribute"),
        ("{q[0].__init__!r:>9}", ValueError, "`{q[0].__init__!r:>9}` in the template reads an"),
        ("{q[a:b].__class__}", ValueError, "`{q[a:b].__class__}` in the template reads an"),
        ("{q:{q._x}}", ValueError, "`{q._x}` in the template reads an attribute that begins with"),
        ("{q:d}", ValueError, "Unknown format code 'd' for object of type 'str'"),
    ],
)
def test_a_template_that_cannot_be_filled_says_what_to_write(
    template: str, error: type[Exception], told: str
) -> None:
    with pytest.raises(error) as caught:
        prompt.call(template, q="why")
    assert re.match(re.escape(told), caught.value.args[0])


def test_a_part_whose_name_is_no_identifier_hides_nothing_in_its_format() -> None:
    parts = {"the date": date(2026, 5, 1)}
    assert prompt.call("{the date:%Y}", **parts) == "2026"
    with pytest.raises(ValueError, match="reads an attribute that begins with `_`"):
        prompt.call("{the date:{the date.__class__.__init__}}", **parts)
