"""A run's inputs, from the words of a command line."""

from __future__ import annotations

import inspect
import json
import typing
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from orchestra.annotations.facts import MISSING
from orchestra.cli.failures import MISUSED, CommandError
from orchestra.cli.running import files
from orchestra.cli.running.options import RUN_OPTIONS, read_inputs, read_pairs, usage
from orchestra.cli.running.run import run
from orchestra.documents import Document
from orchestra.graph.nodes import Input, Origin
from orchestra.server.inputs.reading import check_servable
from orchestra.values import ChatRequest, Message


def inputs(**kinds: Any) -> dict[str, Input]:
    """Inputs with these annotations; a pair is an annotation and a default."""
    made = {}
    for name, kind in kinds.items():
        annotation, default = kind if isinstance(kind, tuple) else (kind, MISSING)
        made[name] = Input(Origin(0, (), "x.py", 1), name, annotation, default)
    return made


TEXT = st.text(st.characters(codec="utf-8"))
INTEGERS = st.integers(-(2**60), 2**60)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(-(2**63), 2**63),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    Annotated[bool, "whether to"]: st.booleans(),
    list[str]: st.lists(TEXT, min_size=1),
    list[int]: st.lists(INTEGERS, min_size=1),
}
NAMES = st.from_regex(r"[a-z]{1,5}(_[a-z]{1,5})?", fullmatch=True)


@given(st.data(), st.dictionaries(NAMES, st.sampled_from(list(VALUES)), max_size=5))
def test_what_is_said_as_options_is_what_is_read(
    data: st.DataObject, kinds: dict[str, Any]
) -> None:
    """However a value is written: as an option in either form, or in the JSON."""
    kinds.pop("no", None)
    values = {name: data.draw(VALUES[kind], name) for name, kind in kinds.items()}
    words: list[str] = []
    given_json: dict[str, Any] = {}
    for name, value in values.items():
        if data.draw(st.booleans()):
            given_json[name] = value
            continue
        for one in value if isinstance(value, list) else [value]:
            words += written(data, name, one)
    read = read_inputs(inputs(**kinds), words, json=json.dumps(given_json))
    assert read == values


def written(data: st.DataObject, name: str, value: object) -> list[str]:
    option = "--" + data.draw(st.sampled_from([name, name.replace("_", "-")]))
    if isinstance(value, bool):
        flag = option if value else option.replace("--", "--no-", 1)
        return data.draw(st.sampled_from([[flag], [f"{option}={str(value).lower()}"]]))
    if str(value).startswith("--") or data.draw(st.booleans()):
        return [f"{option}={value}"]
    return [option, str(value)]


def refused(kinds: dict[str, Input], *words: str, json: str | None = None) -> str:
    with pytest.raises(CommandError) as caught:
        read_inputs(kinds, words, json=json)
    assert caught.value.code == MISUSED
    return str(caught.value)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    told = refused(inputs(question=str, top=int), "--qestion", "why", "--top", "many")
    assert told.split("\n") == [
        "there is no input or option --qestion; did you mean --question?",
        "--question is missing",
        "--top 'many': expected `int`, got `str`",
    ]


def test_an_unknown_option_without_a_neighbour_lists_the_inputs() -> None:
    assert "the inputs are: --a-b" in refused(inputs(a_b=(str, "")), "--xyz", "1")
    assert "the inputs are: none" in refused({}, "--xyz", "1")


def test_what_is_wrong_in_the_json_is_told_with_its_place() -> None:
    told = refused(inputs(texts=list[str]), json='{"texts": ["a", 5]}')
    assert told == "--input-json: input `texts[1]`: expected `str`, got `int`"


def test_an_input_given_twice_is_refused() -> None:
    told = refused(inputs(a=str), "--a", "x", "--a", "y")
    assert told == "--a is given 2 times, but takes one value"
    assert "--a is also in --input-json" in refused(inputs(a=str), "--a", "x", json='{"a": "y"}')
    told = refused(inputs(a=str), json='{"a":' + "[" * 100_000)
    assert told == "--input-json is nested too deeply"
    told = refused(inputs(a=str), json='{"a": "\\ud800"}')
    assert told.startswith("--input-json is not JSON: \\ud800 is half of a character")
    assert refused(inputs(a=str), json="\udce9").startswith("--input-json is not JSON: ")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("{", "is not JSON"), ("[1]", "must be an object"), ("5", "not 5")],
)
def test_json_that_is_no_object_is_refused(text: str, complaint: str) -> None:
    assert complaint in refused(inputs(a=str), json=text)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["why?"], "give inputs by name: --question 'why?'"),
        (["-q", "why?"], "give inputs by name: --question -q"),
        (["--"], "give inputs by name: --question --"),
        (
            ["--question", "What", "is", "it?", "--loud"],
            "put a value with spaces into quotes: --question 'What is it?'",
        ),
        (["--loud", "true"], "--loud takes no value; its opposite is --no-loud"),
        (
            ["--file-names", "a", "b"],
            "write the option before each value of a list: --file-names a --file-names b",
        ),
    ],
)
def test_a_word_that_is_no_option_shows_how_to_write_one(words: list[str], meant: str) -> None:
    """With what was meant by it, as it seems."""
    kinds = inputs(question=str, loud=bool, file_names=list[str])
    assert refused(kinds, *words).endswith(f" is not an option; {meant}")


