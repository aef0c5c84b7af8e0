"""Inputs: what JSON Schema allows is read, and everything that is wrong is told at once."""

from __future__ import annotations

import keyword
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import attrs
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.annotations.facts import MISSING, accepts
from orchestra.documents import Document
from orchestra.engine.inputs import FitInputs
from orchestra.errors import ServeError
from orchestra.graph.nodes import Input, Origin
from orchestra.protocols import Stream
from orchestra.server.inputs.reading import (
    FAULTS_MAX,
    NAME_MAX,
    check_servable,
    from_json,
    from_query,
    schema,
)
from orchestra.values import Message
from tests.annotations.kinds import alias


@attrs.frozen
class Filter:
    source: str
    years: list[int] = attrs.field(factory=list)


class Letter(Enum):
    X = "x"
    Y = "y"


def inputs(**annotations: object) -> dict[str, Input]:
    """Inputs of these annotations; a pair is an annotation and a default."""
    found = {}
    for number, (name, each) in enumerate(annotations.items()):
        annotation, default = each if isinstance(each, tuple) else (each, MISSING)
        found[name] = Input(Origin(number, (), "p.py", 1), name, annotation, default)
    return found


names = st.from_regex(r"[a-z_]{1,8}", fullmatch=True).filter(lambda n: not keyword.iskeyword(n))
kinds = st.sampled_from([str, int, bool, float, list[int], dict[str, int], str | None])


@attrs.frozen
class Positive:
    number: int = attrs.field()

    @number.validator
    def _positive(self, _: object, value: int) -> None:
        assert value > 0


@dataclass
class Ratio:
    number: int

    def __post_init__(self) -> None:
        self.share = 1 / self.number


EXAMPLES: dict[object, st.SearchStrategy[object]] = {
    str: st.text(),
    int: st.integers(-(2**53), 2**53),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    list[int]: st.lists(st.integers(-(2**53), 2**53)),
    dict[str, int]: st.dictionaries(st.text(), st.integers(-(2**53), 2**53)),
    str | None: st.none() | st.text(),
}


@given(st.dictionaries(names, kinds), st.data())
def test_values_of_the_right_types_are_read_as_they_are(
    annotations: dict[str, Any], data: st.DataObject
) -> None:
    given_ = {name: data.draw(EXAMPLES[kind]) for name, kind in annotations.items()}
    assert from_json(inputs(**annotations), given_) == (given_, [])
    floats = {name: float(each) if type(each) is int else each for name, each in given_.items()}
    assert from_json(inputs(**annotations), floats) == (given_, [])


def test_an_integer_may_be_written_as_a_float() -> None:
    """JSON Schema, and so our OpenAPI document, make no difference."""
    annotations = {"a": int, "b": list[int], "c": Literal[1, 2] | None, "d": float}
    read, faults = from_json(inputs(**annotations), {"a": 5.0, "b": [1, 2.0], "c": 2.0, "d": 1})
    assert (read, faults) == ({"a": 5, "b": [1, 2], "c": 2, "d": 1.0}, [])
    assert all(accepts(annotations[name], value) for name, value in read.items())
    read, (fault,) = from_json(inputs(a=int, b=int), {"a": 5.0, "b": 5.5})
    assert (read, fault.pointer) == ({"a": 5}, "#/inputs/b")


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
made = st.sampled_from([Filter, Letter, Filter | None, Document, list[Message], object])


@given(st.dictionaries(names, kinds | made), st.data())
@example({"a": float}, None).via("an integer is a number")
def test_what_is_read_fits_its_annotation(
    annotations: dict[str, Any], data: st.DataObject | None
) -> None:
    """So the engine does not check it again."""
    drawn = st.sampled_from(SHOWN) | json
    given_ = {name: data.draw(drawn) if data else 1 for name in annotations}
    read, _ = from_json(inputs(**annotations), given_)
    assert isinstance(read, FitInputs)
    assert all(accepts(annotations[name], value) for name, value in read.items())


SHOWN: list[object] = [
    {"source": "a"},
    {"source": "a", "years": [1]},
    "x",
    {"name": "a", "text": "b"},
    [{"role": "user", "content": "a"}],
]


@given(st.dictionaries(names, st.sampled_from([str, int])), st.data())
def test_a_query_says_what_json_says(annotations: dict[str, Any], data: st.DataObject) -> None:
    """For those types that a query can hold."""
    values = {name: data.draw(EXAMPLES[kind]) for name, kind in annotations.items()}
    pairs = [(name, str(value)) for name, value in values.items()]
    assert from_query(inputs(**annotations), pairs) == (values, [])


