"""A limit with the names of its counts in the window of the moment."""

from kor_core.llm.policies.bounds import Bound
from kor_core.llm.policies.state import Charge
from kor_core.llm.policies.windows import Window, window_at

__all__ = ["Counter"]


class Counter:
    """Makes the charges for one limit or budget.

    Args:
        bound: the limit.
    """

    __slots__ = ("_current", "bound")

    def __init__(self, bound: Bound) -> None:
        self.bound = bound
        self._current = self._named(window_at(bound.period, 0.0))

    def window(self, now: float) -> Window:
        """Return the window of a moment, in seconds since the epoch."""
        return self._at(now)[0]

    def key(self, now: float) -> str:
        """Return the name of the count of a moment."""
        return self._at(now)[1]

    def charge(self, amount: int, now: float, *, limited: bool = True) -> Charge:
        """Return a charge to the count of a moment.

        Args:
            amount: what is added.
            now: seconds since the epoch.
            limited: whether the limit holds for it.
        """
        window, key, before = self._at(now)
        limit = self.bound.amount if limited else None
        share = window.share(now) if before else 0
        return Charge(key, amount, limit, window.lasts, before, share)

    def _at(self, now: float) -> tuple[Window, str, str]:
        current = self._current
        if not current[0].start <= now < current[0].end:
            # One assignment: other threads see the old window or the new one.
            current = self._current = self._named(window_at(self.bound.period, now))
        return current

    def _named(self, window: Window) -> tuple[Window, str, str]:
        start = f"{self.bound.key}|{self.bound.pot}|"
        return window, start + window.name, start + window.before if window.before else ""
