"""Circuit breakers: a model that fails is left alone for a while, and then tried by one call.

A circuit is kept only for what failed of late. Where all is well there is none, and a call
costs a look into a dict.
"""

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from heapq import heapify, heapreplace
from itertools import count
from threading import Lock
from types import TracebackType
from typing import Final, Self
from weakref import ref

from kor_core.errors import KorError, LLMError
from kor_core.llm.policies.circuit import CLOSED, Circuit, CircuitKey, CircuitState, Reason
from kor_core.llm.policies.reactions import Health, asked_wait, reaction_to

__all__ = ["Breakers", "Guard"]

# Seconds after which an open circuit is forgotten, when nobody came to try it.
_UNTRIED_FOR: Final = 600.0
_FEW: Final = 64


class Breakers:
    """The circuits of all tenants and models.

    They outlive settings and selectors: reloading the configuration changes no circuit.

    Args:
        failures: failed requests within the window that open a circuit.
        window: seconds.
        open_for: seconds that a circuit stays open, unless the provider names a time.
        longest: seconds; a provider that names a longer time is not believed.
        most: circuits that are kept; beyond, a quarter is forgotten: the oldest
            of the tenants that have the most.
        clock: seconds, never going back.

    >>> from contextlib import suppress
    >>> from kor_core.errors import ProviderError
    >>> breakers, key = Breakers(failures=1), CircuitKey(None, "openai", "gpt-4")
    >>> with suppress(ProviderError), breakers.admit(key):
    ...     raise ProviderError("The provider failed.")
    >>> breakers.admit(key) is None
    True
    """

    def __init__(
        self,
        *,
        failures: int = 5,
        window: float = 60.0,
        open_for: float = 30.0,
        longest: float = 3600.0,
        most: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures = failures
        self._window = window
        self._open_for = open_for
        self._longest = longest
        self._most = most
        self._clock = clock
        self._salt = secrets.token_bytes(32)
        self._openings = count(1)
        self._circuits: dict[CircuitKey, Circuit] = {}
        self._sweep_at = _FEW
        # Never taken while a guard is let go of: that may happen in the middle of anything.
        self._lock = Lock()

    def fingerprint(self, *parts: str) -> str:
        """Return what tells keys and endpoints apart without revealing them.

        The same for the same texts within this object, and of no use outside of it. Compute it
        once for a model, not at each call.
        """
        digest = blake2b(key=self._salt, digest_size=12)
        for part in parts:
            data = part.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "big") + data)
        return digest.hexdigest()

    # --- calls ---

    def admit(self, key: CircuitKey) -> "Guard | None":
        """Let one request through, or return None where the circuit is open.

        A circuit that opened because of a refused key, missing rights or a spent quota turns
        nobody away: it says in its state that others are to be asked first.
        """
        circuit = self._circuits.get(key)
        if circuit is None or not circuit.opening:
            return Guard(self, key)
        with self._lock:
            return self._through(key, self._circuits.get(key))

    def would_admit(self, key: CircuitKey, after: float = 0.0) -> bool:
        """Say whether a request would be let through, as things stand, in so many seconds."""
        circuit = self._circuits.get(key)
        if circuit is None or not circuit.opening or circuit.reason == "refused":
            return True
        return self._clock() + after >= circuit.until and not circuit.probing

    def _through(self, key: CircuitKey, circuit: "Circuit | None") -> "Guard | None":
        if circuit is None or not circuit.opening:
            return Guard(self, key)
        if self._clock() >= circuit.until and not circuit.probing:
            probe = Guard(self, key, circuit.opening, probe=True)
            circuit.probe = ref(probe)
            return probe
        return Guard(self, key, circuit.opening) if circuit.reason == "refused" else None

    # --- outcomes, told by guards ---

    def _succeeded(self, key: CircuitKey, opening: int) -> None:
        with self._lock:
            circuit = self._circuits.get(key)
            # A request from before it opened says nothing of what came since.
            if circuit is not None and circuit.opening == opening:
                del self._circuits[key]

    def _failed(self, guard: "Guard", error: KorError) -> None:
        with self._lock:
            now = self._clock()
            circuit = self._circuits.get(guard.key) or self._new(guard.key, now)
            circuit.failed(type(error).__name__, now)
            opening = self._opening(circuit, guard, error, now)
            if opening is not None:
                circuit.open(next(self._openings), *opening)

    def _opening(
        self, circuit: "Circuit", guard: "Guard", error: KorError, now: float
    ) -> tuple[Reason, float] | None:
        """Return why and until when a failure opens the circuit, or None."""
        asked = min(asked_wait(error), self._longest)
        if reaction_to(error).health is Health.REFUSING:
            return "refused", now + max(asked, self._open_for)
        if asked:
            return "retry_after", now + asked
        trying = guard.probe and guard.opening == circuit.opening
        counts = not circuit.opening or circuit.reason == "refused"
        if trying or (counts and circuit.count_since(now - self._window) >= self._failures):
            return "failures", now + self._open_for
        return None

    # --- memory ---

    def _new(self, key: CircuitKey, now: float) -> "Circuit":
        if len(self._circuits) >= self._sweep_at:
            self._sweep(now)
        circuit = self._circuits[key] = Circuit(self._failures)
        return circuit

    def _sweep(self, now: float) -> None:
        """Forget what is idle; seldom enough to cost each new circuit next to nothing."""
        for key in [key for key, circuit in self._circuits.items() if self._idle(circuit, now)]:
            del self._circuits[key]
        if len(self._circuits) >= self._most:
            # Many at a time, so that not every new one has to look through all.
            for key in _oldest_of_the_largest(self._circuits, max(1, self._most // 4)):
                del self._circuits[key]
        self._sweep_at = min(max(_FEW, 2 * len(self._circuits)), self._most)

    def _idle(self, circuit: "Circuit", now: float) -> bool:
        if circuit.opening:
            return now > circuit.until + _UNTRIED_FOR and not circuit.probing
        return not circuit.count_since(now - self._window)

    def forget(self, which: Callable[[CircuitKey], bool]) -> None:
        """Forget the circuits of these keys, such as those of a tenant that is gone.

        >>> Breakers().forget(lambda key: key.tenant == "acme")
        """
        with self._lock:
            for key in [key for key in self._circuits if which(key)]:
                del self._circuits[key]

    # --- explanation ---

    def state(self, key: CircuitKey) -> CircuitState:
        """Return how a circuit stands; closed where there is none."""
        circuit = self._circuits.get(key)
        if circuit is None:
            return CLOSED
        with self._lock:
            return circuit.state(self._clock(), self._window)

    def snapshot(self) -> Mapping[CircuitKey, CircuitState]:
        """Return how the circuits stand that had a failure of late."""
        with self._lock:
            now = self._clock()
            return {
                key: circuit.state(now, self._window) for key, circuit in self._circuits.items()
            }


def _oldest_of_the_largest(keys: Iterable[CircuitKey], number: int) -> Iterator[CircuitKey]:
    """Yield so many keys, each time the oldest of the tenant that has the most left.

    A tenant that fails with thousands of models makes nobody forget what failed at others.
    """
    by_tenant: dict[str | None, deque[CircuitKey]] = {}
    for key in keys:
        by_tenant.setdefault(key.tenant, deque()).append(key)
    heap = [(-len(queue), turn, queue) for turn, queue in enumerate(by_tenant.values())]
    heapify(heap)
    for _ in range(number):
        size, turn, queue = heap[0]
        yield queue.popleft()
        heapreplace(heap, (size + 1, turn, queue))


class Guard:
    """One request that was let through; it is told how that ended, once.

    As a context manager it sees for itself: no exception is success, an error of KOR is judged
    by the table of reactions, and anything else, such as a cancellation, counts as nothing.
    """

    # Weakly referenced, so that a probe that is lost with its task gives its place back.
    __slots__ = ("__weakref__", "_breakers", "done", "key", "opening", "probe")

    def __init__(
        self, breakers: Breakers, key: CircuitKey, opening: int = 0, *, probe: bool = False
    ) -> None:
        self._breakers = breakers
        self.key: Final = key
        self.opening: Final = opening
        self.probe: Final = probe
        self.done = False

    def succeeded(self) -> None:
        """Take note that the model answered."""
        if self.opening and not self.done:
            self._breakers._succeeded(self.key, self.opening)  # noqa: SLF001  # one mechanism
        self.done = True

    def failed(self, error: KorError) -> None:
        """Take note of an error, for what it says of the model."""
        health = reaction_to(error).health
        if health is Health.ANSWERED and isinstance(error, LLMError) and error.status is not None:
            self.succeeded()
        elif health in {Health.FAILING, Health.REFUSING} and not self.done:
            self._breakers._failed(self, error)  # noqa: SLF001  # one mechanism
        # Last: until the circuit knows, a probe keeps its place.
        self.done = True

    def released(self) -> None:
        """Take note of nothing; a probe gives its place back."""
        self.done = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.succeeded()
        elif isinstance(error, KorError):
            self.failed(error)
        else:
            self.released()
