"""How fast models have been of late: decaying averages of the time to the first token."""

import time
from collections.abc import Callable, Hashable, Mapping
from math import isfinite
from threading import Lock
from typing import Final, NamedTuple

from kor_core.llm.policies.circuit import CircuitKey

__all__ = ["Latencies"]

# After so many half-lives a figure says nothing of now.
_FORGOTTEN_AFTER: Final = 10


class _Average(NamedTuple):
    total: float
    weight: float
    at: float

    def later(self, seconds: float, now: float, half_life: float) -> "_Average":
        kept: float = 0.5 ** (max(0.0, now - self.at) / half_life)
        return _Average(self.total * kept + seconds, self.weight * kept + 1, now)


_NOTHING: Final[Mapping[Hashable, _Average]] = {}


class Latencies:
    """Averages by model, in which what was seen a half-life ago weighs half.

    Args:
        half_life: seconds.
        most: models that are remembered; beyond, one of the tenant with the most goes, of these
            the one unheard of for longest.
        clock: seconds, never going back.

    >>> latencies = Latencies(clock=lambda: 0.0)
    >>> latencies.note("openai:gpt-4", 0.2)
    >>> latencies.note("openai:gpt-4", 0.4)
    >>> round(latencies.of("openai:gpt-4"), 3)
    0.3
    >>> latencies.of("openai:gpt-5") is None
    True
    """

    def __init__(
        self,
        half_life: float = 300.0,
        *,
        most: int = 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._half_life = half_life
        self._most = most
        self._clock = clock
        self._lock = Lock()
        self._count = 0
        self._averages: dict[Hashable, dict[Hashable, _Average]] = {}  # by tenant

    def note(self, model: Hashable, seconds: float) -> None:
        """Take in the time that one answer took to begin; what is no time is left out."""
        if not (isfinite(seconds) and seconds >= 0):
            return
        now = self._clock()
        with self._lock:
            averages = self._averages.setdefault(_tenant_of(model), {})
            before = averages.pop(model, None)
            self._count += before is None
            # Put in anew, so that the first one is the one unheard of for longest.
            averages[model] = (before or _Average(0.0, 0.0, now)).later(
                seconds, now, self._half_life
            )
            if self._count > self._most:
                self._drop()

    def _drop(self) -> None:
        # Whoever asks the most makes room: what is known of others' models stays.
        tenant = max(self._averages, key=lambda each: len(self._averages[each]))
        averages = self._averages[tenant]
        del averages[next(iter(averages))]
        self._count -= 1
        if not averages:
            del self._averages[tenant]

    def of(self, model: Hashable) -> float | None:
        """Return the average in seconds, or None where nothing is known of late."""
        average = self._averages.get(_tenant_of(model), _NOTHING).get(model)
        if average is None or self._clock() - average.at > _FORGOTTEN_AFTER * self._half_life:
            return None
        return average.total / average.weight

    def snapshot(self) -> Mapping[Hashable, float]:
        """Return every average that is known, in seconds."""
        with self._lock:
            models = [model for averages in self._averages.values() for model in averages]
        known = ((model, self.of(model)) for model in models)
        return {model: seconds for model, seconds in known if seconds is not None}


def _tenant_of(model: Hashable) -> Hashable:
    return model.tenant if isinstance(model, CircuitKey) else None
