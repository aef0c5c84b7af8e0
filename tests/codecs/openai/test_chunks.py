"""Reasoning, refusals and calls, as OpenAI-shaped servers stream them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Certainty, Usage
from orchestra.answers import Completion
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.quirks import GENERIC, OPENAI, Quirks
from orchestra.errors import MalformedStreamError
from orchestra.values import (
    Began,
    Json,
    ReasoningDelta,
    RefusalDelta,
    Stopped,
    StopReason,
    TextDelta,
    ToolCallDelta,
)
from tests.codecs.openai_streams import USAGE, chunk, decode, said, stream


def test_reasoning_is_found_wherever_servers_put_it() -> None:
    parts = [
        {
            "type": "thinking",
            "thinking": [{"type": "text", "text": "Hm, "}, {"type": "text", "text": "so."}],
        },
        {"type": "text", "text": "Yes"},
        {"type": "reference", "reference_ids": [1]},
    ]
    expected = [ReasoningDelta("Hm, so."), TextDelta("Yes")]
    for delta in (
        {"reasoning_content": "Hm, so.", "content": "Yes"},
        {"reasoning": "Hm, so.", "content": "Yes"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Hm, so."}], "content": "Yes"},
        {"reasoning": "Hm, so.", "reasoning_details": [{"text": "Hm, so."}], "content": "Yes"},
        {"content": parts},
        {"content": [{"type": "thinking", "thinking": "Hm, so."}, parts[1]]},
    ):
        assert decode([stream(chunk(delta, "stop"))])[1:-1] == expected


def test_a_refusal_is_not_the_answer() -> None:
    events = decode([stream(chunk({"refusal": "I "}), chunk({"refusal": "won't"}, "stop"))])
    assert events[1:-1] == [RefusalDelta("I "), RefusalDelta("won't")]
    listed = said(chunk({"content": [{"type": "refusal", "refusal": "No"}]}, "stop"))
    assert (listed.refusal, listed.text) == ("No", "")


def piece(index: int | None, id_: str | None, name: str | None, arguments: object) -> Json:
    call: Json = {"function": {"name": name, "arguments": arguments}}
    return call | ({} if index is None else {"index": index}) | ({} if id_ is None else {"id": id_})


def calls(*pieces: Json, quirks: Quirks = OPENAI) -> list[tuple[str, str, str]]:
    answer = said(
        *(chunk({"tool_calls": [each]}) for each in pieces), chunk({}, "tool_calls"), quirks=quirks
    )
    return [(call.id, call.name, call.arguments) for call in answer.tool_calls]


def test_calls_are_gathered_by_index_and_numbered_from_0() -> None:
    raw = stream(
        chunk({"tool_calls": [piece(7, "x", "add", "")]}),
        chunk({"tool_calls": [piece(9, "y", "mul", '{"b"')]}),
        chunk({"tool_calls": [piece(7, None, None, "{}"), piece(9, "", "", ":2}")]}),
        chunk({}, "tool_calls"),
    )
    assert decode([raw])[1:-1] == [
        ToolCallDelta(0, "x", "add", ""),
        ToolCallDelta(1, "y", "mul", '{"b"'),
        ToolCallDelta(0, arguments="{}"),
        ToolCallDelta(1, arguments=":2}"),
    ]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        # Gemini's twin counts every call 0.
        (
            [piece(0, "x", "f", "{}"), piece(0, "y", "g", "{}")],
            [("x", "f", "{}"), ("y", "g", "{}")],
        ),
        # Without an index, the id tells; without an id, what has no name goes on.
        ([piece(None, "x", "f", "{"), piece(None, "x", None, "}")], [("x", "f", "{}")]),
        ([piece(None, "x", "f", "{"), piece(None, None, None, "}")], [("x", "f", "{}")]),
        (
            [piece(None, "x", "f", "{}"), piece(None, "y", "g", "")],
            [("x", "f", "{}"), ("y", "g", "{}")],
        ),
        # A name that is told again with each piece is one name.
        ([piece(0, "x", "f", "{"), piece(0, "x", "f", "}")], [("x", "f", "{}")]),
        # Another name is another call, also under the index or the id of the first.
        (
            [piece(0, "", "f", "{}"), piece(0, "", "g", "{}")],
            [(None, "f", "{}"), (None, "g", "{}")],
        ),
        (
            [piece(0, "x", "f", "{}"), piece(0, "x", "g", "{"), piece(0, "x", "g", "}")],
            [("x", "f", "{}"), (None, "g", "{}")],
        ),
        (
            [piece(None, "x", "f", "{}"), piece(None, "x", "g", "{"), piece(None, "x", "", "}")],
            [("x", "f", "{}"), (None, "g", "{}")],
        ),
        # A name that comes late is waited for.
        ([piece(0, "x", None, "{"), piece(0, None, "f", "}")], [("x", "f", "{}")]),
        # Arguments as an object.
        ([piece(0, "x", "f", {"a": 1})], [("x", "f", '{"a":1}')]),
        ([piece(0, "x", "f", None)], [("x", "f", "{}")]),
        # A call that never gets a name is not lost.
        ([piece(0, "x", None, "{}")], [("x", "", "{}")]),
    ],
)
def test_calls_are_told_apart_where_servers_count_wrong(
    pieces: list[Json], expected: list[tuple[str | None, str, str]]
) -> None:
    """An id of None is one that we have made."""
    found = calls(*pieces)
    assert len({id_ for id_, _, _ in found}) == len(found)
    assert [
        (id_ if told else None, *rest)
        for (id_, *rest), (told, _, _) in zip(found, expected, strict=True)
    ] == expected


def test_a_call_without_an_id_is_given_one_of_its_own() -> None:
    first, second = calls(piece(0, None, "f", "{}"), piece(1, "", "g", "{}"))
    assert first[0].startswith("call_")
    assert second[0].startswith("call_")
    assert first[0] != second[0]
    assert calls(piece(0, None, "f", "{}"))[0] == first, "the same answer, the same id"


def test_an_answer_with_calls_has_stopped_for_them() -> None:
    """Ollama's twin says `stop` of any answer."""
    call = {"tool_calls": [piece(0, "x", "f", "{}")]}
    assert said(chunk(call), chunk({}, "stop")).stopped == Stopped(StopReason.TOOL_CALLS, "stop")
    assert said(chunk(call), quirks=GENERIC).stopped == Stopped(StopReason.TOOL_CALLS, None)


