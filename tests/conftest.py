"""Settings for all tests: no deadlines for Hypothesis's examples, and no skips in CI.

The environment may have a proxy, and `nohup` or a shell in the background ignores signals. The
processes that tests start must inherit neither.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator

import pytest
from hypothesis import Phase, settings

for name in [each for each in os.environ if each.lower().endswith("_proxy")]:
    del os.environ[name]  # the tests call loopback only
for number, handler in (
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

IN_CI = bool(os.environ.get("CI"))
IN_CI_LESS = 4 if IN_CI else 1
"""The factor by which CI runs fewer examples, since Hypothesis repeats the same ones there."""
AGAIN_LESS = 10
"""The factor by which all Pythons except the oldest run fewer examples."""

# `settings()` has Hypothesis's own defaults, which differ in CI. No deadline: a slow example may be
# due to a busy machine.
settings.register_profile(
    "orchestra",
    settings(),
    deadline=None,
    print_blob=True,
    max_examples=settings().max_examples // IN_CI_LESS,
)
settings.register_profile(  # a failure needs no shrinking, and is the same everywhere
    "mutants",
    settings.get_profile("orchestra"),
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    max_examples=settings().max_examples,
)
settings.register_profile(
    "again",
    settings.get_profile("orchestra"),
    max_examples=settings().max_examples // AGAIN_LESS,
)
settings.load_profile("orchestra")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exclude the objects made by the collection of the tests from garbage collection.

    There are millions, which live as long as the process. Traversing them took a third of the time
    of the collection, and a second for each `gc.collect()` in the tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Reduce the number of examples also for properties that set their own.

    In CI, properties marked `in_full` keep their number. They take longest, so they run first:
    otherwise, one of two workers would wait for the other at the end. Not for mutants, which a
    quicker test may notice.
    """
    profile = settings.get_current_profile_name()
    if profile != "mutants":
        items.sort(key=lambda item: item.get_closest_marker("in_full") is None)
    less = {"orchestra": IN_CI_LESS, "again": AGAIN_LESS}.get(profile, 1)
    fewest = settings().max_examples
    whole = {item for item in items if profile != "again" and item.get_closest_marker("in_full")}
    tests = [getattr(item, "obj", None) for item in items if item not in whole]
    for law in {getattr(test, "__func__", test) for test in tests}:  # shared by its parameters
        own = getattr(law, "_hypothesis_internal_use_settings", None)
        if own is not None and less > 1 and own.max_examples > fewest:
            tried = settings(own, max_examples=max(own.max_examples // less, fewest))
            setattr(law, "_hypothesis_internal_use_settings", tried)  # noqa: B010 - not in its type


def sendable(text: str) -> str:
    """A test's log with surrogates escaped, since one of them would end a worker of xdist."""
    return text.encode(errors="backslashreplace").decode()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, a skipped test counts as failed, unless it is marked `may_skip` with a reason."""
    report = yield
    report.sections = [(name, sendable(text)) for name, text in report.sections]
    excuse = item.get_closest_marker("may_skip")
    excused = hasattr(report, "wasxfail") or (excuse is not None and excuse.args)
    if IN_CI and report.skipped and not excused:
        report.outcome = "failed"
        report.longrepr = f"skipped, which in CI is a failure: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """In CI, a skipped file counts as failed, for instance one with `importorskip`."""
    report = yield
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which in CI is a failure: {report.longrepr}"
    return report
