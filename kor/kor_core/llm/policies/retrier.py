"""When the same model is asked once more: exponential backoff with full jitter.

Full jitter, because callers that failed together would otherwise come back together:
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from kor_core.errors import KorError
from kor_core.llm.policies.reactions import asked_wait, reaction_to

__all__ = ["Retrier"]

# 2 to the power of more is no float; the cap holds long before.
_MOST_DOUBLINGS = 64


@dataclass(frozen=True, slots=True)
class Retrier:
    """Decides how long to wait before the next request to the same model.

    Args:
        retries: requests after the first one.
        base: seconds; the first wait is somewhere between none and this, each later one
            between none and twice the last bound.
        cap: seconds that no bound exceeds.
        patience: seconds; a provider that asks for a longer wait is not waited for.
        random: returns a number from 0 up to 1.

    >>> from kor_core.errors import RateLimitError
    >>> retrier = Retrier(random=lambda: 0.5)
    >>> retrier.wait_before(RateLimitError("Slow down."), attempt=1, left=None)
    0.25
    >>> retrier.wait_before(RateLimitError("Slow down.", retry_after=3), attempt=1, left=None)
    3.25
    >>> retrier.wait_before(RateLimitError("Slow down.", retry_after=3), attempt=1, left=2)
    """

    retries: int = 2
    base: float = 0.5
    cap: float = 8.0
    patience: float = 60.0
    random: Callable[[], float] = random.random

    def wait_before(self, error: KorError, attempt: int, left: float | None) -> float | None:
        """Return the seconds to wait before asking again, or None to go on at once.

        Args:
            error: how the last request ended.
            attempt: how many requests this model has had in this call, at least 1.
            left: seconds until the deadline of the call, or None.
        """
        asked = asked_wait(error)
        if attempt > self.retries or asked > self.patience or not reaction_to(error).retry:
            return None
        # On top of what was asked for: all who were refused together heard the same number.
        wait = asked + self._jitter(attempt)
        return wait if left is None or wait < left else None

    def _jitter(self, attempt: int) -> float:
        bound: float = self.base * 2.0 ** min(attempt - 1, _MOST_DOUBLINGS)
        return self.random() * min(self.cap, bound)
