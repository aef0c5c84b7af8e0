"""Finds pipelines by command line names: `pipelines.answer`, `pipelines/answer.py`, `...:name`.

Modules are imported as Python would from this directory: `pipelines/answer.py` and
`pipelines.answer` are the same module.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from orchestra.cli.failures import MISUSED, CommandError, quoted, raised_at
from orchestra.cli.hints import hint_for
from orchestra.errors import DefinitionError
from orchestra.graph.pipelines import Pipeline
from orchestra.graph.wrapping import decorated_in_vain, hidden_pipeline
from orchestra.messages import describe
from orchestra.nearest import did_you_mean

AnyPipeline: TypeAlias = Pipeline[..., Any]

FOLDER = "pipelines"
"""The folder of pipelines for commands without a name."""


def load(target: str) -> AnyPipeline:
    """The one pipeline that `MODULE[:PIPELINE]` names.

    Raises:
        CommandError: there is no such module or pipeline, it cannot be imported, or the
            module has several and none is named.
    """
    found = load_all(target)
    if len(found) == 1:
        return found[0]
    module = target.removesuffix(":")
    listed = "\n".join(f"{module}:{pipeline.name}" for pipeline in found)
    raise CommandError(f"{module} has {len(found)} pipelines; name one:\n{listed}", code=MISUSED)


def load_all(target: str, *, needed: bool = True) -> Sequence[AnyPipeline]:
    """The pipelines that `MODULE[:PIPELINE]` names, in the order of the source.

    Of a module, all that it defines itself; none at all is an error if they are `needed`.

    Raises:
        CommandError: there is no such module or pipeline, or it cannot be imported.
    """
    name, _, wanted = target.partition(":")
    if _is_folder(name):
        raise CommandError(_no_file(name), code=MISUSED)
    module = _import(name)
    found = [value for value in vars(module).values() if isinstance(value, Pipeline)]
    if wanted:
        return [_pick(wanted, {pipeline.name: pipeline for pipeline in found}, name)]
    own = [each for each in found if each.function.__module__ == module.__name__]
    for inner in filter(None, map(hidden_pipeline, vars(module).values())):
        if inner.function.__module__ == module.__name__ and inner not in found:
            raise CommandError(f"{name}: {decorated_in_vain(inner)}", code=MISUSED)
    if needed and not own:
        raise CommandError(
            f"{name} has no pipeline; decorate a function with @pipeline", code=MISUSED
        )
    return list(dict.fromkeys(own))  # a pipeline with two names counts once


def chosen(named: Iterable[str], *, needed: bool = True, instead: str = "") -> Sequence[str]:
    """The modules that were named, or else all in `pipelines/`, sorted by name.

    A folder stands for every module in it. `instead` is added to the error's advice.

    Raises:
        CommandError: nothing was named, `pipelines/` is empty, and modules are `needed`.
    """
    given = tuple(chain.from_iterable(map(_unfolded, named)))
    found = given or tuple(map(str, _modules(Path(FOLDER))))
    if needed and not found:
        raise CommandError(
            f"there are no modules in {Path.cwd() / FOLDER}; name one, such as "
            f"`my_pipelines.answer` or `my_pipelines/answer.py`{instead}",
            code=MISUSED,
        )
    return found


def source_of(path: Path) -> str:
    """The source text of a module; "" if it cannot be read, such as a broken link."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def by_name(pipelines: Iterable[AnyPipeline]) -> dict[str, AnyPipeline]:
    """The pipelines, each under its name.

    Raises:
        CommandError: two have the same name.
    """
    found = list(pipelines)
    for complaint in namesakes(found):
        raise CommandError(complaint, code=MISUSED)
    return {pipeline.name: pipeline for pipeline in found}


def namesakes(pipelines: Iterable[AnyPipeline]) -> Iterator[str]:
    """A complaint for each pair of pipelines with the same name: they cannot be served together."""
    named: dict[str, AnyPipeline] = {}
    for pipeline in pipelines:
        other = named.setdefault(pipeline.name, pipeline)
        if other is not pipeline:
            yield (
                f"two pipelines are named {pipeline.name!r}, at {other.where} and "
                f"{pipeline.where}; rename one with @pipeline(name=...), or name those to serve"
            )


