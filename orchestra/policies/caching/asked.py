"""What runs have asked a cache: a run that asks twice wants two answers.

A quorum, a judge and a retry repeat a request to get a new answer. A cached answer would agree
with itself, or fail in the same way.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from orchestra.policies.account import Account, JointAccount

KEYS_MAX = 10_000
"""Keys per run; the oldest are dropped. They take about 2 MB."""


class Asked:
    """The keys that running runs have asked for."""

    def __init__(self) -> None:
        self._of_runs: WeakKeyDictionary[object, dict[str, None]] = WeakKeyDictionary()

    def first(self, account: Account, key: str) -> bool:
        """Note the request, and return whether it is the first for this key in its run.

        For a call that several runs share: the first in all of them. True outside runs.
        """
        before = False

        def note(run: object) -> None:
            nonlocal before
            if run is None:
                return
            keys = self._of_runs.get(run)
            if keys is None:
                keys = self._of_runs[run] = {}
            before = before or key in keys
            keys[key] = None
            if len(keys) > KEYS_MAX:
                del keys[next(iter(keys))]

        if isinstance(account, JointAccount):
            account.each_run(note)
        else:
            note(account.run_key)
        return not before