def test_the_old_function_call_is_read_where_servers_may_still_send_it() -> None:
    pieces = [
        chunk({"function_call": {"name": "add", "arguments": ""}}),
        chunk({"function_call": {"arguments": '{"a":1}'}}),
        chunk({"function_call": {"name": "", "arguments": ""}}, "function_call"),
    ]
    (call,) = said(*pieces, quirks=GENERIC).tool_calls
    assert (call.name, call.arguments) == ("add", '{"a":1}')
    assert said(*pieces).tool_calls == ()
    assert (
        said(
            chunk({"function_call": {"name": "", "arguments": ""}}, "stop"), quirks=GENERIC
        ).tool_calls
        == ()
    )


def test_a_call_that_has_neither_an_index_nor_an_id_begins_with_its_name() -> None:
    pieces = (piece(None, None, "f", "{}"), piece(None, None, "g", "{"), piece(None, None, "", "}"))
    assert [call[1:] for call in calls(*pieces)] == [("f", "{}"), ("g", "{}")]


@pytest.mark.parametrize(
    "pieces",
    [
        [piece(None, None, None, '{"a":'), piece(None, None, None, '{"b":')],
        [piece(1, None, None, '{"b":'), piece(0, None, None, '{"a":')],
        [piece(None, "y", None, '{"b":'), piece(None, "x", None, '{"a":')],
    ],
    ids=["by their order", "by an index", "by their ids"],
)
def test_pieces_of_calls_that_began_uncounted_find_them(pieces: list[Json]) -> None:
    rest = [piece(None, None, None, "1}"), piece(None, None, None, "2}")]
    answer = said(
        chunk({"tool_calls": [piece(None, "x", "f", ""), piece(None, "y", "g", "")]}),
        chunk({"tool_calls": pieces}),
        chunk({"tool_calls": rest}, "tool_calls"),
    )
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [
        ("f", '{"a":1}'),
        ("g", '{"b":2}'),
    ]


def test_an_uncounted_call_does_not_take_the_index_of_another() -> None:
    found = calls(
        piece(1, "x", "f", ""), piece(None, "y", "g", "{}"), piece(1, None, None, '{"a":1}')
    )
    assert found == [("x", "f", '{"a":1}'), ("y", "g", "{}")]


