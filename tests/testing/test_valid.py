"""What a script and a world cannot hold is refused when they are made, in words."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from types import SimpleNamespace
from typing import Any

import pytest

from orchestra.testing.scripts import Answers, Attempts, Fails, Gives, Streams
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import TextDelta

ANY: Any = SimpleNamespace(  # what no type checker looks at
    Answers=Answers,
    Attempts=Attempts,
    Fails=Fails,
    Gives=Gives,
    ScriptedModel=ScriptedModel,
    Streams=Streams,
    World=World,
)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: ANY.Gives(1, after_s=-1),
            r"Gives\(after_s=-1\): it must be a number of seconds, 0 or more",
        ),
        (
            lambda: ANY.Gives(1, after_s="1"),
            r"Gives\(after_s='1'\): it must be a number of seconds",
        ),
        (
            lambda: ANY.Gives(1, after_s=inf),
            r"never end; for a step that never ends, write Hangs\(\)",
        ),
        (lambda: ANY.Fails(ValueError), r"write error=ValueError\('why'\)"),
        (lambda: ANY.Fails("no"), r"it is not an exception; write error=ValueError\('no'\)"),
        (lambda: ANY.Fails(KeyboardInterrupt()), "would end more than the step"),
        (lambda: ANY.Streams((0.5, "a")), r"not 0.5; write Streams\(\(\(0.5, 'a'\),\)\)"),
        (lambda: ANY.Streams(("a", "b")), r"not 'a'; write Streams\(\(\(0.0, 'a'\), ...\)\)"),
        (lambda: ANY.Streams("a"), r"write Streams\(\(\(0.5, 'a'\),\)\)"),
        (lambda: ANY.Streams(((-1, "a"),)), "must begin with a number of seconds, 0 or more"),
        (lambda: ANY.Streams((), error=KeyError), r"write error=KeyError\('why'\)"),
        (lambda: ANY.Answers(3), r"write Answers\(lambda text: Gives"),
        (lambda: ANY.Attempts(Gives(1)), r"write Attempts\(\(Gives\(value=1"),
        (lambda: ANY.Attempts((Attempts((Gives(1),)),)), "it must be a tuple of scripts"),
        (lambda: ANY.Attempts(3), "it must be a tuple of scripts"),
        (
            lambda: ANY.Attempts.failing(-1, KeyError("a"), Gives(1)),
            "it must be an integer, 0 or more",
        ),
    ],
)
def test_a_malformed_script_is_refused_when_it_is_made(
    make: Callable[[], object], says: str
) -> None:
    """In the run it would be the failure of a step, which a fallback catches."""
    with pytest.raises((TypeError, ValueError), match=says):
        make()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: ANY.World(models={"m": "hello"}),
            r"World\(models={'m': 'hello'}\): it has no `stream`",
        ),
        (
            lambda: ANY.World(models={"m": ScriptedModel}),
            "or is a class; write ScriptedModel.saying",
        ),
        (lambda: ANY.World(embedders={"e": 3}), "it has no `embed`"),
        (lambda: ANY.World(stores={"s": 3}), r"write MemoryStore\('name'\)"),
        (
            lambda: ANY.World(models=ScriptedModel.saying("a")),
            "it must be a dict with names as keys",
        ),
        (
            lambda: ANY.World(steps=[Gives(1)]),
            r"it must be a dict with names as keys; write steps={'name': ...}",
        ),
        (lambda: ANY.World(kept={len: "fake"}), r"write kept={shop: fake_shop}"),
        (lambda: ANY.World(kept=[len]), r"write kept={shop: fake_shop}"),
        (
            lambda: ANY.World(cancel_at_s=-1),
            r"World\(cancel_at_s=-1\): it must be a time in seconds",
        ),
        (lambda: ANY.World(cancel_at_s=nan), "leave it out for never"),
        (lambda: ANY.World(jitter=3), "it must be a number from 0 to 1"),
        (lambda: ANY.World(schedule="x"), "it must be an integer"),
        (lambda: ANY.World(limits={"lane_chunks": 1}), r"write Limits\(lane_chunks=1\)"),
        (lambda: ANY.ScriptedModel.saying(["a", "b"]), r"it takes strings: saying\('a', 'b'\)"),
        (lambda: ANY.ScriptedModel(((0.0, "a"),)), r"write TextDelta\('text'\)"),
        (lambda: ANY.ScriptedModel((0.0, TextDelta("a"))), "`says` must be pairs"),
        (lambda: ANY.ScriptedModel((), ValueError), r"write error=ValueError\('why'\)"),
    ],
)
def test_a_malformed_world_is_refused_when_it_is_made(
    make: Callable[[], object], says: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        make()
