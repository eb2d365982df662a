"""One build at a time for each object, however many threads and tasks ask for it.

A flight is one build on its way. Who needs an object that is on its way waits for the flight
to land, after making sure that the flight does not wait for them in turn: that one check
finds recursion within a thread, deadlocks between threads, and tasks that wait in a circle.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from threading import Lock, get_ident
from typing import Any, Final, Protocol

from kor_core.errors import ContainerError

__all__ = ["Flight", "Goal", "current_flight", "is_pending", "running_loop", "take_off"]


class Goal(Protocol):
    """What is being built."""

    path: str


class Flight:
    """One build on its way.

    Args:
        goal: what is being built.
        wanted_by: the build that needs it, if one does.
        loop: the event loop it runs on, if it does.
    """

    __slots__ = (
        "_callbacks",
        "_gate",
        "error",
        "goal",
        "landed",
        "loop",
        "task",
        "thread",
        "waits_for",
        "wanted_by",
    )

    def __init__(
        self,
        goal: Goal,
        wanted_by: "Flight | None",
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.goal = goal
        self.wanted_by = wanted_by
        self.loop = loop
        self.task = None if loop is None else asyncio.current_task()
        self.thread = get_ident()
        self.waits_for: Flight | None = None
        self.landed = False
        self.error: Exception | None = None
        self._gate = Lock()
        self._gate.acquire()
        self._callbacks: list[Callable[[], object]] = []

    def embark(self) -> "Token[Flight | None]":
        """Start building: what runs from now on is part of it."""
        if self.wanted_by is not None:
            self.wanted_by.waits_for = self
        return _CURRENT.set(self)

    def land(self, token: "Token[Flight | None]") -> None:
        """The build has ended, well or not: let everybody go on who waits."""
        _CURRENT.reset(token)
        if self.wanted_by is not None:
            self.wanted_by.waits_for = None
        del _FLYING[self.goal]
        self.landed = True
        self._gate.release()
        self._call_back()

    def wait(self, waiter: "Flight | None") -> None:
        """Block until it has landed.

        Raises:
            ContainerError: it would never land, since it waits for the waiter.
        """
        self._refuse_deadlock(waiter)
        if self.loop is not None and self.loop is running_loop():
            raise ContainerError(
                f"'{self.goal.path}' is being built by async code on this event loop, which a "
                f"synchronous call would stop. Use: await container.{self.goal.path}.async_()",
                path=self.goal.path,
            )
        with self._gate:
            pass
        self._reraise(waiter)

    async def wait_async(self, waiter: "Flight | None") -> None:
        """Wait until it has landed, as `wait` does."""
        self._refuse_deadlock(waiter)
        loop = asyncio.get_running_loop()
        landed = loop.create_future()
        self._callbacks.append(lambda: loop.call_soon_threadsafe(_settle, landed))
        if self.landed:
            self._call_back()
        await landed
        self._reraise(waiter)

    def fail(self, error: Exception) -> None:
        """Tell those who wait, and tell the error, once, on the way to what it happened."""
        self.error = error
        if not any(note.startswith(_NOTE) for note in getattr(error, "__notes__", ())):
            error.add_note(_NOTE + " ← ".join(self.route()))

    def route(self) -> Iterator[str]:
        """The paths from what was asked for down to what is being built."""
        if self.wanted_by is not None:
            yield from self.wanted_by.route()
        yield self.goal.path

    def _refuse_deadlock(self, waiter: "Flight | None") -> None:
        if waiter is None:
            return
        waiter.waits_for = self
        ahead: Flight | None = self
        trail = [waiter.goal.path]
        while ahead is not None and not ahead.landed:
            trail.append(ahead.goal.path)
            if ahead is waiter:
                raise _circle(trail)
            ahead = ahead.waits_for

    def _reraise(self, waiter: "Flight | None") -> None:
        if waiter is not None:
            waiter.waits_for = None
        if self.error is not None:
            raise self.error

    def _call_back(self) -> None:
        while self._callbacks:
            self._callbacks.pop()()


def _circle(trail: list[str]) -> ContainerError:
    written = " ← ".join(trail)
    return ContainerError(
        f"These bindings need each other to be built: {written}. Break the circle: let one of "
        "them take what it needs when it is used, not when it is constructed.",
        path=trail[0],
    )


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


_NOTE: Final = "while building "
_FLYING: Final[dict[Goal, Flight]] = {}
_CURRENT: Final[ContextVar[Flight | None]] = ContextVar("kor_flight", default=None)


def take_off(flight: Flight) -> Flight:
    """Register a flight; the one that is under way to the same goal already, if there is one."""
    # setdefault is atomic: of many threads exactly one sees its own flight come back.
    return _FLYING.setdefault(flight.goal, flight)


def current_flight() -> Flight | None:
    """The build that the running code is part of: a constructor that asks the container."""
    flight = _CURRENT.get()
    if flight is None or flight.landed or flight.thread != get_ident():
        return None
    # A task that a constructor started inherits its context, and is not part of the build.
    if flight.loop is not None and asyncio.current_task() is not flight.task:
        return None
    return flight


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def is_pending(result: Any) -> bool:
    """Whether a factory gave something to be awaited instead of an object."""
    # Almost nothing can be awaited at all, which is quicker to see.
    kind: type[object] = result.__class__
    if not hasattr(kind, "__await__"):
        return False
    return asyncio.iscoroutine(result) or asyncio.isfuture(result)