def test_a_piece_more_than_there_are_calls_is_of_the_last() -> None:
    answer = said(
        chunk({"tool_calls": [piece(None, "x", "f", "")]}),
        chunk({"tool_calls": [piece(None, None, None, "{"), piece(None, None, None, "}")]}, "stop"),
    )
    assert [call.arguments for call in answer.tool_calls] == ["{}"]


def test_a_custom_tool_is_called_with_text() -> None:
    def custom(**told: object) -> Json:
        return {"index": 0, "type": "custom", "custom": told}

    answer = said(
        chunk({"tool_calls": [custom(name="solve", input="") | {"id": "x"}]}),
        chunk({"tool_calls": [custom(input="4 +")]}),
        chunk({"tool_calls": [custom(input=" 4")]}, "tool_calls"),
    )
    assert [(call.id, call.name, call.arguments) for call in answer.tool_calls] == [
        ("x", "solve", "4 + 4")
    ]


def elsewhere(key: str, said: object, finish: str | None = None, **more: object) -> Json:
    choice = {"index": 0, key: said, "finish_reason": finish, **more}
    return {"id": "a", "model": "m", "choices": [choice]}


@pytest.mark.parametrize("more", [{}, {"delta": {}}, {"delta": {"role": "assistant"}}])
@given(st.lists(st.text(max_size=9), max_size=4))
def test_what_is_said_in_place_of_a_delta_is_said(more: Json, texts: list[str]) -> None:
    shapes: tuple[Callable[[str], tuple[str, object]], ...] = (
        lambda text: ("message", {"role": "assistant", "content": text}),
        lambda text: ("text", text),
    )
    for shape in shapes:
        pieces = [elsewhere(*shape(text), **more) for text in texts]
        answer = said(*pieces, elsewhere(*shape("."), "stop", **more))
        assert (answer.text, answer.stopped.reason) == ("".join(texts) + ".", StopReason.END)


@pytest.mark.parametrize("key", ["message", "delta", "text"])
def test_a_whole_answer_is_read_wherever_it_stands(key: str) -> None:
    body = json.dumps(elsewhere(key, "Hi" if key == "text" else {"content": "Hi"}, "stop"))
    assert Completion.of(OpenAiDialect().decode(body.encode())).text == "Hi"


def test_what_a_message_repeats_of_the_deltas_is_told_once() -> None:
    call = {"tool_calls": [piece(0, "x", "f", "{}")]}
    deltas = [chunk({"content": "H"}), chunk({"content": [{"text": "i"}]}), chunk(call)]
    for last in ({"content": "Hi", **call}, {"content": [{"text": "Hi"}]}, {}, {"content": ""}):
        answer = said(*deltas, elsewhere("message", last, "stop"))
        assert (answer.text, len(answer.tool_calls)) == ("Hi", 1)


@given(st.lists(st.text(max_size=4), min_size=1), st.text(max_size=4))
def test_where_a_message_goes_on_behind_the_deltas_the_rest_is_said(
    texts: list[str], rest: str
) -> None:
    """Whatever the message says, it is no error, and what was said stays."""
    deltas = [chunk({"content": each}) for each in texts]
    told = "".join(texts)
    last = elsewhere("message", {"content": told + rest}, "stop", delta={"content": ""})
    assert said(*deltas, last).text == told + rest
    other = elsewhere("message", {"content": rest}, "stop")
    goes_on = rest.startswith(told) or not told
    assert said(*deltas, other).text == (rest if goes_on else told)


def test_what_a_message_calls_behind_the_deltas_is_called() -> None:
    first, second = piece(0, "x", "f", "{}"), piece(1, "y", "g", "{}")
    begun = [chunk({"content": "Hi"}), chunk({"tool_calls": [first]})]
    more = {"content": "Hi", "tool_calls": [first, second]}
    answer = said(*begun, elsewhere("message", more, "tool_calls"))
    assert [call.name for call in answer.tool_calls] == ["f", "g"]
    other = {"tool_calls": [second, first]}
    answer = said(*begun, elsewhere("message", other, "tool_calls"))
    assert [call.name for call in answer.tool_calls] == ["f"]


def test_a_message_that_repeats_some_of_the_calls_calls_none_again() -> None:
    first, second = piece(0, "x", "f", "{}"), piece(1, "y", "g", "{}")
    begun = [chunk({"tool_calls": [each]}) for each in (first, second)]
    answer = said(*begun, elsewhere("message", {"tool_calls": [first]}, "tool_calls"))
    assert [call.name for call in answer.tool_calls] == ["f", "g"]


