"""Checks the inputs of a run against its pipeline, before any step runs."""

from __future__ import annotations

from collections.abc import Mapping

from orchestra.annotations.acceptance import misfit
from orchestra.annotations.facts import MISSING, accepts, chunk_of, spell
from orchestra.compiler.blocks.mutable_values import copied_if_mutable
from orchestra.compiler.plan import Plan
from orchestra.engine.calls.iterators import is_iterator, readable_again
from orchestra.errors import InputError
from orchestra.graph.nodes import Input
from orchestra.graph.pipelines import Pipeline
from orchestra.graph.rules.policy import Limits
from orchestra.graph.wrapping import refuse_others


class FitInputs(dict[str, object]):
    """Inputs by name that need no check: they were decoded by their annotations, as from JSON."""


def by_name(
    pipeline: Pipeline[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]
) -> Mapping[str, object]:
    """The inputs of a run by name, as a call of the pipeline's function would bind them.

    Raises:
        InputError: there are too many, or one is given twice.
        DefinitionError: `pipeline` is a step, a function or another object, not a pipeline.
    """
    refuse_others(pipeline)
    if len(args) > len(pipeline.inputs):
        raise InputError(
            f"pipeline {pipeline.name!r} was given too many inputs by position, {len(args)}; "
            f"its inputs are: {', '.join(pipeline.inputs) or 'none'}"
        )
    if len(args) == 1 and not kwargs:
        _refuse_all_in_one(pipeline, args[0])
    named = dict(zip(pipeline.inputs, args, strict=False))
    for name in named.keys() & kwargs.keys():
        raise InputError(
            f"pipeline {pipeline.name!r} was given {name!r} twice, by position and by name",
            field=name,
        )
    return {**named, **kwargs}


def complete(plan: Plan, inputs: Mapping[str, object], limits: Limits) -> Mapping[str, object]:
    """All inputs of a run, with their defaults, each of the right type.

    An iterator that is read more than once becomes a list.

    Raises:
        InputError: one is missing, unknown, or of the wrong type.
    """
    pipeline = plan.pipeline
    if not isinstance(inputs, Mapping):
        raise InputError(
            f"the inputs of pipeline {pipeline.name!r} must be a dict by name, and are "
            f"{inputs!r:.200}; write {_dict_of(pipeline)}"
        )
    for name in inputs:
        if name not in pipeline.inputs:
            known = ", ".join(pipeline.inputs) or "none"
            raise InputError(
                f"pipeline {pipeline.name!r} has no input {name!r}; its inputs are: {known}",
                field=name,
            )
    fit, complete = isinstance(inputs, FitInputs), {}
    for name, node in pipeline.inputs.items():
        value = inputs[name] if name in inputs else copied_if_mutable(node.default)
        if value is MISSING:
            raise InputError(
                f"pipeline {pipeline.name!r} was not given {name!r}, {spell(node.annotation)}",
                field=name,
            )
        if not (fit and name in inputs):
            _refuse_unfit(pipeline, node, value)
        if is_iterator(value):
            value = readable_again(plan, node, value, limits)
            _refuse_unfit(pipeline, node, value)
        complete[name] = value
    return complete


def _refuse_all_in_one(pipeline: Pipeline[..., object], value: object) -> None:
    """Refuse a dict of all inputs given as one input, which is the form of `engine.start`."""
    if not isinstance(value, Mapping) or not value or not value.keys() <= pipeline.inputs.keys():
        return
    if not accepts(next(iter(pipeline.inputs.values())).annotation, value):
        names = ", ".join(f"{name}=..." for name in value)
        raise InputError(
            f"pipeline {pipeline.name!r} was given all its inputs as one dict, {value!r:.200}; "
            f"pass each by name, `{names}`, or write `**` before the dict"
        )


def _dict_of(pipeline: Pipeline[..., object]) -> str:
    return "{" + ", ".join(f'"{name}": ...' for name in pipeline.inputs) + "}"


def _refuse_unfit(pipeline: Pipeline[..., object], node: Input, value: object) -> None:
    if not accepts(node.annotation, value):
        where, wanted, held = misfit(node.annotation, value)
        which = f": {node.name}{where} is {held!r:.200}, and has to be {spell(wanted)}"
        raise InputError(
            f"input {node.name!r} of pipeline {pipeline.name!r} takes {spell(node.annotation)}, "
            f"and was given {value!r:.200}{which if where else _instead(node)}",
            field=node.name,
        )


def _instead(node: Input) -> str:
    """What to write instead of a stream, which cannot be the input of a run."""
    if chunk_of(node.annotation) is None:
        return ""
    return "; a run takes only values: call this pipeline in one whose step gives the stream"
