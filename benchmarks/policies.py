"""The cost of the policies around a model for a call that reaches none of their limits.

A run of one step asks a model in memory, once through everything that a deployment may put
around it (breaker, limits, adaptive concurrency, route, retry; cache, coalescing, budgets and
callers' limits where the configuration knows them) and once bare. A figure is what is left of
the first without the second, of one sample: CPU time of one call. Beside it, each layer alone.
"""

from __future__ import annotations

from benchmarks.measure import Contender, Experiment, Reading

TARGET_US = 60.0
LAYERS = ("breaker", "limits", "cache", "coalesce", "route", "budgets", "callers", "retry")
KEEPING_NOTHING = ("breaker", "limits", "route", "retry")
"""The policies that need neither a state nor a task of their own."""


def experiments(*, quick: bool) -> list[Experiment]:
    """An answer that is streamed, and one that comes whole."""
    runs, rounds = (100, 1) if quick else (2_000, 5)
    kinds = {"stream": "an answer of 5 words, streamed", "complete": "a whole answer"}
    return [
        Experiment(
            name=f"policies-{kind}",
            question=f"all policies around a call that hits none of their limits: {what}",
            unit="us per call",
            rounds=rounds,
            contenders={
                "orchestra": _contender(kind, LAYERS, runs),
                f"only {', '.join(KEEPING_NOTHING)}": _contender(kind, KEEPING_NOTHING, runs),
                **{f"only {layer}": _contender(kind, (layer,), runs) for layer in LAYERS},
            },
            target=TARGET_US,
        )
        for kind, what in kinds.items()
    ]


def _contender(kind: str, layers: tuple[str, ...], runs: int) -> Contender:
    def sample() -> Reading:
        from benchmarks.contenders import orchestra_policies as measured

        full, bare = measured.overhead(kind, layers, runs)
        seen = {"a bare run": bare.cpu_s / runs * 1e6, "by the wall": full.wall_s / runs * 1e6}
        return Reading((full.cpu_s - bare.cpu_s) / runs * 1e6, seen)

    return sample