@given(st.lists(st.text("ab", min_size=1, max_size=2), min_size=1), st.data())
def test_messages_that_come_again_and_again_say_what_is_new(
    texts: list[str], data: st.DataObject
) -> None:
    """Between deltas or behind them: each says all of it, or what was said stays."""
    wire, told = [chunk({"content": texts[0]})], texts[0]
    for each in texts[1:]:
        repeats = data.draw(st.booleans())
        wire.append(elsewhere("message", {"content": told + each if repeats else "c"}))
        told += each if repeats else ""
        if data.draw(st.booleans()):
            wire.append(chunk({"content": each}))
            told += each
    assert said(*wire, chunk({}, "stop")).text == told


def test_messages_that_grow_beside_the_deltas_are_told_once() -> None:
    """Perplexity's, the first of which may come before its delta."""

    def both(delta: str, message: str, finish: str | None = None) -> Json:
        return elsewhere("message", {"content": message}, finish, delta={"content": delta})

    pieces = [both("", "He"), both("llo", "Hello"), both("", "Hello", "stop")]
    assert said(*pieces).text == "Hello"


@pytest.mark.parametrize(
    ("odd", "expected"),
    [
        ({"reasoning": {"text": "so"}}, "so"),
        ({"reasoning": 5}, ""),
        ({"reasoning_content": ["s", {"text": "o"}, 5]}, "so"),
        ({"reasoning_details": {"text": "so"}}, "so"),
        ({"reasoning_details": ["so", {"text": {"a": 1}}, 5]}, "so"),
    ],
)
def test_thoughts_in_a_shape_that_nobody_knows_end_no_answer(odd: Json, expected: str) -> None:
    for told in (said(chunk({"content": "Hi"} | odd, "stop")), whole({"content": "Hi"} | odd)):
        assert (told.text, told.reasoning) == ("Hi", expected)


@pytest.mark.parametrize(
    "content", [["H", "i"], [{"text": "H"}, "i"], {"type": "text", "text": "Hi"}]
)
def test_content_in_another_shape_is_said(content: object) -> None:
    assert said(chunk({"content": content}, "stop")).text == "Hi"
    assert whole({"content": content}).text == "Hi"


@pytest.mark.parametrize("content", [{"title": "Café", "n": [1]}, {"text": "Hi", "score": 3}])
def test_content_that_is_the_requested_json_is_its_text(content: Json) -> None:
    """Cloudflare sends it decoded, where a JSON schema was asked for."""
    for answer in (said(chunk({"content": content}, "stop")), whole({"content": content})):
        assert answer.text == json.dumps(content, ensure_ascii=False)


@pytest.mark.parametrize("content", [5, True, [5], [["Hi"]], {}])
def test_content_in_which_text_would_be_lost_is_malformed(content: object) -> None:
    with pytest.raises(MalformedStreamError):
        said(chunk({"content": content}, "stop"))


@pytest.mark.parametrize("nothing", ["", {}, []])
def test_no_calls_may_be_written_in_any_way(nothing: object) -> None:
    message = {"content": "Hi", "tool_calls": nothing}
    for answer in (said(chunk(message, "stop")), whole(message)):
        assert (answer.text, answer.tool_calls) == ("Hi", ())


@pytest.mark.parametrize("calls_", ["f", {"f": 1}, 5])
def test_calls_that_would_be_lost_are_malformed(calls_: object) -> None:
    with pytest.raises(MalformedStreamError):
        said(chunk({"tool_calls": calls_}, "stop"))


def test_what_groq_says_beside_may_be_anything() -> None:
    assert said(chunk({"content": "Hi"}, "stop", x_groq="r")).text == "Hi"


@pytest.mark.parametrize(
    ("arguments", "expected"), [([1], "[1]"), (5, "5"), ([10**30, "\ud83d"], None), (True, "true")]
)
def test_arguments_that_are_no_object_are_what_they_are(
    arguments: object, expected: str | None
) -> None:
    ((_, name, found),) = calls(piece(0, "x", "f", arguments))
    assert (name, found) == ("f", expected or json.dumps(arguments))


def whole(message: Json, finish: str = "stop") -> Completion:
    body = json.dumps(elsewhere("message", message, finish)).encode()
    return Completion.of(OpenAiDialect().decode(body))


