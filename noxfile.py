"""The checks before every change, and in CI: `nox`, or `nox -s lint types floors tests`.

Each session has its own environment under `.nox`, kept between runs; `nox -R` also skips
installing. What a session installs is a group in pyproject.toml.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import nox

# uv does not compile what it installs, and with PYTHONDONTWRITEBYTECODE nothing does: every process
# that a test starts would compile its imports again.
os.environ.setdefault("UV_COMPILE_BYTECODE", "1")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
CODE = ["orchestra", "pipelines", "tests", "benchmarks", "noxfile.py"]
PROJECT = nox.project.load_toml("pyproject.toml")
NOT_OURS = {
    "ASYNC114": "needs a list of every function that is meant for nursery.start()",
    "ASYNC124": "a method of a protocol is async, also in a fake that has nothing to wait for",
    "ASYNC300": "the same as RUF006, which is faster",
    "ASYNC900": "tests/test_tidy.py has this rule, with an exception for @step",
    "ASYNC910": "a function may have nothing to wait for; ASYNC913 checks loops",
    "ASYNC911": "... and so may a stream",
    "ASYNC912": "... and a cancel scope may be there for the one branch that waits",
}
"""The rules of flake8-async that we do not follow, with the reasons."""
ONCE = (
    *("tests/docs", "tests/mutants", "tests/test_conftest.py", "tests/test_floors.py"),
    *("tests/test_tidy.py", "tests/clients", "tests/faults", "tests/server/test_schemathesis.py"),
    "tests/providers/test_third_party.py",
    *("tests/cli/serving/test_watchdog.py", "tests/cli/serving/test_log.py"),
    *("tests/cli/serving/test_replaced_files.py", "tests/cli/serving/test_stores_away.py"),
    "tests/server/test_slow.py",
    *("tests/server/processes/test_serve.py", "tests/testing/sketches/test_drawing.py"),
    *("tests/stores/postgres/test_faults.py", "tests/stores/postgres/test_hnsw.py"),
)
"""Tests that run on the oldest Python only: tests of the repository's files, of other programs over
sockets and of whole servers, and slow ones whose result does not depend on the version.
"""
OF_THE_LANGUAGE = (
    *("tests/annotations", "tests/compiler", "tests/engine", "tests/graph", "tests/portal"),
    *("tests/testing", "tests/test_pickling.py"),
)
"""Tests that may fail on a Python between the oldest and the newest, and on no other."""
OF_DEPENDENCIES = (
    *("tests/stores", "tests/providers", "tests/observe", "tests/steps/texts"),
    *("tests/steps/test_read.py", "tests/server/front", "tests/server/runs"),
)
"""Tests of the code that calls other packages."""
_ASYNC = re.compile(r"\b(async|await|trio)\b")

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "uv|virtualenv"  # uv where there is one
nox.options.reuse_venv = "yes"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # also in CI: it tests on those it has
nox.options.sessions = ["lint", "types", "floors", "tests"]


def install(session: nox.Session, group: str, extras: str = "") -> None:
    """Install a dependency group and, with `extras`, the project itself."""
    project = ["-e", f".[{extras}]"] if extras else []
    session.install(*nox.project.dependency_groups(PROJECT, group), *project)


@nox.session
def lint(session: nox.Session) -> None:
    """Style: ruff, its formatter, and flake8-async for what ruff cannot see."""
    install(session, "lint")
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")
    files = _async_files()
    session.log(f"flake8 --select=ASYNC, {len(files)} files")
    flake8 = ("flake8", "--select=ASYNC", f"--disable={','.join(NOT_OURS)}")
    session.run(*flake8, *files, log=False)


def _async_files() -> list[str]:
    """The files with async code, except tests, for which ruff's own rules suffice.

    flake8-async would take a minute for the others, and find nothing.
    """
    files = [Path(top) for top in CODE if top != "tests"]
    files += [each for top in files for each in top.rglob("*.py")]
    return [str(each) for each in files if each.is_file() and _ASYNC.search(each.read_text())]


@nox.session
def types(session: nox.Session) -> None:
    """Types: mypy, strictly, over everything; Pyright over code as users write it."""
    install(session, "types", extras="all")
    session.run("mypy", *session.posargs)
    session.run("pytest", "-q", "-n0", "tests/docs/test_project.py")  # mypy in a user's project
    session.run("basedpyright", "--pythonpath", f"{session.bin}/python", *session.posargs)


@nox.session
def floors(session: nox.Session) -> None:
    """Architecture: imports go down, and I/O stays where it belongs."""
    install(session, "floors")
    session.run("lint-imports", env={"PYTHONPATH": "."})


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests on every installed Python; arguments go to pytest.

    `nox -s tests-3.11 -- tests/graph -k route`

    The oldest Python runs all tests. The others run fewer examples of each property, and those
    between the oldest and the newest only `OF_THE_LANGUAGE`. Line coverage is measured on the
    newest, where it costs little (from 3.12 on).
    """
    install(session, "tests", extras="all")
    here = [each for each in PYTHONS if _is_here(each)]
    oldest, newest = here[0], here[-1]
    options = ["--cov"] if session.python == newest else []
    if session.python != oldest:
        options += ["--hypothesis-profile=again", *(f"--ignore={each}" for each in ONCE)]
        options += [] if session.python == newest else OF_THE_LANGUAGE
    # worksteal: properties take a hundred times as long as examples
    session.run("pytest", "-n2", "--dist=worksteal", *(session.posargs or options))


