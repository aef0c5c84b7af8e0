"""Binding: which argument of a call goes to which parameter of its step, and what is wrong.

Unlike Python's own binding it does not stop at the first fault. Arguments without a
parameter are kept, so that `check` does not call them unused.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from orchestra.annotations.facts import spell
from orchestra.eventclass import frozen
from orchestra.graph.calls.mistakes import parameter_meant, right_place_for
from orchestra.graph.source.functions import BY_NAME, BY_POSITION
from orchestra.problem import Problem

if TYPE_CHECKING:
    from orchestra.graph.steps import Step

SIGNATURE_CHARS_MAX = 200
"""Longer signatures are hard to read: messages list only the parameters' names instead."""


@frozen
class Bound:
    """A call's arguments by parameter, the arguments that no parameter takes, and the faults."""

    arguments: dict[str, object]
    stray: tuple[object, ...]
    faults: tuple[Problem, ...]


def bind(
    step: Step[..., object], args: Sequence[object], kwargs: Mapping[str, object], where: str
) -> Bound:
    """Bind the arguments of the call `step(*args, **kwargs)`. Never raises."""
    return _Binding(step, where).bind(args, kwargs)


def signature_text(step: Step[..., object]) -> str:
    """A step's signature as text: `up(chunks: Stream[str], *, most: int = 3) -> Stream[str]`."""
    parameters = [
        parameter.replace(annotation=_Text(spell(step.hints[name])))
        if name in step.hints
        else parameter
        for name, parameter in step.signature.parameters.items()
        if name != step.injected
    ]
    written = inspect.Signature(parameters, return_annotation=_Text(spell(step.returns)))
    return f"{step.name}{written}"


class _Text:
    """A text that `inspect.Signature` prints without quotes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class _Binding:
    """The state of one `bind`."""

    def __init__(self, step: Step[..., object], where: str) -> None:
        self.step = step
        self.where = where
        self.arguments: dict[str, object] = {}
        self.stray: list[object] = []
        self.faults: list[Problem] = []
        self.unknown: list[str] = []
        self.parameters = {
            name: parameter
            for name, parameter in step.signature.parameters.items()
            if name != step.injected
        }

    def bind(self, args: Sequence[object], kwargs: Mapping[str, object]) -> Bound:
        self._bind_by_position(args)
        for name, value in kwargs.items():
            self._bind_by_name(name, value)
        missing = [name for name in self.step.required if name not in self.arguments]
        for name in self.unknown:
            alone = len(self.unknown) == len(missing) == 1
            known = parameter_meant(name, missing or self.parameters)
            near = missing if alone else [known] * bool(known)
            missing = [each for each in missing if each not in near]  # one fault, reported once
            self._unknown(name, near)
        for name in missing:
            self._missing(name)
        return Bound(self.arguments, tuple(self.stray), tuple(self.faults))

    def _bind_by_position(self, args: Sequence[object]) -> None:
        names = [name for name, each in self.parameters.items() if each.kind in BY_POSITION]
        self.arguments |= dict(zip(names, args, strict=False))
        rest = tuple(args[len(names) :])
        variadic = self._variadic(inspect.Parameter.VAR_POSITIONAL)
        if rest and variadic:
            self.arguments[variadic] = rest
        elif rest:
            self.stray += rest
            takes = f"{len(names)} argument{'s' if len(names) != 1 else ''} by position"
            self._fault("bad-call", f"takes {takes}, and is given {len(args)}", self._signature)

    def _bind_by_name(self, name: str, value: object) -> None:
        parameter = self.parameters.get(name)
        variadic = self._variadic(inspect.Parameter.VAR_KEYWORD)
        if parameter is not None and parameter.kind in BY_NAME:
            if name not in self.arguments:
                self.arguments[name] = value
                return
            twice = f"is given {name!r} twice, by position and by name"
            self._fault("bad-call", twice, self._signature)
        elif variadic and name != self.step.injected:
            self.arguments.setdefault(variadic, {})
            self.arguments[variadic][name] = value  # type: ignore[index]
            return
        else:
            self.unknown.append(name)
        self.stray.append(value)

    def _variadic(self, kind: object) -> str:
        return next((name for name, each in self.parameters.items() if each.kind is kind), "")

    def _unknown(self, name: str, near: Sequence[str]) -> None:
        if name == self.step.injected:
            fix = f"leave {name!r} out: the engine fills it in"
        elif name in self.parameters:
            fix = f"pass {name!r} by position; {self._signature}"
        else:
            fix = "".join(f"did you mean {each!r}? " for each in near)
            right = right_place_for(name, self.parameters, self.step.name)
            right = "" if near and not self.step.takes_policy else right
            fix = f"{right}; {self._signature}" if right else fix + self._signature
        self._fault("unknown-argument", f"has no parameter {name!r}", fix)

    def _missing(self, name: str) -> None:
        fix = f"pass it; {self._signature}"
        self._fault("missing-argument", f"is called without {name!r}", fix)

    def _fault(self, code: str, what: str, fix: str) -> None:
        self.faults.append(Problem(code, self.where, f"{self.step.name}(...) {what}", fix))

    @property
    def _signature(self) -> str:
        text = signature_text(self.step)
        if len(text) > SIGNATURE_CHARS_MAX:
            return f"it takes: {', '.join(self.parameters)}; the step is at {self.step.where}"
        return f"the step is `{text}`, at {self.step.where}"