@given(st.lists(st.sampled_from(["--a", "--b", "--no-b", "--c", "x", "y z", "-", "--", ""])))
def test_whatever_is_written_is_read_or_refused(words: list[str]) -> None:
    kinds = inputs(a=(str, ""), b=(bool, False), c=(list[str], []))
    with suppress(CommandError):
        assert read_inputs(kinds, words).keys() <= kinds.keys()


def test_an_option_without_a_value_is_refused() -> None:
    assert refused(inputs(a=str), "--a") == "--a needs a value"
    assert refused(inputs(a=str, b=str), "--a", "--b", "c") == (
        "--a needs a value; if its value is '--b', write --a=--b"
    )


def test_an_option_that_is_not_there_is_no_lack_of_a_value() -> None:
    """Whether it would have taken one is not known."""
    kinds = inputs(question=str, loud=bool)
    told = "there is no input or option --jsn; did you mean --json?"
    assert refused(kinds, "--question", "x", "--jsn") == told
    assert refused(kinds, "--no-loud", "--jsn", "--question") == told
    assert refused(kinds, "--question", "x", "--loud", "--jsn=1") == told


def test_an_input_that_an_option_hides_is_given_as_json() -> None:
    kinds = inputs(events=str, top=int, json=str)
    assert refused(kinds, "--top", "3", json='{"json": ""}') == (
        "input 'events' is missing; --events is an option, so write --input-json"
    )
    assert usage("p", kinds) == (
        'orchestra run p --top int --input-json \'{"events": ..., "json": ...}\''
    )


def test_a_negative_number_is_a_value() -> None:
    assert read_inputs(inputs(top=int), ["--top", "-5"]) == {"top": -5}


@given(st.dictionaries(TEXT, INTEGERS) | st.none(), st.lists(INTEGERS))
def test_an_object_and_a_list_may_be_written_as_json(
    counts: dict[str, int] | None, numbers: list[int]
) -> None:
    kinds = inputs(counts=dict[str, int] | None, numbers=list[int])
    words = ["--counts", json.dumps(counts), "--numbers", json.dumps(numbers)]
    assert read_inputs(kinds, words) == {"counts": counts, "numbers": numbers}


TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "[1]"}]


@pytest.mark.parametrize("words", [[TURNS], TURNS])
def test_a_conversation_is_one_list_or_one_option_for_each_turn(words: list[object]) -> None:
    said = [word for each in words for word in ("--chat", json.dumps(each))]
    told = [Message("user", "Hi"), Message("assistant", "[1]")]
    assert read_inputs(inputs(chat=list[Message]), said) == {"chat": told}


def test_what_fits_as_a_text_is_one() -> None:
    kinds = inputs(a=str, b=list[str])
    assert read_inputs(kinds, ["--a", "{}", "--b", "[1]"]) == {"a": "{}", "b": ["[1]"]}


@pytest.mark.parametrize(
    ("kind", "word", "told"),
    [
        (dict[str, int], "many", "expected `object`, got `str`; write it as JSON"),
        (list[Message], "Hi", ': expected a message, {"role": "user", "content": "..."}'),
        (list[Message], "[{}", ': expected a message, {"role": "user", "content": "..."}'),
        (list[list[int]], "1", "expected `array`, got `str`; write it as JSON"),
        (list[int], '["x"]', "expected `int`, got `str`"),
        (list[Message], '[{"role": "human", "content": ""}]', "not 'human'"),
        (list[Message], '{"role": "human", "content": ""}', "not 'human'"),
        (
            list[Message],
            '{"role": "user"}',
            ': expected a message, {"role": "user", "content": "..."}',
        ),
        (dict[str, list[int]], '{"b": 1}', "expected `array`, got `int`"),
    ],
)
def test_json_that_does_not_fit_is_told_of(kind: object, word: str, told: str) -> None:
    assert refused(inputs(a=kind), "--a", word).endswith(told)


@given(st.integers(0, 3), st.integers(0, 3))
def test_of_several_values_the_wrong_one_is_quoted(before: int, after: int) -> None:
    words = [*["--a=1"] * before, "--a=one", *["--a=2"] * after]
    assert refused(inputs(a=list[int]), *words) == "--a 'one': expected `int`, got `str`"