@pytest.mark.parametrize("ids", [("x", "x"), ("", ""), (None, None), ("x", "y"), ("", "x")])
@pytest.mark.parametrize("indices", [(0, 0), (None, None), (1, 0), (5, 5)])
@pytest.mark.parametrize("names", [("f", "g"), ("f", "f"), ("f", ""), ("", "")])
def test_each_call_of_a_whole_answer_is_one_of_its_own(
    ids: tuple[str | None, ...], indices: tuple[int | None, ...], names: tuple[str, ...]
) -> None:
    pieces = [
        piece(index, id_, name, arguments)
        for index, id_, name, arguments in zip(
            indices, ids, names, ('{"a":1}', '{"b":2}'), strict=True
        )
    ]
    found = whole({"tool_calls": pieces}, "tool_calls").tool_calls
    assert [(call.name, call.arguments) for call in found] == [
        (names[0], '{"a":1}'),
        (names[1], '{"b":2}'),
    ]
    assert len({call.id for call in found}) == 2
    assert found[0].id == (ids[0] or found[0].id)


HALVED = st.text(st.sampled_from("a\u00e9\U0001f600\U0001f680"), max_size=6)


@given(HALVED, HALVED, st.sampled_from(["content", "reasoning_content", "refusal"]), st.data())
def test_a_character_that_a_server_cuts_in_two_is_whole(
    text: str, arguments: str, key: str, data: st.DataObject
) -> None:
    """JavaScript counts in halves of such characters, and cuts between them."""

    def cut(whole: str) -> list[str]:
        halves = whole.encode("utf-16-le")
        at = 2 * data.draw(st.integers(0, len(halves) // 2))
        return [part.decode("utf-16-le", "surrogatepass") for part in (halves[:at], halves[at:])]

    texts, pieces = cut(text), cut(arguments)
    begun: Json = {key: texts[0], "tool_calls": [piece(0, "x", "f", pieces[0])]}
    rest: Json = {key: texts[1], "tool_calls": [piece(0, None, None, pieces[1])]}
    answer = said(chunk(begun), chunk({key: ""}), chunk(rest), chunk({}, "stop"))
    found = {"content": answer.text, "reasoning_content": answer.reasoning}.get(key, answer.refusal)
    assert found == text
    assert answer.tool_calls[0].arguments == (arguments or "{}")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["\ud83d", "x\udc00"], "x\ufffd"),
        (["\ud83d", "x", "\ude00"], "x\U0001f600"),
        (["a\udc00b\ud83dc"], "a\ufffdb\ufffdc"),
    ],
)
def test_half_a_character_without_the_other_ends_no_answer(texts: list[str], expected: str) -> None:
    assert said(*(chunk({"content": each}) for each in texts), chunk({}, "stop")).text == expected


def test_numbers_are_ids_and_digits_are_indexes() -> None:
    call = piece(0, None, "f", {"index": "0", "id": 5})
    events = decode(
        [
            stream(
                chunk({"tool_calls": [call | {"index": "0", "id": 7}]}, id=5),
                chunk({"tool_calls": [piece(1, "y", "g", "")]}),
                chunk({"tool_calls": [piece(None, None, None, "") | {"index": 1.0}]}, "stop"),
            )
        ]
    )
    assert events[:3] == [
        Began("5", "m"),
        ToolCallDelta(0, "7", "f", '{"index":"0","id":5}'),
        ToolCallDelta(1, "y", "g", ""),
    ]
    counted = elsewhere("delta", {"content": "Hi"}, "stop")
    other = {"index": "1", "delta": {"content": "no"}}
    counted["choices"] = [{**counted["choices"][0], "index": "0"}, other]
    assert said(counted).text == "Hi"


@pytest.mark.parametrize(
    "odd", [{"id": True}, {"id": {}}, {"choices": [{"index": "x"}]}, {"choices": [{"index": 0.5}]}]
)
def test_what_cannot_be_meant_is_malformed(odd: Json) -> None:
    with pytest.raises(MalformedStreamError, match="a chunk of the stream is invalid"):
        said(chunk({"content": "Hi"}, "stop") | odd)


def test_counts_may_be_written_with_a_point() -> None:
    points = {name: float(count) for name, count in USAGE.items()}
    plain, pointed = (
        said(chunk({"content": "Hi"}, "stop", usage=each)) for each in (USAGE, points)
    )
    assert plain.usage == pointed.usage
    assert plain.usage is not None
    half = said(chunk({"content": "Hi"}, "stop", usage={**USAGE, "prompt_tokens": 5.5}))
    assert half.usage == Usage(0, 2, Certainty.PARTIAL)
