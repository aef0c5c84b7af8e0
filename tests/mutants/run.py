"""`python -m tests.mutants.run`: break the code on purpose, and see that the tests notice.

Each `*.patch` beside this file is one plausible bug. Its first line names the tests that must
fail with it. To add one: make the change, `git diff > tests/mutants/NAME.patch`, write
`# tests: tests/...` above it, undo the change. A mutant that survives, or a patch that no longer
applies, is an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CODE = ("orchestra", "pipelines", "tests", "docs", "pyproject.toml", "README.md")
NOT_CODE = shutil.ignore_patterns("node_modules")
AT_ONCE = 2
LIMIT_S = 240
"""A mutant that makes the tests hang is noticed, too."""


def main(names: list[str]) -> int:
    """Try the mutants of these names, or all; 0 if every one is killed."""
    patches = sorted(p for p in HERE.glob("*.patch") if not names or p.stem in names)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        outcomes = list(threads.map(outcome, patches))
    for patch, said in zip(patches, outcomes, strict=True):
        sys.stdout.write(f"{said:<16} {patch.stem}\n")
    killed = sum(said == "killed" for said in outcomes)
    sys.stdout.write(f"{killed} of {len(patches)} mutants killed\n")
    return 0 if patches and killed == len(patches) else 1


def outcome(patch: Path) -> str:
    """What became of a mutant: killed, survived, or does not apply."""
    head = patch.read_text().partition("\n")[0]
    tests = head.removeprefix("# tests: ").split()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        for name in CODE:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, Path(folder) / name, ignore=NOT_CODE)
            else:
                shutil.copy(source, Path(folder) / name)
        applied = subprocess.run(
            ["git", "apply", "--whitespace=nowarn", str(patch)],
            cwd=folder,
            env=os.environ | {"GIT_CEILING_DIRECTORIES": str(Path(folder).parent)},
            capture_output=True,
            check=False,
        )
        if applied.returncode:
            return "does not apply"
        return "killed" if fails(Path(folder), tests) else "SURVIVED"


def fails(folder: Path, tests: list[str]) -> bool:
    """Whether the tests fail there. A fixed seed, so that a mutant dies the same way each time."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += ["-p", "no:xdist", "--no-cov", "--hypothesis-seed=1"]
    command += ["--hypothesis-profile=mutants", *tests]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    try:
        ran = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            check=False,
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return True
    if ran.returncode not in (0, 1):
        raise RuntimeError(f"the tests did not run: {ran.stdout.decode()[-2000:]}")
    return ran.returncode == 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