def ascii_only(text: str) -> bytes:
    return text.encode("ascii")


@attrs.frozen
class Ascii:
    data: bytes = attrs.field(converter=ascii_only)


@pytest.mark.parametrize(
    ("annotation", "value", "detail"),
    [
        (Ascii, {"data": "é"}, "input `each`: 'ascii' codec can't encode character"),
        (Positive, {"number": 0}, "input `each`: AssertionError"),
        (Ratio, {"number": 0}, "input `each`: ZeroDivisionError: division by zero"),
        (int, "\udcff", "input `each`: 'utf-8' codec can't encode character"),
    ],
)
def test_whatever_a_class_raises_is_a_fault_of_the_input(
    annotation: object, value: object, detail: str
) -> None:
    """Of an argument of a process, `\\udcff` is the form of a byte that is not UTF-8."""
    (fault,) = from_json(inputs(each=annotation), {"each": value})[1]
    assert (fault.field, fault.pointer) == ("each", "#/inputs/each")
    assert fault.detail.startswith(detail)


def test_keys_of_a_dict_are_texts_in_json() -> None:
    assert from_json(inputs(each=dict[int, str]), {"each": {"1": "a"}})[0] == {"each": {1: "a"}}
    (fault,) = from_json(inputs(each=dict[int, str]), {"each": {"x": "a"}})[1]
    assert fault.detail.startswith("input `each")


ITEMS: list[tuple[object, object, object, str]] = [  # of a list: one that fits, one that does not
    (int, 5, "5", ""),
    (int | None, None, "5", ""),
    (Letter, "x", "c", ""),
    (Filter, {"source": "a"}, {"source": 5}, "/source"),
    (Message, {"role": "user", "content": "a"}, {"role": "usr", "content": "a"}, ""),
    (Positive, {"number": 1}, {"number": 0}, ""),
    (list[int], [1], [1, None], "/1"),
]


@given(of=st.sampled_from(ITEMS), fits=st.lists(st.booleans(), min_size=1), optional=st.booleans())
@example(of=ITEMS[3], fits=[True, False, False], optional=False)
@example(of=ITEMS[0], fits=[False] * 30, optional=True)
def test_each_item_of_a_list_that_does_not_fit_is_told(
    of: tuple[Any, object, object, str], fits: list[bool], optional: bool
) -> None:
    """Otherwise a client with two wrong rows corrects one, and is refused again."""
    kind, good, bad, place = of
    rows: Any = list.__class_getitem__(kind)
    annotation = rows | None if optional else rows
    given_ = {"rows": [good if each else bad for each in fits], "other": 1}
    _, faults = from_json(inputs(rows=annotation, other=str), given_)
    wrong = [f"#/inputs/rows/{at}{place}" for at, each in enumerate(fits) if not each]
    assert [each.pointer for each in faults] == [*wrong, "#/inputs/other"][:FAULTS_MAX]


def test_each_part_at_any_depth_that_does_not_fit_is_told() -> None:
    wrong = {
        "filters": {"a": [{"source": 1, "years": [1, "x", None]}, {"years": []}]},
        "files": [{"name": "a", "text": "b"}, {"name": "c"}],
    }
    of = inputs(filters=dict[str, list[Filter]], files=list[Document] | None)
    assert [fault.pointer for fault in from_json(of, wrong)[1]] == [
        "#/inputs/filters/a/0/source",
        "#/inputs/filters/a/0/years/1",
        "#/inputs/filters/a/0/years/2",
        "#/inputs/filters/a/1/source",
        "#/inputs/files/1",
    ]


@given(
    st.dictionaries(names, kinds, max_size=8),
    st.dictionaries(names, st.text() | st.lists(st.none()), max_size=8),
)
@example({"each": list[int]}, {"each": [None]})
@example({"each": list[int]}, {"each": [None, None]})
def test_each_fault_is_told_once_with_its_field(
    annotations: dict[str, Any], given_: dict[str, object]
) -> None:
    """A field is read, or is in a fault, or has a default; what is not an input is in a fault."""
    read, faults = from_json(inputs(**annotations), given_)
    fields = [fault.field for fault in faults]
    places = [fault.pointer for fault in faults]
    assert len(places) == len(set(places))
    assert set(fields) | set(read) == set(annotations) | set(given_)
    assert not set(fields) & set(read)
    assert all(fault.field in fault.detail for fault in faults)
    assert all(f"{fault.pointer}/".startswith(f"#/inputs/{fault.field}/") for fault in faults)


FILTERED = inputs(question=str, top=(int, 5), filter=(Filter, Filter("all")))


