"""Run all benchmarks, or some: `python benchmarks/run.py [--only diamond edge-5000] [--quick]`.

Prints a table per experiment and writes `benchmarks/results/latest.json`, or `partial.json`
where not all was measured; `--publish` puts the figures into `benchmarks/README.md` too. All
of it takes about half an hour, most of that for relays; `--quick` only shows, in two minutes,
that everything runs.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # started as a file, so that no installation is needed

from benchmarks import (  # noqa: E402 - needs the line above
    edges,
    policies,
    providers,
    relaying,
    report,
    serving,
    state,
    steps,
)
from benchmarks.machine import busy, machine  # noqa: E402
from benchmarks.measure import Experiment, Outcome, perform  # noqa: E402

RESULTS = Path(__file__).with_name("results")
README = Path(__file__).with_name("README.md")
OPEN_FILES = 20_000  # two sockets for each of 5,000 streams in a process, and the rest


def main() -> int:
    """Measure, print, write; 1 where ours could not be measured."""
    asked = _arguments()
    _raise_open_files()
    began = time.monotonic()
    about = machine()
    print(busy())
    outcomes = [_measured(experiment) for experiment in _experiments(asked)]
    found = report.document(outcomes, about, edges.linearity(outcomes), time.monotonic() - began)
    report.write(asked.output, found)
    if asked.publish:
        report.publish(README, report.markdown(outcomes, about))
    print(f"linearity: {found['linearity']}\ntook {found['took_s']} s, written to {asked.output}")
    problems = list(report.failures(outcomes))
    print("\n".join(problems))
    return 1 if problems else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers: does it still run?")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these experiments")
    parser.add_argument("--publish", action="store_true", help="write the table into the README")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    asked = parser.parse_args()
    partial = asked.quick or asked.only
    if partial and asked.publish:
        parser.error("--publish is for all figures at full size: leave out --quick and --only")
    asked.output = asked.output or RESULTS / ("partial.json" if partial else "latest.json")
    return asked


def _experiments(asked: argparse.Namespace) -> list[Experiment]:
    groups = (steps, edges, providers, policies, serving, relaying, state)
    every = [found for group in groups for found in group.experiments(quick=asked.quick)]
    names = {experiment.name for experiment in every}
    for name in asked.only or ():
        if name not in names:
            raise SystemExit(f"no experiment {name!r}; there are: {', '.join(sorted(names))}")
    return [experiment for experiment in every if not asked.only or experiment.name in asked.only]


def _measured(experiment: Experiment) -> Outcome:
    outcome = perform(experiment)
    print(report.table(outcome) + "\n", flush=True)
    return outcome


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft < wanted:  # inherited by the servers and clients that we start
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
