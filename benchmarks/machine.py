"""The machine of the measurements, without which figures mean nothing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "trio", "attrs", "msgspec", "httpx", "h11", "quart-trio", "hypercorn",
    "openai", "httpx2",
    "fastapi", "starlette", "uvicorn", "uvloop", "httptools", "langgraph", "langchain-core",
)  # fmt: skip


def machine() -> dict[str, object]:
    """The machine, the versions and the commit, as plain JSON."""
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
        "commit": _commit(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def busy() -> str:
    """A warning if others are using the machine, else nothing."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load < 0.3 * cores:
        return ""
    return (
        f"the load is {load:.1f} on {cores} cores: somebody else is working here, "
        "trust the ratios and the best samples more than the medians"
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    asked = [git, "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None
