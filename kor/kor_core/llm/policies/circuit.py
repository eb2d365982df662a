"""One circuit: what failed of late at one model, and whether it is asked."""

from collections import deque
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol
from weakref import ref

__all__ = ["CLOSED", "Circuit", "CircuitKey", "CircuitState", "Probe", "Reason"]

Reason = Literal["failures", "retry_after", "refused"]


class CircuitKey(NamedTuple):
    """What one circuit stands for.

    Args:
        tenant: whose calls; None for the application's own.
        provider: id of the provider.
        model: name of the model.
        credential: which key, endpoint and catalogue, by :meth:`Breakers.fingerprint`; never a
            key.
    """

    tenant: str | None
    provider: str
    model: str
    credential: str = ""


@dataclass(frozen=True, slots=True)
class CircuitState:
    """How a circuit stands, for the selection and for ``explain``.

    Args:
        state: ``closed`` lets all through, ``open`` none, ``half_open`` one.
        reason: why it opened: too many ``failures``, a ``retry_after``, or ``refused`` for
            the key, its rights or its quota. None while closed.
        error: name of the class of the last error.
        failures: how many were counted within the window.
        left: seconds until an open circuit may be tried.
        probing: whether a half-open one is being tried just now.

    >>> print(CircuitState("open", "failures", "ProviderError", failures=5, left=12.3))
    open for another 12.3 s: 5 failures, the last one a ProviderError
    """

    state: Literal["closed", "open", "half_open"]
    reason: Reason | None = None
    error: str | None = None
    failures: int = 0
    left: float = 0.0
    probing: bool = False

    @property
    def cooled(self) -> bool:
        """Whether the model is only asked after the others: it is never turned away."""
        return self.reason == "refused" and (self.state == "open" or self.probing)

    @property
    def blocked(self) -> bool:
        """Whether the model is not asked at all for now."""
        return self.reason not in {None, "refused"} and (self.state == "open" or self.probing)

    def __str__(self) -> str:
        if self.state == "closed":
            return "closed"
        for_now = f"open for another {self.left:.1f} s" if self.left else "half open"
        return f"{for_now}: {self._why()}"

    def _why(self) -> str:
        if self.reason == "failures":
            return f"{self.failures} failures, the last one a {self.error}"
        asked = "the provider asked to be left alone: " if self.reason == "retry_after" else ""
        return f"{asked}{self.error}"


CLOSED: Final = CircuitState("closed")


class Probe(Protocol):
    """The one request that a half-open circuit lets through."""

    done: bool


class Circuit:
    """Failures of late; changed under the lock of the breakers alone.

    Args:
        failures: how many are remembered.
    """

    __slots__ = ("_times", "error", "opening", "probe", "reason", "until")

    def __init__(self, failures: int) -> None:
        self._times: deque[float] = deque(maxlen=failures)
        self.opening = 0  # the number of the opening; 0 while closed
        self.until = 0.0
        self.reason: Reason | None = None
        self.error: str | None = None
        self.probe: ref[Probe] | None = None

    @property
    def probing(self) -> bool:
        """Whether a probe is on its way; one that was lost with its task is not."""
        guard = self.probe() if self.probe is not None else None
        return guard is not None and not guard.done

    def failed(self, error: str, now: float) -> None:
        """Take in a failure."""
        self._times.append(now)
        self.error = error

    def open(self, opening: int, reason: Reason, until: float) -> None:
        """Open it, or open it anew."""
        self.until = max(until, self.until)
        self.reason = reason
        self.probe = None
        self.opening = opening  # last: it is read without the lock

    def count_since(self, then: float) -> int:
        """Return how many failures came after a time."""
        return sum(1 for at in self._times if at > then)

    def state(self, now: float, window: float) -> CircuitState:
        """Return how it stands."""
        failures = self.count_since(now - window)
        if not self.opening:
            return CircuitState("closed", None, self.error, failures)
        left = max(0.0, self.until - now)
        state: Literal["open", "half_open"] = "open" if left else "half_open"
        return CircuitState(state, self.reason, self.error, failures, left, self.probing)
