"""Counts of limits and budgets in the memory of this process.

``limits`` has a storage in memory too. It starts a thread or a task to forget old counts, which
belongs to one event loop, and it adds to one count at a time; a call counts in several.
"""

import time
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Final

from kor_core.llm.policies.state import Charge, Full, added, counted

__all__ = ["MemoryState"]

# How often old counts are looked for, in seconds.
_SWEEP_EVERY: Final = 60.0


class MemoryState:
    """Counts of one process, for any number of threads and event loops.

    Args:
        clock: seconds since the epoch.

    >>> import asyncio
    >>> state = MemoryState(clock=lambda: 0.0)
    >>> charge = Charge("requests/openai", 1, limit=1, lasts=60)
    >>> asyncio.run(state.take([charge])), asyncio.run(state.take([charge]))
    (None, Full(which=0, used=1, before=0))
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = Lock()
        self._counts: dict[str, int] = {}
        self._ends: dict[str, float] = {}
        self._next_sweep = clock() + _SWEEP_EVERY

    async def take(self, charges: Sequence[Charge]) -> Full | None:
        """Add all charges, or none of them where one does not fit."""
        now = self._clock()
        with self._lock:
            if now >= self._next_sweep:
                self._sweep(now)
            full = self._first_full(charges)
            if full is None:
                self._add(charges, now)
            return full

    def _first_full(self, charges: Sequence[Charge]) -> Full | None:
        counts = self._counts
        for index, (key, amount, limit, _, before, share) in enumerate(charges):
            if limit is None:
                continue
            used, earlier = counts.get(key, 0), counts.get(before, 0) if before else 0
            if counted(used, earlier, share) + amount > limit:
                return Full(index, used, earlier)
        return None

    def _add(self, charges: Sequence[Charge], now: float) -> None:
        counts, ends = self._counts, self._ends
        for charge in charges:
            key = charge.key
            if key not in counts:
                ends[key] = now + charge.lasts
            counts[key] = added(counts.get(key, 0), charge.amount)

    def _sweep(self, now: float) -> None:
        for key in [key for key, end in self._ends.items() if end <= now]:
            del self._counts[key], self._ends[key]
        self._next_sweep = now + _SWEEP_EVERY

    async def counts(self, keys: Sequence[str]) -> list[int]:
        """Return the counts of these keys."""
        return [self._counts.get(key, 0) for key in keys]

    def close(self) -> None:
        """Do nothing: there are no connections."""

    async def aclose(self) -> None:
        """Do nothing: there are no connections."""

    def __len__(self) -> int:
        return len(self._counts)

    def __repr__(self) -> str:
        return "<MemoryState>"