@pytest.mark.parametrize(
    ("given_", "pointer", "detail"),
    [
        ({}, "#/inputs/question", "input 'question' is missing"),
        (
            {"question": "q", "tpo": 3},
            "#/inputs/tpo",
            "there is no input 'tpo'; did you mean 'top'?",
        ),
        (
            {"question": "q", "x": 3},
            "#/inputs/x",
            "there is no input 'x'; the inputs are: question, top, filter",
        ),
        (
            {"question": "q", "top": "3"},
            "#/inputs/top",
            "input `top`: expected `int`, got `str`",
        ),
        (
            {"question": "q", "filter": {"source": "a", "years": [1, "b"]}},
            "#/inputs/filter/years/1",
            "input `filter.years[1]`: expected `int`, got `str`",
        ),
        (
            {"question": "q", "filter": {}},
            "#/inputs/filter/source",
            "input `filter.source`: is missing",
        ),
    ],
)
def test_a_fault_says_where_and_what(given_: dict[str, object], pointer: str, detail: str) -> None:
    (fault,) = from_json(FILTERED, given_)[1]
    assert (fault.pointer, fault.detail) == (pointer, detail)


@pytest.mark.parametrize(
    ("annotation", "value", "pointer", "place"),
    [
        (dict[str, list[int]], {"a": [1, "x"]}, "#/inputs/each/a/1", "each.a[1]"),
        (list[dict[str, int]], [{"a/b": "x"}], "#/inputs/each/0/a~1b", "each[0]['a/b']"),
        (dict[str, int], {"a" * 200: "x"}, "#/inputs/each/" + "a" * 100, "each." + "a" * 100),
        (dict[Literal["a"], int], {"b": 1}, "#/inputs/each", "each"),
        (list[list[int]], [[], [1, None]], "#/inputs/each/1/1", "each[1][1]"),
    ],
)
def test_a_pointer_goes_as_far_as_is_known(
    annotation: object, value: object, pointer: str, place: str
) -> None:
    (fault,) = from_json(inputs(each=annotation), {"each": value})[1]
    assert fault.pointer == pointer
    assert fault.detail.startswith(f"input `{place}`: ")


@pytest.mark.parametrize(
    ("annotation", "says"),
    [
        (Literal["a", "b"], "invalid enum value 'c'; one of: 'a', 'b'"),
        (Literal["a", "b"] | None, "invalid enum value 'c'; one of: 'a', 'b'"),
        (Letter, "invalid enum value 'c'; one of: 'x', 'y'"),
        (Literal[*map(str, range(30))], f"; one of: {', '.join(repr(str(n)) for n in range(20))}, ..."),
        (dict[Literal["a"], int], "invalid enum value 'c'"),
    ],
)  # fmt: skip
def test_what_is_none_of_a_few_is_told_with_those(annotation: object, says: str) -> None:
    given_: object = {"c": 1} if says.endswith("value 'c'") else "c"
    (fault,) = from_json(inputs(each=annotation), {"each": given_})[1]
    assert fault.detail.endswith(says)


def test_a_name_is_escaped_in_its_pointer() -> None:
    (fault,) = from_json({}, {"a/b~c": 1})[1]
    assert fault.pointer == "#/inputs/a~1b~0c"
    assert fault.detail == "there is no input 'a/b~c'; the inputs are: none"


def test_a_default_stands_for_what_is_not_given() -> None:
    assert from_json(FILTERED, {"question": "q"}) == ({"question": "q"}, [])


def test_an_input_without_an_annotation_may_be_anything() -> None:
    assert from_json(inputs(each=object), {"each": {"a": [1]}}) == ({"each": {"a": [1]}}, [])


@pytest.mark.parametrize(
    ("annotation", "query", "value"),
    [
        (int, ["5"], 5),
        (bool, ["true"], True),
        (int | None, ["null"], None),
        (list[int], ["1", "2"], [1, 2]),
        (list[int], ["1"], [1]),
        (list[str], ["1"], ["1"]),
        (str, ["5"], "5"),
    ],
)
def test_a_query_is_read_as_the_input_asks_for(
    annotation: object, query: list[str], value: object
) -> None:
    pairs = [("each", text) for text in query]
    assert from_query(inputs(each=annotation), pairs) == ({"each": value}, [])


@pytest.mark.parametrize(
    ("annotation", "query", "detail"),
    [
        (int, ["five"], "input `each`: expected `int`, got `str`"),
        (int, ["1", "2"], "input `each`: expected `int`, got `array`"),
        (list[int], ["one"], "input `each[0]`: expected `int`, got `str`"),
        (
            list[Message],
            ['{"role": "user", "content": "Why?"}'],
            'input `each[0]`: expected a message, {"role": "user", "content": "..."}; '
            'it does not fit into a query: send a POST with {"inputs": {...}} as JSON',
        ),
    ],
)
def test_a_query_that_does_not_fit_is_told(
    annotation: object, query: list[str], detail: str
) -> None:
    (fault,) = from_query(inputs(each=annotation), [("each", text) for text in query])[1]
    assert (fault.pointer, fault.detail) == ("?each", detail)


