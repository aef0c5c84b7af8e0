"""Annotations as they are written, even if a name in them has no value yet.

Python 3.14 evaluates annotations when they are asked for, so a class may stand below the function
that names it. Reading them the usual way raises NameError for such a name. Here a name without a
value becomes a forward reference, as a string is on older Pythons; `facts.hints` resolves both.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

if sys.version_info >= (3, 14):  # pragma: no cover - coverage is measured on an older Python
    from annotationlib import Format, get_annotations

    def written(thing: Any) -> dict[str, Any]:
        """The own annotations of a function or class, by name."""
        return get_annotations(thing, format=Format.FORWARDREF)

    def signature(function: Callable[..., Any]) -> inspect.Signature:
        """The signature of a function.

        Raises:
            TypeError: it cannot be called.
            ValueError: a built-in, or a partial with wrong arguments, has none.
        """
        return inspect.signature(function, annotation_format=Format.FORWARDREF)

    def handed_on(function: Callable[..., Any]) -> dict[str, Any]:
        """The attributes by which what is made of a function has its annotations."""
        found = {"__annotations__": written(function)}
        if hasattr(function, "__annotate__"):  # what `functools.wraps` hands on
            found["__annotate__"] = function.__annotate__
        return found

    def annotate(function: Any, annotations: dict[str, Any]) -> None:
        """Give a function other annotations, in a way that `functools.wraps` hands on."""
        function.__annotate__ = lambda _: annotations

else:
    written = inspect.get_annotations
    signature = inspect.signature

    def handed_on(function: Callable[..., Any]) -> dict[str, Any]:
        """The attributes by which what is made of a function has its annotations."""
        return {"__annotations__": written(function)}

    def annotate(function: Any, annotations: dict[str, Any]) -> None:
        """Give a function other annotations."""
        function.__annotations__ = annotations


__all__ = ["annotate", "handed_on", "signature", "written"]
