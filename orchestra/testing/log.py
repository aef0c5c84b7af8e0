"""The events of a simulated run by step, and the blocks that ran: the input of the laws."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from math import inf
from typing import TypeAlias, TypeVar

import attrs

from orchestra.compiler.blocks.slots import Block, Operation
from orchestra.events import (
    ArmCommitted,
    ArmFailed,
    Event,
    ItemFailed,
    StepCancelled,
    StepFailed,
    StepFinished,
    StepRetried,
    StepSkipped,
    StepStarted,
)
from orchestra.graph.nodes import Call, Node
from orchestra.testing.simulate import Simulation

T = TypeVar("T", ArmCommitted, ArmFailed, ItemFailed)
Life: TypeAlias = (
    StepStarted | StepSkipped | StepRetried | StepFinished | StepFailed | StepCancelled
)
_ITEM = re.compile(r"\[(\d+)\]/")  # matches twice in `each#2[0]/inner[3]/step`


@attrs.frozen(eq=False)
class Activation:
    """A block that ran: the run's own, the body of an `each` for one item, or a step's child."""

    prefix: str
    """The prefix of the paths of its steps: `each[3]/`, `agent[0]/inner/`."""
    block: Block

    @cached_property
    def operations(self) -> dict[str, Operation[Node]]:
        """Its operations by path."""
        listed = (operation for operation in self.block.operations if operation is not None)
        return {self.prefix + operation.name: operation for operation in listed}

    def inside(self, region: int) -> dict[str, Operation[Node]]:
        """The operations of a region and of the regions inside it, by path."""
        inner = {region}
        for index in range(region, len(self.block.regions)):
            if self.block.regions[index].inside in inner:
                inner.add(index)
        return {path: o for path, o in self.operations.items() if o.region in inner}


@attrs.frozen(eq=False)
class Log:
    """The events of a simulated run, indexed by step."""

    simulation: Simulation

    @property
    def events(self) -> tuple[Event, ...]:
        """All events, in order."""
        return self.simulation.events

    @cached_property
    def lives(self) -> dict[str, list[Life]]:
        """The events of each step's life, by its path."""
        lives: dict[str, list[Life]] = {}
        for event in self.events:
            if isinstance(event, Life):
                lives.setdefault(event.step, []).append(event)
        return lives

    def events_about(self, path: str, kind: type[T]) -> list[T]:
        """The events of this kind that are about a step, in order."""
        return [event for event in self._about.get(path, ()) if isinstance(event, kind)]

    def started(self, path: str) -> StepStarted | None:
        """The start of a step, if it has started."""
        return next((e for e in self.lives.get(path, ()) if isinstance(e, StepStarted)), None)

    def finished(self, path: str) -> StepFinished | None:
        """The end of a step, if it has finished."""
        return next((e for e in self.lives.get(path, ()) if isinstance(e, StepFinished)), None)

    def there_s(self, activation: Activation, region: int) -> float:
        """When the result of a region existed; 0 if no step makes it."""
        operation = activation.block.operations[activation.block.regions[region].source.slot]
        if operation is None:
            return 0.0
        done = self.finished(activation.prefix + operation.name)
        return inf if done is None else done.at_s

    def without_value(
        self, activation: Activation, path: str, operation: Operation[Node]
    ) -> set[int]:
        """The arms of a choice, or the started items of an `each`, that have no value."""
        body = operation.body
        if body is None:
            there = {arm: self.there_s(activation, at) for arm, at in enumerate(operation.regions)}
        else:
            items = {item: Activation(f"{path}[{item}]/", body) for item in self.items(path)}
            there = {item: self.there_s(each, 0) for item, each in items.items()}
        return {place for place, at_s in there.items() if at_s == inf}

    @cached_property
    def activations(self) -> tuple[Activation, ...]:
        """Every block that ran, the root block first."""
        return tuple(self._activations(Activation("", self.simulation.plan.block)))

    def operations(self, *kinds: type[object]) -> Iterator[tuple[Activation, str, Operation[Node]]]:
        """Every operation that ran, with its activation and path; of these types of nodes only."""
        for activation in self.activations:
            for path, operation in activation.operations.items():
                if not kinds or isinstance(operation.node, kinds):
                    yield activation, path, operation

    def inside(self, path: str) -> list[str]:
        """The steps in arms of a choice, in bodies of an `each`, or in children of a step."""
        inner = [step for step in self.lives if step.startswith(f"{path}[")]
        for activation in self.activations:
            operation = activation.operations.get(path)
            for region in operation.regions if operation is not None else ():
                inner += activation.inside(region)
        return inner

    def items(self, path: str) -> dict[int, list[Life]]:
        """The events of each item of an `each`, or child of a step, in order of their starts."""
        return self._items.get(path, {})

    @cached_property
    def _items(self) -> dict[str, dict[int, list[Life]]]:
        found: dict[str, dict[int, list[Life]]] = {}  # in one pass, as there may be thousands
        for path, life in self.lives.items():
            for match in _ITEM.finditer(path):
                items = found.setdefault(path[: match.start()], {})
                items.setdefault(int(match[1]), []).extend(life)
        return found

    @cached_property
    def _about(self) -> dict[str, list[ArmCommitted | ArmFailed | ItemFailed]]:
        about: dict[str, list[ArmCommitted | ArmFailed | ItemFailed]] = {}
        for event in self.events:
            if isinstance(event, ArmCommitted | ArmFailed | ItemFailed):
                about.setdefault(event.step, []).append(event)
        return about

    def _activations(self, outer: Activation) -> Iterator[Activation]:
        yield outer
        for path, operation in outer.operations.items():
            if operation.body is not None:
                for item in self.items(path):
                    yield from self._activations(Activation(f"{path}[{item}]/", operation.body))
            elif isinstance(operation.node, Call):
                for number, life in self.items(path).items():
                    yield from self._children(f"{path}[{number}]/", {each.step for each in life})

    def _children(self, prefix: str, steps: set[str]) -> Iterator[Activation]:
        """The child of a step to which most of these steps belong, and all inside it."""
        step, plans = next(iter(steps)), self.simulation.children
        found = [Activation(f"{prefix}{plan.pipeline.name}/", plan.block) for plan in plans]
        found = [child for child in found if step.startswith(child.prefix)]
        if found:  # several, if pipelines have the same name
            yield from self._activations(
                min(found, key=lambda child: len(steps ^ child.operations.keys()))
            )
