"""What limits and budgets ask of the place that keeps their counts, in memory or in Redis.

A count belongs to one window (a minute, a day, a month), whose name is part of its key: the next
window begins with a key that nobody has counted in.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

__all__ = ["MOST", "WHOLE", "Charge", "Full", "StateBackend", "added", "counted"]

WHOLE: Final = 1_000_000
"""The share that is all, in :attr:`Charge.share`."""

MOST: Final = 2**53 - 1
"""The most that a count reaches: up to it the floats of Redis' scripts are exact, and it is over
every limit that can be set."""


class Charge(NamedTuple):
    """One count and what is to be added to it. All numbers are whole, so that none drifts.

    Args:
        key: the name of the count, window included.
        amount: requests, tokens, or billionths of a US dollar; below 0 to give back.
        limit: the most that the count may reach; None where it is added in any case.
        lasts: seconds until the count may be forgotten.
        before: the key of the window before, where that counts too.
        share: the share of it that counts, in millionths.
    """

    key: str
    amount: int
    limit: int | None
    lasts: int
    before: str = ""
    share: int = 0


class Full(NamedTuple):
    """A charge that does not fit.

    Args:
        which: its place among those asked for; it is the first that does not.
        used: what is counted in its window.
        before: what is counted in the window before.
    """

    which: int
    used: int
    before: int


def counted(used: int, before: int, share: int) -> int:
    """Return what counts in a window that slides over the one before.

    >>> counted(10, 100, WHOLE // 4)
    35
    """
    return used + before * share // WHOLE


def added(count: int, amount: int) -> int:
    """Return a count once an amount is added: never below 0, never above :data:`MOST`.

    >>> added(10, 5), added(10, -15), added(10, 2**60) == MOST
    (15, 0, True)
    """
    return min(max(count + amount, 0), MOST)


class StateBackend(Protocol):
    """Keeps counts. One object serves all threads and event loops of a process."""

    async def take(self, charges: Sequence[Charge]) -> Full | None:
        """Add all charges, or none of them where one does not fit.

        No other ``take``, of any thread or process, sees a part of it.

        Args:
            charges: at most one for each key.

        Returns:
            None when all were added, else the first that does not fit.

        Raises:
            StateUnavailableError: the place cannot be reached, and policy says to refuse.
        """
        ...

    async def counts(self, keys: Sequence[str]) -> list[int]:
        """Return the counts of these keys, 0 for those that nobody counted in."""
        ...

    def close(self) -> None:
        """Let go of connections, without waiting for it."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...
