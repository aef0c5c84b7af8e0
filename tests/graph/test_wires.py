"""Wires record which part of a value is meant, and refuse whatever needs the value now."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import DefinitionError
from orchestra.graph.control.constructs import each
from orchestra.graph.definition import Definition
from orchestra.graph.nodes import Input, Origin
from orchestra.graph.pipelines import pipeline
from orchestra.graph.source.frames import is_users, place, source_line
from orchestra.graph.steps import step
from orchestra.graph.wires import REFUSED, Attribute, Item, Wire, node_of, path_of, spelled
from tests.graph.written import Written, written

DEFINITION = Definition("test")
NODE = Input(Origin(0, (), __file__, 1), "question", Any, None)
DEFINITION.nodes.append(NODE)


@pytest.fixture
def wire() -> Any:
    return Wire(NODE)


names = st.from_regex(r"[a-z][a-z_0-9]{0,5}", fullmatch=True).filter(lambda name: name != "keys")
keys = st.integers() | st.text(max_size=3) | st.builds(slice, st.none() | st.integers())


@given(st.lists(st.tuples(st.just("."), names) | st.tuples(st.just("["), keys), max_size=5))
def test_a_path_is_recorded_part_by_part(parts: list[tuple[str, Any]]) -> None:
    wire: Any = Wire(NODE)
    for sign, key in parts:
        wire = getattr(wire, key) if sign == "." else wire[key]
    recorded = [
        (".", part.name) if isinstance(part, Attribute) else ("[", part.key)
        for part in path_of(wire)
    ]
    assert recorded == parts
    assert node_of(wire) is NODE


def test_a_path_is_spelled_as_it_was_written(wire: Any) -> None:
    assert spelled(wire.pairs[0]["key"].text[1:][::2]) == "question.pairs[0]['key'].text[1:][::2]"
    assert repr(wire.text) == "<wire question.text>"
    assert str(Item(slice(None, 3))) == "[:3]"


# --- what is refused ---------------------------------------------------------------------------

LOOKED_AT = (object, int, float, complex, str, bytes, list, dict, set, tuple, range)
PROTOCOLS = (
    "bool fspath await aiter anext enter exit aenter aexit next delattr call delitem "
    "length_hint bytes complex"
)
NOT_REFUSED = {
    "buffer": "memory is only shared by classes written in C; Python 3.12 tells of it",
    "class": "what `isinstance` asks first, which cannot be answered otherwise",
    "class_getitem": "about the class",
    "dir": "names, no value",
    "doc": "about the class",
    "getattribute": "how its parts are named",
    "getitem": "how its items are named; refused for wires as keys",
    "getformat": "about the class",
    "getnewargs": "only asked after `__reduce_ex__`, which is refused",
    "getstate": "only asked after `__reduce_ex__`, which is refused",
    "iadd": "falls back to `__add__`",
    "iand": "falls back to `__and__`",
    "imul": "falls back to `__mul__`",
    "ior": "falls back to `__or__`",
    "isub": "falls back to `__sub__`",
    "ixor": "falls back to `__xor__`",
    "init": "makes it",
    "init_subclass": "about the class",
    "new": "makes it",
    "repr": "for messages and debuggers",
    "sizeof": "about the object, not the value",
    "subclasshook": "about the class",
}


def test_no_operator_of_pythons_own_types_is_forgotten() -> None:
    found = {name for cls in LOOKED_AT for name in dir(cls)}
    special = {name.strip("_") for name in found if name.startswith("__")}
    refused = {name for names in REFUSED.values() for name in names.split()}
    special |= {*PROTOCOLS.split(), "buffer"}
    assert special - refused == set(NOT_REFUSED)


@pytest.mark.parametrize("name", sorted(n for names in REFUSED.values() for n in names.split()))
def test_every_operator_says_where_and_what_instead(wire: Any, name: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        getattr(type(wire), f"__{name}__")(wire, "key", "value")
    lines = str(caught.value).splitlines()
    assert re.match(r"tests/graph/test_wires.py:\d+: `question` cannot ", lines[0])
    assert lines[0].endswith("it has no value while the pipeline is being defined")
    assert any(line.startswith("    wrong: getattr(type(wire)") for line in lines)
    assert any(line.startswith("    right: ") for line in lines)


@pytest.mark.parametrize(
    "act",
    [copy.copy, copy.deepcopy, pickle.dumps, hash, reversed, next, list],
)
def test_what_python_calls_by_itself_is_refused(wire: Any, act: Callable[[Any], object]) -> None:
    with pytest.raises(DefinitionError):
        act(wire)


def test_a_key_with_a_wire_anywhere_in_it_is_refused(wire: Any) -> None:
    for key in (wire, slice(wire), slice(None, wire), slice(None, None, wire), (0, (1, wire))):
        with pytest.raises(DefinitionError, match="be indexed with another wire"):
            wire[key]


def test_a_key_without_a_wire_is_recorded(wire: Any) -> None:
    assert spelled(wire[0, (1, None)]) == "question[(0, (1, None))]"


def test_what_tools_probe_for_is_just_absent(wire: Any) -> None:
    assert not hasattr(wire, "_repr_html_")
    assert not hasattr(wire, "__wrapped__")
    with pytest.raises(AttributeError, match="no attribute '_private'"):
        _ = wire._private


# --- where it was written ----------------------------------------------------------------------


def test_the_line_is_the_users_where_pythons_library_does_the_asking() -> None:
    module = Written(
        """
        import random
        @pipeline
        def p(texts: list[str]) -> str:
            return random.choice(texts)  # HERE
        """
    )
    with pytest.raises(DefinitionError) as caught:
        module.run()
    assert str(caught.value).startswith(module.where("HERE"))


def test_what_is_installed_is_the_users_and_what_python_brings_is_not() -> None:
    assert is_users(__file__)
    assert is_users("<stdin>")
    assert not is_users(inspect.getfile(inspect))
    assert not is_users("<frozen runpy>")
    assert is_users(inspect.getfile(pytest))
    assert not is_users(inspect.getfile(Wire))


def test_a_line_is_told_relative_to_where_one_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/tmp")
    assert place("/tmp/answer.py", 3) == "answer.py:3"
    assert place("/home/answer.py", 3) == "/home/answer.py:3"
    assert source_line()[0] == __file__


# --- texts -------------------------------------------------------------------------------------


def told(source: str) -> str:
    """What the module says when it is refused, without the name of its file."""
    module = Written(source)
    with pytest.raises(DefinitionError) as caught:
        module.run()
    return str(caught.value).replace(module.filename, "answer.py")


HEAD = """
@step
def shorten(text: str) -> str: return text[:9]
@step
def expand(text: str) -> str: return text * 2
@pipeline
def answer(question: str, formal: bool) -> str:
"""


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            "if formal:\n        return expand(question)\n    return shorten(question)",
            """\
            answer.py:14: `formal` cannot be tested: it has no value while the pipeline is being defined
                wrong: if formal:
                right: return route(formal, {True: expand(question), False: shorten(question)})""",
        ),
        (
            'return shorten(f"Q: {question}, {expand(question)}")',
            """\
            answer.py:14: `question` cannot be turned into text: it has no value while the pipeline is being defined
                wrong: return shorten(f"Q: {question}, {expand(question)}")
                right: return shorten(prompt("Q: {question}, {expand}", question=question, expand=expand(question)))""",
        ),
        (
            "return shorten(question.strip()[:3])",
            """\
            answer.py:14: `question.strip` cannot be called: it has no value while the pipeline is being defined
                wrong: return shorten(question.strip()[:3])
                right: return shorten(look_up(question))
                where: @step
                       def look_up(question: str):
                           return question.strip()[:3]""",
        ),
        (
            "return [shorten(word) for word in question]",
            """\
            answer.py:14: `question` cannot be iterated: it has no value while the pipeline is being defined
                wrong: return [shorten(word) for word in question]
                right: return each(question, shorten, at_once=8)""",
        ),
        (
            'return ", ".join([question, "x"])',
            """\
            answer.py:14: `question` cannot be used as a plain value: it has no value while the pipeline is being defined
                wrong: return ", ".join([question, "x"])
                right: return join(question)
                where: @step
                       def join(question: str):
                           return ", ".join([question, "x"])""",
        ),
        (
            "question.text = 'x'",
            """\
            answer.py:14: `question` cannot be changed: it has no value while the pipeline is being defined
                wrong: question.text = 'x'
                right: some_step(question)  # with a step that returns a changed copy""",
        ),
        (
            "while formal: pass",
            """\
            answer.py:14: `formal` cannot be tested: it has no value while the pipeline is being defined
                wrong: while formal: pass
                right: formal = some_step(formal)  # the loop runs inside the step
                where: @step
                       def some_step(formal: bool) -> bool:
                           while formal:
                               ...
                           return formal""",
        ),
        (
            "with question as opened: pass",
            """\
            answer.py:14: `question` cannot be entered with `with`: it has no value while the pipeline is being defined
                wrong: with question as opened: pass
                right: some_step(question)  # with a step that enters it, and leaves it""",
        ),
    ],
)
def test_the_wrong_line_is_shown_beside_the_right_one(body: str, text: str) -> None:
    assert told(HEAD + f"    {body}\n") == textwrap.dedent(text)


def test_without_source_the_advice_is_a_general_one() -> None:
    names: dict[str, Any] = {"pipeline": pipeline, "step": step, "each": each}
    with pytest.raises(DefinitionError) as caught:
        exec("@pipeline\ndef p(q: str):\n    return q + 'x'", names)
    assert str(caught.value) == (
        "<string>:3: `q` cannot be calculated with: it has no value while the pipeline is being "
        "defined\n    right: some_step(q)  # with `@step def some_step(value): ...` doing it"
    )


def test_a_call_without_source_is_advised_on_in_general() -> None:
    with pytest.raises(DefinitionError, match=r"right: some_step\(q.upper\)"):
        exec("@pipeline\ndef p(q: str):\n    return q.upper()", {"pipeline": pipeline})


def test_another_type_error_is_pythons_own() -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        written("@pipeline\ndef p(q: str) -> str:\n    return 1 + 'x'")
