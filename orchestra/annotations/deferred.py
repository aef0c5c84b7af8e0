"""Annotations, also those that contain a name without a value yet.

Python 3.14 evaluates annotations lazily, so a class may be defined below the function that names
it. Until then, reading the annotations in the usual way raises NameError. Here, a name without a
value becomes a forward reference, as a string does on older Pythons; `facts.hints` resolves both.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

if sys.version_info >= (3, 14):  # pragma: no cover - coverage is measured on an older Python
    from annotationlib import Format, get_annotations

    def written(thing: Any) -> dict[str, Any]:
        """The own annotations of a function or class, by name; bases are not included."""
        return get_annotations(thing, format=Format.FORWARDREF)

    def signature(function: Callable[..., Any]) -> inspect.Signature:
        """The signature of a function.

        Raises:
            TypeError: the object cannot be called.
            ValueError: it has no signature, as some built-ins, or a partial with wrong arguments.
        """
        return inspect.signature(function, annotation_format=Format.FORWARDREF)

    def handed_on(function: Callable[..., Any]) -> dict[str, Any]:
        """The attributes to copy to a wrapper so that it has the function's annotations."""
        found = {"__annotations__": written(function)}
        if hasattr(function, "__annotate__"):  # the attribute that `functools.wraps` copies
            found["__annotate__"] = function.__annotate__
        return found

    def annotate(function: Any, annotations: dict[str, Any]) -> None:
        """Set the annotations of a function, so that `functools.wraps` copies them."""
        function.__annotate__ = lambda _: annotations

else:
    written = inspect.get_annotations
    signature = inspect.signature

    def handed_on(function: Callable[..., Any]) -> dict[str, Any]:
        """The attributes to copy to a wrapper so that it has the function's annotations."""
        return {"__annotations__": written(function)}

    def annotate(function: Any, annotations: dict[str, Any]) -> None:
        """Set the annotations of a function."""
        function.__annotations__ = annotations


__all__ = ["annotate", "handed_on", "signature", "written"]