def test_the_usage_shows_how_a_turn_is_written() -> None:
    shown = """orchestra run p --chat '{"role": "user", "content": "..."}' ..."""
    assert usage("p", inputs(chat=list[Message])) == shown


def test_defaults_are_left_to_the_engine() -> None:
    assert read_inputs(inputs(a=(str, "x"), b=(bool, False)), []) == {}


def test_a_flag_takes_no_value() -> None:
    assert read_pairs(["--loud", "--no-fast", "--x", "1"], ["loud", "fast"]) == [
        ("loud", "true"),
        ("fast", "false"),
        ("x", "1"),
    ]


def test_a_document_is_given_by_its_path(tmp_path: Path) -> None:
    paths = [str(tmp_path / "a.md"), str(tmp_path / "b.pdf")]
    for path in paths:
        Path(path).write_bytes(path.encode())
    first, second = (Document(Path(path).name, path.encode()) for path in paths)
    kinds = inputs(document=Document, others=list[Document], none=(Document | None, None))
    words = ["--document", paths[0], "--others", paths[0], f"--others={paths[1]}"]
    assert read_inputs(kinds, words) == {"document": first, "others": [first, second]}
    assert read_inputs(inputs(others=list[Document]), ["--others", paths[0]]) == {"others": [first]}
    assert usage("p", kinds) == "orchestra run p --document FILE --others FILE ... [--none FILE]"


def test_a_file_that_cannot_be_read_is_told_with_all_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = str(tmp_path / "a.md")
    told = refused(inputs(document=Document, top=int), "--document", missing, "--top", "x")
    assert told.split("\n") == [
        f"--document {missing!r} cannot be read: No such file or directory",
        "--top 'x': expected `int`, got `str`",
    ]
    assert "Is a directory" in refused(inputs(document=Document), "--document", str(tmp_path))
    assert "null byte" in refused(inputs(document=Document), "--document", "\0")
    monkeypatch.setattr(files, "LIMIT_BYTES", 1)
    Path(missing).write_bytes(b"ab")
    assert "is larger than 1 bytes" in refused(inputs(document=Document), "--document", missing)


def test_usage_shows_how_a_pipeline_is_run() -> None:
    shown = usage(
        "p:q",
        inputs(
            question=str,
            top=(int, 5),
            how=(Literal["fast", "well"], "fast"),
            texts=list[str],
            loud=bool,
            dry_run=(bool, False),
            log=(bool, True),
        ),
    )
    assert shown == (
        "orchestra run p:q --question str [--top int] [--how fast|well] --texts str ... "
        "--loud|--no-loud [--dry-run] [--no-log]"
    )


def test_a_conversation_is_read_from_json() -> None:
    talk = inputs(messages=list[Message])
    given = '{"messages": [{"role": "developer", "content": "Be kind"}]}'
    assert read_inputs(talk, [], json=given) == {"messages": [Message("system", "Be kind")]}


def test_a_whole_request_has_no_form_here_and_it_is_said_who_takes_one() -> None:
    talk = inputs(request=ChatRequest, most=(int, 3), before=(ChatRequest | None, None))
    message = (
        r"input `request: ChatRequest` cannot be given .*`orchestra serve`.*/v1/chat/completions"
    )
    for words, json_ in ([], None), (["--request", "hi"], None), ([], '{"request": []}'):
        with pytest.raises(CommandError, match=message) as caught:
            read_inputs(talk, words, json=json_)
        assert caught.value.code == MISUSED
    with pytest.raises(CommandError, match="input `before: "):
        read_inputs({"before": talk["before"]}, [], json='{"before": []}')
    assert read_inputs({"before": talk["before"]}, []) == {}


def test_every_option_of_the_command_is_known_to_hide_an_input_of_its_name() -> None:
    own = set(inspect.signature(run).parameters) - {"target", "inputs"}
    assert own | {"help", "traceback"} == set(RUN_OPTIONS)


class Invoice(BaseModel):
    number: int


def test_pydantic_models_are_read_from_json() -> None:
    own, all_ = {"number": 1}, [{"number": 2}]
    kinds = inputs(invoice=Invoice, before=list[Invoice], none=(Invoice | None, None))
    given = json.dumps({"invoice": own, "before": all_})
    check_servable("bill", kinds)
    assert read_inputs(kinds, [], json=given) == {
        "invoice": Invoice(number=1),
        "before": [Invoice(number=2)],
    }
    with pytest.raises(CommandError, match=r"`invoice\.number`: input should be a valid int"):
        read_inputs(kinds, [], json=given.replace("1", '"one"'))


def test_usage_of_a_list_of_nobody_says_what() -> None:
    """Python still has `List`, which is a list without its items."""
    assert usage("p", inputs(texts=typing.List)) == "orchestra run p --texts list"  # noqa: UP006
