"""The cache keys that each run has requested: a run that repeats a request wants a second answer.

A quorum, a judge or a retry repeats a request to get a new answer. A cached answer would only
agree with itself, or fail in the same way.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from orchestra.policies.account import Account, JointAccount

KEYS_MAX = 10_000
"""Keys kept per run; the oldest are dropped. They take about 2 MB."""


class RequestedKeys:
    """The cache keys that each current run has asked for."""

    def __init__(self) -> None:
        self._of_runs: WeakKeyDictionary[object, dict[str, None]] = WeakKeyDictionary()

    def first(self, account: Account, key: str) -> bool:
        """Note the key, and return whether its run asks for it for the first time.

        For a call that several runs share, it has to be the first time in each of them. Outside
        runs, always True.
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
