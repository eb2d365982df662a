"""How many requests run at once: gates with a queue that is fair between tenants.

A gate serves every event loop of the process. A free place is taken and given back by single
operations of a deque, which are atomic; only who has to wait takes a lock, and nothing waits
for one while a place is given back, since that may happen in the garbage collector.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from threading import Lock
from types import TracebackType
from typing import Final
from weakref import WeakValueDictionary

__all__ = ["Concurrency", "Gate", "Place"]

_FEW: Final = 16


class Concurrency:
    """The gates of those names that have a limit.

    A tenant that brings its own key or endpoint has gates of its own, with the same limits: what
    is slow there keeps no place from others.

    Args:
        limits: places by name, such as ``{"openai": 20, "openai:gpt-4": 5}``.

    >>> async def call(concurrency: Concurrency) -> str:
    ...     async with concurrency.place(("openai:gpt-4", "openai"), tenant="acme"):
    ...         return "the answer"
    >>> asyncio.run(call(Concurrency({"openai": 20})))
    'the answer'
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.gates: Final[Mapping[str, Gate]] = {
            name: Gate(limit) for name, limit in limits.items()
        }
        # Weak: a gate at which nobody is or waits is like a new one.
        self._of_accounts: WeakValueDictionary[tuple[str, str], Gate] = WeakValueDictionary()
        self._lock = Lock()

    def place(
        self, names: Iterable[str], tenant: str | None = None, account: str | None = None
    ) -> "Place":
        """Return a context manager that holds a place at each of the names with a limit.

        Args:
            names: always in the same order, the narrower first: a call that waits for a busy
                model must keep no place of the provider from others.
            tenant: whose call it is.
            account: whose key and endpoint are used; None for the operator's.
        """
        gates = self.gates
        if account is None:
            return Place(tuple(gates[name] for name in names if name in gates), tenant)
        own = tuple(self._gate_of(account, name) for name in names if name in gates)
        return Place(own, tenant)

    def _gate_of(self, account: str, name: str) -> "Gate":
        with self._lock:
            gate = self._of_accounts.get((account, name))
            if gate is None:
                gate = self._of_accounts[account, name] = Gate(self.gates[name].limit)
            return gate


class Place:
    """A place at several gates, for one ``async with``."""

    __slots__ = ("_gates", "_held", "_tenant")

    def __init__(self, gates: "tuple[Gate, ...]", tenant: str | None) -> None:
        self._gates = gates
        self._tenant = tenant
        self._held: list[Gate] = []

    async def __aenter__(self) -> None:
        try:
            for gate in self._gates:
                if not gate.enter():
                    await gate.wait(self._tenant)
                self._held.append(gate)
        except BaseException:  # cancelled in a later queue
            self._leave()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        while self._held:
            self._held.pop().leave()


class Gate:
    """A number of places, and a queue of those who wait for one.

    Tenants that wait are served in turn, the calls of one in the order in which they came.

    Args:
        limit: places, at least one.
    """

    __slots__ = ("__weakref__", "_free", "_gone", "_lock", "_queues", "limit")

    def __init__(self, limit: int) -> None:
        self.limit: Final = limit
        self._free = deque(range(limit))
        self._lock = Lock()
        # In the order of their turns; only tenants that wait have a queue.
        self._queues: OrderedDict[str | None, deque[_Waiter]] = OrderedDict()
        self._gone = 0  # at least as many as are still in the queues

    @property
    def free(self) -> int:
        """Places that nobody holds."""
        return len(self._free)

    @property
    def waiting(self) -> int:
        """Calls that wait for a place, by all tenants."""
        with self._lock:
            return sum(waiter.waits for queue in self._queues.values() for waiter in queue)

    def enter(self) -> bool:
        """Take a place that is free where nobody waits for one; say whether there was one."""
        if self._queues:
            return False
        try:
            self._free.pop()
        except IndexError:
            return False
        return True

    async def wait(self, tenant: str | None = None) -> None:
        """Take a place, in turn.

        Cancelled at whatever moment, also that of being served, no place is lost.
        """
        waiter = _Waiter()
        self._queue(tenant, waiter)
        try:
            await waiter.future
        except BaseException:  # cancelled, or thrown away with its loop
            self._gone += 1
            if waiter.give_up():
                self.leave()
            raise

    def leave(self) -> None:
        """Give a place back; whoever is next gets it."""
        self._free.append(0)
        self._serve()

    def _queue(self, tenant: str | None, waiter: "_Waiter") -> None:
        with self._lock:
            self._forget_gone()
            self._queues.setdefault(tenant, deque()).append(waiter)
        self._serve()  # a place may have become free in between

    def _serve(self) -> None:
        """Hand free places on.

        Where another thread is at it, it looks again once it is done, and finds ours too.
        """
        while self._free and self._queues and self._lock.acquire(blocking=False):
            try:
                self._hand_on()
            finally:
                self._lock.release()

    def _hand_on(self) -> None:
        while self._queues:
            try:
                self._free.pop()
            except IndexError:
                return
            if not self._serve_next():
                self._free.append(0)

    def _serve_next(self) -> bool:
        """Serve the first of the tenant whose turn it is; say whether anybody still waited."""
        tenant, queue = next(iter(self._queues.items()))
        served = False
        while queue and not served:
            served = queue.popleft().serve()
        if queue:
            self._queues.move_to_end(tenant)
        else:
            del self._queues[tenant]
        return served

    def _forget_gone(self) -> None:
        """Drop those who left, before they outnumber those who wait."""
        if self._gone <= max(_FEW, sum(map(len, self._queues.values())) // 2):
            return
        self._gone = 0
        for tenant, queue in list(self._queues.items()):
            still = deque(waiter for waiter in queue if waiter.waits)
            if still:
                self._queues[tenant] = still
            else:
                del self._queues[tenant]


class _Waiter:
    """One call in a queue, on a loop of its own."""

    __slots__ = ("_loop", "_returned", "_settled", "future")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future = self._loop.create_future()
        # Each is for the first who acquires it, and never released.
        self._settled = Lock()  # whether it is served or gives up
        self._returned = Lock()  # who returns a place that it cannot use

    @property
    def waits(self) -> bool:
        return not self._settled.locked()

    def serve(self) -> bool:
        """Say that it has a place, and return whether it took it."""
        if not self._settled.acquire(blocking=False):
            return False
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # its loop is closed: it will never run again
            return not self._returned.acquire(blocking=False)
        return True

    def give_up(self) -> bool:
        """Wait no longer, and return whether there is a place to give back."""
        served = not self._settled.acquire(blocking=False)
        return served and self._returned.acquire(blocking=False)

    def _wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)
