"""`python -m tests.mutants.run`: break the code on purpose, and see that the tests notice.

Each `*.patch` beside this file is one plausible bug. Its first line names the tests that must
fail with it, its second says what a user would see. To add one: make the change, `git diff >
tests/mutants/NAME.patch`, write `# tests: tests/...` and `# what: ...` above it, undo the change.
A mutant that survives, or a patch that no longer applies, is an error.

Name the one test that is there for it, `tests/...py::test_...`, where those before it are slow.

Each is tried in a child of this process, which has imported all that is not ours: that takes
longer than most of the tests.
"""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from compileall import compile_dir
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from time import monotonic

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CODE = ("orchestra", "pipelines", "tests", "docs", "pyproject.toml", "README.md")
NOT_CODE = shutil.ignore_patterns("node_modules", "*.pyc.*")
"""The latter are half written: another process may run tests meanwhile, as `.ci/run` does."""
NOT_OURS = (
    "_hypothesis_pytestplugin",
    "attrs",
    "hypothesis",
    "msgspec",
    "numpy",
    "quart_trio",
    "hypercorn",
    "h2",
    "trio.testing",
)
"""What most tests import, beside pytest; numpy is also what Hypothesis loads when a law fails."""
AT_ONCE = 3
"""One more than CI has cores: a mutant that hangs only waits."""
BROKEN = 70
UNFIT = 71
CONTROL = ["tests/policies/limits/test_adaptive.py"]
"""What has to pass without a mutant: otherwise tests fail here for another reason."""
LIMIT_S = 240
"""A mutant that makes the tests hang is noticed, too."""


def main(names: Sequence[str]) -> int:
    """Try the mutants of these names, or all; 0 if every one is killed."""
    for name in NOT_OURS:
        import_module(name)
    os.environ.setdefault("SERVERS_FOLDER", str(ROOT / ".nox" / "servers"))  # not in a copy
    gc.freeze()  # pytest collects garbage at its end, several times: of the child's own
    compile_dir(ROOT / "orchestra", quiet=1)  # once, not in each copy
    patches = sorted(p for p in HERE.glob("*.patch") if not names or p.stem in names)
    found = [*tried(patches)]
    outcomes = {patch: (said, lasted_s) for patch, said, lasted_s in found if patch is not None}
    if [said for patch, said, _ in found if patch is None] != ["SURVIVED"] * 2:
        raise RuntimeError(f"{CONTROL} fail without a mutant: tests do not run here as they should")
    for patch in patches:
        said, lasted_s = outcomes[patch]
        sys.stdout.write(f"{said:<16} {lasted_s:5.1f} s  {patch.stem}\n")
    killed = sum(said == "killed" for said, _ in outcomes.values())
    sys.stdout.write(f"{killed} of {len(patches)} mutants killed\n")
    return 0 if patches and killed == len(patches) else 1


def tried(patches: Sequence[Path]) -> Iterator[tuple[Path | None, str, float]]:
    """What became of each mutant: killed, survived, or does not apply; and in how many seconds.

    Before them and behind them, of none at all: none has left anything to the next.
    """
    left, running = [None, *patches, None], dict[int, tuple[Path | None, Path, float]]()
    code = Path(tempfile.mkdtemp(prefix="not-mutant-"))
    try:
        copied(code)
        while left or running:
            while left and len(running) < AT_ONCE:
                patch = left.pop(0)
                folder = Path(tempfile.mkdtemp(prefix="mutant-"))
                running[tested(folder, code, patch)] = patch, folder, monotonic()
            child, status = os.wait()
            patch, folder, began_s = running.pop(child)
            said = (folder / "said.txt").read_text("utf-8", "replace")
            shutil.rmtree(folder, ignore_errors=True)  # a server may still write its bytecode
            yield patch, outcome(status, said), monotonic() - began_s
    finally:
        for child, (_, folder, _) in running.items():
            os.kill(child, signal.SIGKILL)
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(code, ignore_errors=True)


def copied(folder: Path) -> None:
    """Put a copy of the code into the folder."""
    for name in CODE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=NOT_CODE)
        else:
            shutil.copy(source, folder / name)


def mutated(folder: Path, code: Path, patch: Path | None) -> bool:
    """Whether the patch applies to the code, which is then in the folder.

    Its files are links to those of `code`, but for what the patch changes.
    """
    shutil.copytree(code, folder, copy_function=os.link, dirs_exist_ok=True)
    for name in changed_by(patch):
        if (folder / name).exists():
            (folder / name).unlink()
            shutil.copy(code / name, folder / name)
    if patch is None:
        return True
    applied = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", str(patch)],
        cwd=folder,
        env=os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)},
        capture_output=True,
        check=False,
    )
    return applied.returncode == 0


def changed_by(patch: Path | None) -> list[str]:
    """The files that it changes."""
    lines = [] if patch is None else patch.read_text().splitlines()
    return [line.removeprefix("+++ b/") for line in lines if line.startswith("+++ b/")]


def tests_of(patch: Path | None) -> list[str]:
    """The tests that its first line names."""
    if patch is None:
        return CONTROL
    return patch.read_text().partition("\n")[0].removeprefix("# tests: ").split()


def tested(folder: Path, code: Path, patch: Path | None) -> int:
    """A child that puts the mutant there and runs its tests.

    The same examples everywhere, so that a mutant dies the same each time.
    """
    child = os.fork()
    if child:
        return child
    with to_file(folder / "said.txt"):
        signal.alarm(LIMIT_S)  # which ends it
        if not mutated(folder, code, patch):
            os._exit(UNFIT)
        os.chdir(folder)
        ours = [name for name in sys.modules if name.split(".")[0] in ("tests", "orchestra")]
        for name in ours:
            del sys.modules[name]
        sys.path[:] = [str(folder), *(path for path in sys.path if Path(path or ".") != ROOT)]
        os.environ["PYTHONPATH"] = str(folder)
        options = ["-x", "-q", "--tb=line", "-p", "no:cacheprovider"]
        options += ["--disable-plugin-autoload", "-p", "_hypothesis_pytestplugin"]
        options += ["--hypothesis-profile=mutants"]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # imported already, by us
        try:
            ended = int(pytest.main([*options, *tests_of(patch)]))
        except BaseException:  # noqa: ASYNC103 - its parent tells
            traceback.print_exc()
            ended = BROKEN
        atexit._run_exitfuncs()  # which `_exit` would not: servers that tests have started end
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(ended)


@contextmanager
def to_file(path: Path) -> Iterator[None]:
    """All that this process prints goes into a file."""
    with path.open("wb") as said:
        for descriptor in (1, 2):
            os.dup2(said.fileno(), descriptor)
    yield


def outcome(status: int, said: str) -> str:
    """What a child's end means.

    Raises:
        RuntimeError: the tests did not run.
    """
    if os.WIFSIGNALED(status):
        return "killed"
    code = os.WEXITSTATUS(status)
    if code == UNFIT:
        return "does not apply"
    if code == BROKEN and "\n1 failed" in said:  # and what it left open broke pytest's own end
        return "killed"
    if code not in (0, 1):
        raise RuntimeError(f"the tests did not run: {said[-2000:]}")
    return "killed" if code == 1 else "SURVIVED"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