@nox.session
def oldest(session: nox.Session) -> None:
    """Run the tests of what calls other packages with the oldest versions that we allow.

    All other sessions install the newest.
    """
    if session.venv_backend != "uv":
        session.skip("only uv can install the oldest versions: pip install uv")
    needed = nox.project.dependency_groups(PROJECT, "tests")
    session.install("--resolution", "lowest-direct", *needed, "-e", ".[all]")
    options = ("-n2", "--dist=worksteal", "--hypothesis-profile=again")
    session.run("pytest", *options, *(session.posargs or OF_DEPENDENCIES))


def _is_here(version: str) -> bool:
    """Whether this Python runs: pyenv also has commands for versions that are not enabled."""
    command = (f"python{version}", "-c", "")
    try:
        return not subprocess.run(command, check=False, capture_output=True).returncode  # noqa: S603 - a constant
    except FileNotFoundError:
        return False


@nox.session
def servers(session: nox.Session) -> None:
    """Install other projects' model servers and JavaScript clients, for the tests."""
    session.install("-r", "tests/servers/requirements.txt")
    for folder in ("tests/servers", "tests/clients"):
        session.run("npm", "ci", "--silent", "--prefix", folder)


@nox.session
def clients(session: nox.Session) -> None:
    """Install other projects' Python clients, for the tests, and the sources of OpenAI's SDK."""
    install(session, "clients")
    folder = Path(session.virtualenv.location)
    wanted = next(each for each in PROJECT["dependency-groups"]["clients"] if "openai==" in each)
    if not list(folder.glob("openai-*/tests")):
        # with pip, since uv cannot download a source distribution without building it
        session.run(
            "pip", "download", "-q", "--no-binary=:all:", "--no-deps", "-d", str(folder), wanted
        )
        (archive,) = folder.glob("openai-*.tar.gz")
        shutil.unpack_archive(archive, folder, filter="data")


@nox.session
def mutants(session: nox.Session) -> None:
    """Break a copy of the code in many ways, and check that the tests notice each of them."""
    install(session, "tests", extras="all")
    session.run("python", "-m", "tests.mutants.run", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure orchestra and its peers on this machine."""
    session.install("-r", "benchmarks/peers.txt", "-e", ".[all]")
    program = _litellm(session)
    session.run("python", "benchmarks/run.py", *session.posargs, env={"LITELLM": program})
    if "--quick" in session.posargs:
        session.run("python", "benchmarks/soak.py", "--quick")


def _litellm(session: nox.Session) -> str:
    """LiteLLM's proxy, in an environment of its own: its pinned versions conflict with ours."""
    home = Path(session.virtualenv.location) / "litellm"
    session.run("python", "-m", "venv", str(home), silent=True)
    python = str(home / "bin" / "python")
    session.run(python, "-m", "pip", "install", "-q", "-r", "benchmarks/litellm.txt", external=True)
    return str(home / "bin" / "litellm")


@nox.session
def demo(session: nox.Session) -> None:
    """Answer a question about this project, with sources; no key, no network."""
    session.install(".[demo]")
    session.run("orchestra", "demo", *(session.posargs or ["What is a run?"]))
