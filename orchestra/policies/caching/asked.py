"""What runs have asked of a cache: who asks twice wants two answers.

A quorum, a judge and a retry ask the same again to be answered anew. What is kept would agree with
itself, or fail in the same way.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from orchestra.policies.account import Account, JointAccount

KEYS_MAX = 10_000
"""Of each run; the oldest are forgotten. That takes about 2 MB."""


class Asked:
    """The keys that the runs which are under way have asked for."""

    def __init__(self) -> None:
        self._of_runs: WeakKeyDictionary[object, dict[str, None]] = WeakKeyDictionary()

    def first(self, account: Account, key: str) -> bool:
        """Whether no call of its run has asked for this before; from now on, one has.

        Of a call that several runs wait for, no call of any of them. Outside of runs, always.
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
            note(account.run)
        return not before
