"""A run's inputs from the command line: `--question "..." --top 5`. Pure, but for files.

Values are read as in a query of the server: the input's type decides the meaning of `5`, `true` and
`null`, and an option given several times is a list. A value that does not fit may be JSON: an
object or a list. For a document, the value is a path.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from shlex import quote
from types import MappingProxyType
from typing import Literal, get_args, get_origin

import msgspec

from orchestra.accounts import Caller
from orchestra.annotations.documents import takes_documents
from orchestra.annotations.facts import MISSING, spell
from orchestra.annotations.shapes import plain
from orchestra.annotations.turns import TURN
from orchestra.cli.failures import MISUSED, CommandError
from orchestra.cli.running import files
from orchestra.codecs.raw_json import invalid_json
from orchestra.engine.inputs import FitInputs
from orchestra.graph.nodes import Input
from orchestra.nearest import did_you_mean
from orchestra.server.inputs.reading import INSTEAD, from_json, from_pairs, is_readable
from orchestra.server.responses.problems import Fault
from orchestra.tags import tags_of
from orchestra.values import ChatRequest, Message

RUN_OPTIONS = (
    *("input_json", "events", "json", "quiet", "trace"),
    *("organisation", "user", "tag"),
    *("data", "config", "help", "traceback"),
)
"""Options of `orchestra run`, which hide inputs of the same name."""
Pairs = list[tuple[str, str]]
NONE_KNOWN: Mapping[str, Input] = MappingProxyType({})


def read_inputs(
    inputs: Mapping[str, Input], words: Sequence[str], *, json: str | None = None
) -> dict[str, object]:
    """The checked inputs of a run, from options and a JSON object.

    Raises:
        CommandError: inputs are unknown, missing, given twice, of the wrong type, or files that
            cannot be read; the message lists all errors.
    """
    flags = {name for name, each in inputs.items() if plain(each.annotation) is bool}
    try:
        pairs = read_pairs(words, flags, inputs)
    except CommandError as error:
        wrong = [name for name in _options(words, flags) if name not in inputs]
        unknown = [_unknown(name, inputs, RUN_OPTIONS) for name in wrong]
        raise CommandError("\n".join(unknown) or str(error), code=MISUSED) from error
    given = {} if json is None else _object(json)
    named = {name for name, _ in pairs}
    wrong = [_unknown(name, inputs, RUN_OPTIONS) for name in named if name not in inputs]
    wrong += [_unknown(name, inputs) for name in given if name not in inputs]
    wrong += [f"--{dashed(name)} is also in --input-json" for name in named & given.keys()]
    for name, each in inputs.items():
        if name not in named and name not in given and each.default is MISSING:
            wrong.append(_missing(name))
    refuse_unreadable(inputs, {*named, *given})
    values, unread = _values(inputs, pairs)
    wrong += unread
    by_option, faults = _fitted(_only(inputs, {name for name, _ in values}), values)
    by_json, more = from_json(_only(inputs, given), {k: v for k, v in given.items() if k in inputs})
    wrong += [_misfit(fault, pairs) for fault in faults]
    wrong += [f"--input-json: {fault.detail}" for fault in more]
    if wrong:
        raise CommandError("\n".join(wrong), code=MISUSED)
    return by_option | by_json


def tags_given(entries: Iterable[str] | None) -> dict[str, str]:
    """The tags of `--tag name=value`.

    Raises:
        CommandError: one of them is not a tag, or they exceed a bound.
    """
    try:
        return tags_of(entries or ())
    except ValueError as error:
        raise CommandError(f"--tag: {error}", code=MISUSED) from error


def read_pairs(
    words: Iterable[str], flags: Iterable[str] = (), inputs: Mapping[str, Input] = NONE_KNOWN
) -> Pairs:
    """Names and values in order: `--name value`, `--name=value`; of flags `--name`, `--no-name`.

    `inputs` are used only for the error texts.

    Raises:
        CommandError: a word is not an option, or an option has no value.
    """
    flags = set(flags)
    pairs: Pairs = []
    rest = iter(words)
    for word in rest:
        if not word.startswith("--") or word == "--":
            raise CommandError(_stray(word, rest, pairs, flags, inputs), code=MISUSED)
        option, equals, value = word[2:].partition("=")
        name = option.replace("-", "_")
        if equals:
            pairs.append((name, value))
        elif name in flags:
            pairs.append((name, "true"))
        elif name.removeprefix("no_") in flags:
            pairs.append((name.removeprefix("no_"), "false"))
        else:
            pairs.append((name, _value(option, next(rest, None))))
    return pairs


def _stray(
    word: str, rest: Iterable[str], pairs: Pairs, flags: Container[str], inputs: Mapping[str, Input]
) -> str:
    """The error text for a word that is neither an option nor a value, with a suggestion."""
    last, value = pairs[-1] if pairs else ("", "")
    if word.startswith("-") or not pairs:
        free = next((dashed(name) for name in inputs if name not in RUN_OPTIONS), "name")
        meant = f"give inputs by name: --{free} {quote(word)}"
    elif last in flags:
        meant = f"--{dashed(last)} takes no value; its opposite is --no-{dashed(last)}"
    elif last in inputs and get_origin(inputs[last].annotation) is list:
        meant = f"write the option before each value of a list: --{dashed(last)} {quote(value)} "
        meant += f"--{dashed(last)} {quote(word)}"
    else:
        whole = " ".join([value, word, *takewhile(lambda each: not each.startswith("--"), rest)])
        meant = f"put a value with spaces into quotes: --{dashed(last)} {quote(whole[:200])}"
    return f"{word!r:.200} is not an option; {meant}"


def _values(
    inputs: Mapping[str, Input], pairs: Pairs
) -> tuple[list[tuple[str, object]], list[str]]:
    """The values of known options, with files read, and the errors of reading them."""
    values: list[tuple[str, object]] = []
    unread: list[str] = []
    for name, word in pairs:
        if name not in inputs:
            continue
        try:
            is_file = takes_documents(inputs[name].annotation)
            values.append((name, files.read_document(word) if is_file else word))
        except CommandError as error:
            unread.append(f"--{dashed(name)} {error}")
    return values, unread


def _fitted(
    inputs: Mapping[str, Input], values: Sequence[tuple[str, object]]
) -> tuple[FitInputs, list[Fault]]:
    """The inputs, and what is wrong with them; a text that does not fit its input may be JSON."""
    read, faults = from_pairs(inputs, values, "--")
    unfit = {fault.field for fault in faults}
    as_json = [(name, _of_json(value) if name in unfit else value) for name, value in values]
    return from_pairs(inputs, as_json, "--") if faults else (read, faults)


def _of_json(value: object) -> object:
    """The object or list, if the value is text with JSON of one; else the value itself."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return value