def test_what_is_told_of_a_hostile_body_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is the work: what is meant is looked for a few times only."""
    searches: list[str] = []

    def search(name: str, *_: object, **__: object) -> list[str]:
        searches.append(name)
        return []

    monkeypatch.setattr("orchestra.nearest.get_close_matches", search)
    hostile = {f"{number:06}" + "x" * 1000: None for number in range(10_000)}
    _, faults = from_json(FILTERED, hostile)
    assert len(faults) == len(searches) == FAULTS_MAX
    assert max(len(fault.detail) for fault in faults) < 2 * NAME_MAX


# --- the schema --------------------------------------------------------------------------------


def test_the_schema_says_what_is_read() -> None:
    found = schema(FILTERED)
    found["$defs"]["Filter"]["properties"]["years"].pop("default", None)  # of msgspec 0.23 on
    assert found == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "question": {"type": "string"},
            "top": {"type": "integer", "default": 5},
            "filter": {"$ref": "#/$defs/Filter", "default": {"source": "all", "years": []}},
        },
        "required": ["question"],
        "additionalProperties": False,
        "$defs": {
            "Filter": {
                "title": "Filter",
                "type": "object",
                "properties": {
                    "source": {"type": "string"},
                    "years": {"type": "array", "items": {"type": "integer"}},
                },
                "required": ["source"],
            }
        },
    }


@given(st.dictionaries(names, kinds))
def test_every_schema_is_json(annotations: dict[str, Any]) -> None:
    found = schema(inputs(**annotations))
    assert msgspec.json.decode(msgspec.json.encode(found)) == found
    assert found["required"] == list(annotations)


@pytest.mark.parametrize("annotation", [Stream[str], Iterable[int], object()])
def test_an_input_that_json_cannot_give_is_refused_by_name(annotation: object) -> None:
    with pytest.raises(ServeError, match=r"pipeline 'p' cannot be served: its input `each: "):
        check_servable("p", inputs(question=str, each=annotation))


def test_of_a_recursive_alias_it_is_said_what_is_wrong() -> None:
    json = alias("Json", "dict[str, Json] | list[Json] | str")
    with pytest.raises(ServeError, match=r"input `x: Json` .* is a recursive alias"):
        check_servable("p", inputs(x=json))


def test_a_pipeline_that_no_path_can_name_is_refused() -> None:
    """It was listed, and every request for it was answered with 404."""
    with pytest.raises(ServeError, match=r"begins another part; write @pipeline\(name='acme-p'\)"):
        check_servable("acme/p", inputs(x=str))


def test_inputs_that_json_can_give_are_served() -> None:
    check_servable("p", FILTERED)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "Infinity", "NaN"])
@pytest.mark.parametrize("annotation", [float, float | None, list[float], dict[str, float] | float])
def test_what_json_has_no_number_for_is_no_number_in_a_query(text: str, annotation: Any) -> None:
    """It would be null in every answer."""
    read, faults = from_query(inputs(each=annotation), [("each", text)])
    assert read == {}
    assert [fault.field for fault in faults] == ["each"]
    assert from_query(inputs(each=annotation), [("each", "1e3")])[1] == []


@attrs.frozen
class Account:
    """A converter, a member of its own, and another name."""

    email: str = attrs.field(converter=str.lower)  # type: ignore[misc]
    limit: int = attrs.field(default=1, alias="most")
    shown: str = attrs.field(init=False, default="yes")


def test_classes_are_called_with_what_their_init_takes() -> None:
    of = inputs(account=Account, several=(list[Account], ()), size=(int | None, None))
    given_ = {"account": {"email": "A@B", "most": 2}}
    assert from_json(of, given_) == ({"account": Account("a@b", 2)}, [])
    assert set(schema(of)["$defs"]["Account"]["properties"]) == {"email", "most"}
    query = [("account", {"email": "A", "most": "2"})]
    assert from_query(of, query)[0]["account"] == Account("a", 2)  # type: ignore[arg-type]
    wrong = {"account": {"email": 5}, "several": [{"email": "", "most": None}]}
    assert [fault.pointer for fault in from_json(of, wrong)[1]] == [
        "#/inputs/account/email",
        "#/inputs/several/0/most",
    ]