@contextmanager
def extra(name: str) -> Iterator[None]:
    """A context for imports that need the extra `name`, with an error that names what to install.

    Raises:
        CommandError: a package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise CommandError(
            f"{error.name} is not installed; it comes with `pip install 'orchestra[{name}]'`"
        ) from error


def _pick(wanted: str, known: Mapping[str, AnyPipeline], module: str) -> AnyPipeline:
    if wanted not in known:
        hint = _hint(wanted, known) or f"; it has: {', '.join(known) or 'none'}"
        raise CommandError(f"{module} has no pipeline {wanted!r}{hint}", code=MISUSED)
    return known[wanted]


def _unfolded(name: str) -> Iterable[str]:
    """The modules in a folder; for anything else, or an empty folder, the name itself."""
    found = _modules(Path(name)) if _is_folder(name) else []
    return map(str, found) if found else (name,)


def _is_folder(name: str) -> bool:
    """Whether a name is that of a folder and not also of a module, here or installed."""
    folder = Path(name)
    if folder.name in ("", "..") or not folder.is_dir() or (folder / "__init__.py").is_file():
        return False
    if not name.isidentifier():
        return True
    found = importlib.util.find_spec(name)  # a namespace has no origin
    return not folder.with_suffix(".py").is_file() and (found is None or found.origin is None)


def _no_file(name: str) -> str:
    example = next(iter(_modules(Path(name))), "")
    hint = f", such as {str(example)!r}" if example else ", and there is none yet"
    return f"there is no file {str(Path(name))!r}: it is a folder; name a module in it{hint}"


def _modules(folder: Path) -> list[Path]:
    """The modules in a folder, without private ones and hidden files of editors."""
    return sorted(
        path
        for path in folder.rglob("*.py")
        if not path.name.startswith("_")
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _import(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        if not name.endswith(".py") and "/" not in name:
            return _import_name(name)
        return _import_file(Path(name))
    except CommandError:
        raise
    except DefinitionError as error:
        raise CommandError(str(error)) from error
    except (Exception, SystemExit) as error:
        if _is_missing(error, name):
            hint = _module_hint(name)
            message = f"there is no module {name!r} here or in the environment{hint}"
            raise CommandError(message, code=MISUSED) from error
        at = raised_at(error)
        where = f"\nat {quoted(*at)}" if at else ""
        what = f"SyntaxError: {error.msg}" if isinstance(error, SyntaxError) else describe(error)
        raise CommandError(f"{name} cannot be imported: {what}{hint_for(error)}{where}") from error


def _import_name(name: str) -> ModuleType:
    module = importlib.import_module(name)
    file = Path(*name.split(".")).with_suffix(".py")
    if name.partition(".")[0] in sys.stdlib_module_names and file.is_file():
        _refuse_other(module, file)
    return module


def _refuse_other(module: ModuleType, file: Path) -> None:
    """Raise CommandError unless the module is the one in the file."""
    found = getattr(module, "__file__", None)
    if found is not None and Path(found).resolve() == file.resolve():
        return
    is_pythons = module.__name__.partition(".")[0] in sys.stdlib_module_names
    whose = "a module of Python's own" if is_pythons else f"another module, {found or 'built in'}"
    raise CommandError(
        f"{file} cannot be imported: {module.__name__!r} is {whose}; give the file another name",
        code=MISUSED,
    )


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        hint = _hint(str(path), map(str, path.parent.glob("*.py")))
        raise CommandError(f"there is no file {str(path)!r}{hint}", code=MISUSED)
    here, resolved = Path.cwd().resolve(), path.resolve()
    if resolved.is_relative_to(here):
        parts = resolved.relative_to(here).with_suffix("").parts
        if all(part.isidentifier() for part in parts):
            module = importlib.import_module(".".join(parts))
            _refuse_other(module, path)
            return module
    if path.stem in sys.modules and sys.modules[path.stem].__file__ == str(resolved):
        return sys.modules[path.stem]
    return _run_file(resolved)


def _run_file(path: Path) -> ModuleType:
    """Import a file from outside the import path; its folder is added to it, as for a script."""
    sys.path.insert(0, str(path.parent))
    if path.stem in sys.stdlib_module_names:  # it would hide the standard module
        _refuse_other(importlib.import_module(path.stem), path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise CommandError(f"{str(path)!r} is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def _is_missing(error: BaseException, name: str) -> bool:
    """Whether the named module itself is missing, rather than one that it imports."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return isinstance(error, ValueError | TypeError) and name.partition(".")[0] == ""
    return f"{name}.".startswith(f"{error.name}.")


def _known_modules() -> Mapping[str, Path]:
    """The modules that may be named here; a file with a dot in its stem cannot be imported."""
    here = Path.cwd()
    paths = (*_modules(here / FOLDER), *here.glob("*.py"))
    return {
        ".".join(path.relative_to(here).with_suffix("").parts): path
        for path in paths
        if "." not in path.stem
    }


def _module_hint(name: str) -> str:
    """`; did you mean ...?`: a module or a pipeline of this name, or else the nearest module."""
    known = _known_modules()
    in_module = "" if name in map(_last, known) else _module_of(name)
    return in_module or _hint(name, known)


def _hint(name: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` with the name whose last part is nearest; "" if none is near."""
    last = {_last(each): each for each in known}
    return did_you_mean(_last(name), last, before="; ", written=lambda near: repr(last[near]))


def _module_of(name: str) -> str:
    """`; did you mean ...?` with the module that has a pipeline of this name; "" if none has."""
    written = re.compile(rf"^def {re.escape(name)}\(", re.MULTILINE)
    for module, path in _known_modules().items():
        if written.search(source_of(path)):
            return f"; did you mean '{module}:{name}'?"
    return ""


def _last(name: str) -> str:
    """`answer` of `pipelines.answer` and of `pipelines/answer.py`."""
    return Path(name).stem if name.endswith(".py") else name.rpartition(".")[2]