def caller_of(organisation: str, user: str) -> Caller:
    """The caller that a command runs for; without names if neither is given.

    Raises:
        CommandError: no key can have this name.
    """
    from orchestra.access.wanted import wrong_name

    given = {"organisation": organisation, "user": user}
    for option, name in given.items():
        for why in wrong_name(option, name) if name else ():
            fix = f"write only the {option}, as `orchestra keys list` shows it"
            raise CommandError(f"--{why}; {fix}", code=MISUSED)
    return Caller(organisation, user)


def usage(target: str, inputs: Mapping[str, Input]) -> str:
    """The usage of a pipeline: its inputs as options, those with a default in brackets.

    Inputs with the name of an option of the command are shown in --input-json.
    """
    words = [_spelled(each) for name, each in inputs.items() if name not in RUN_OPTIONS]
    if taken := [name for name in inputs if name in RUN_OPTIONS]:
        members = ", ".join(f'"{name}": ...' for name in taken)
        words.append(f"--input-json '{{{members}}}'")
    return " ".join([f"orchestra run {target}", *words])


def dashed(name: str) -> str:
    """A parameter's name as it is written in an option."""
    return name.replace("_", "-")


def _options(words: Iterable[str], flags: Container[str]) -> Iterator[str]:
    """The names of the given options."""
    for word in words:
        if word.startswith("--") and word != "--":
            name = word[2:].partition("=")[0].replace("-", "_")
            yield name if name.removeprefix("no_") not in flags else name.removeprefix("no_")


def refuse_unreadable(inputs: Mapping[str, Input], given: Container[str]) -> None:
    """Check that all inputs that are given or required can be read from JSON.

    Raises:
        CommandError: one cannot.
    """
    for name, each in inputs.items():
        if (each.default is MISSING or name in given) and not is_readable(each):
            whole = ChatRequest in (each.annotation, *get_args(each.annotation))
            instead = _AS_A_MODEL if whole else INSTEAD
            raise CommandError(
                f"input `{name}: {spell(each.annotation)}` cannot be given on a command line or in "
                f"JSON; {instead}; or call orchestra.run(...) in Python",
                code=MISUSED,
            )


_AS_A_MODEL = (
    "a pipeline that takes a `ChatRequest` is called as a model: run `orchestra serve`, and name "
    "it as the model of POST /v1/chat/completions"
)


def _missing(name: str) -> str:
    if name in RUN_OPTIONS:
        return f"input {name!r} is missing; --{dashed(name)} is an option, so write --input-json"
    return f"--{dashed(name)} is missing"


def _value(option: str, word: str | None) -> str:
    if word is None or word.startswith("--"):
        instead = f"; if its value is {word!r}, write --{option}={word}" if word else ""
        raise CommandError(f"--{option} needs a value{instead}", code=MISUSED)
    return word


def _spelled(each: Input) -> str:
    name = dashed(each.name)
    if plain(each.annotation) is bool:  # with a default, only what changes it
        words = [f"--{name}"] * (each.default is not True)
        words += [f"--no-{name}"] * (each.default is not False)
        option = "|".join(words)
    else:
        option = f"--{name} {_kind(each.annotation)}"
    return option if each.default is MISSING else f"[{option}]"


def _kind(annotation: object) -> str:
    """A placeholder for a value of this type."""
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    if get_origin(annotation) is list and (held := get_args(annotation)):  # `List` has none
        return f"{_kind(held[0])} ..."
    if takes_documents(annotation):
        return "FILE"
    if annotation is Message:
        return quote(TURN)
    return spell(annotation)


def _object(text: str) -> dict[str, object]:
    try:
        found = msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        sent = text.encode("utf-8", "replace")
        message = invalid_json(sent, error, "--input-json")
        raise CommandError(message, code=MISUSED) from error
    if not isinstance(found, dict):
        raise CommandError(
            f'--input-json must be an object, {{"input": value, ...}}, not {text[:100]}',
            code=MISUSED,
        )
    return found


def _unknown(name: str, inputs: Mapping[str, Input], options: Iterable[str] = ()) -> str:
    what = "input or option" if options else "input"
    listed = ", ".join(f"--{dashed(each)}" for each in inputs) or "none"
    meant = did_you_mean(name, [*inputs, *options], written=lambda near: f"--{dashed(near)}")
    return f"there is no {what} --{dashed(name)}; {meant or f'the inputs are: {listed}'}"


def _misfit(fault: Fault, pairs: Pairs) -> str:
    complaint = fault.detail.partition(": ")[2]
    given = [word for name, word in pairs if name == fault.field]
    if "got `array`" in complaint and len(given) > 1:
        return f"--{dashed(fault.field)} is given {len(given)} times, but takes one value"
    place = re.match(r"input `\w+\[(\d+)", fault.detail)
    wrong = given[int(place[1])] if place and len(given) > 1 else given[-1]
    as_json = re.search("expected `(object|array)`, got `str`", complaint)
    instead = "; write it as JSON" if as_json else ""
    return f"--{dashed(fault.field)} {wrong!r:.200}: {complaint}{instead}"


def _only(inputs: Mapping[str, Input], names: Container[str]) -> dict[str, Input]:
    return {name: each for name, each in inputs.items() if name in names}
