"""One object for each event loop, closed when the loop ends.

A connection belongs to the loop it was opened in: used from another one it fails.
"""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from threading import Lock
from typing import Any, Final, Generic, TypeVar

__all__ = ["PerLoop"]

T = TypeVar("T")


class PerLoop(Generic[T]):
    """The objects by loop.

    Args:
        make: makes one for the running loop.
        end: closes one, in its loop.
    """

    def __init__(self, make: Callable[[], T], end: Callable[[T], Awaitable[Any]]) -> None:
        self._make = make
        self._end = end
        self._held: dict[AbstractEventLoop, tuple[T, AsyncGenerator[None]]] = {}
        self._lock = Lock()

    async def current(self) -> T:
        """Return the object of the running loop."""
        loop = asyncio.get_running_loop()
        held = self._held.get(loop)
        if held is None:
            self._drop_ended()
            made = self._make()
            held = made, self._until_the_loop_ends(loop, made)
            with self._lock:
                self._held[loop] = held
            # ``asyncio.run`` and every runner like it close, and wait for, the async generators
            # that were started in their loop before they close the loop.
            await anext(held[1])
        return held[0]

    async def _until_the_loop_ends(self, loop: AbstractEventLoop, made: T) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(loop, None)
            await self._end(made)

    def _drop_ended(self) -> None:
        """Let go of what belonged to loops that were closed without ending what ran in them."""
        with self._lock:
            for loop in [loop for loop in self._held if loop.is_closed()]:
                del self._held[loop]

    def __len__(self) -> int:
        return len(self._held)

    async def aclose(self) -> None:
        """Close all: that of this loop here, the others in theirs."""
        running = asyncio.get_running_loop()
        for loop, (_, lifetime) in self._taken():
            if loop is running:
                await lifetime.aclose()
            else:
                self._close_in(loop, lifetime)

    def close(self) -> None:
        """Close each in its own loop, without waiting for it."""
        for loop, (_, lifetime) in self._taken():
            self._close_in(loop, lifetime)

    def _taken(self) -> list[tuple[AbstractEventLoop, tuple[T, AsyncGenerator[None]]]]:
        with self._lock:
            return list(self._held.items())

    def _close_in(self, loop: AbstractEventLoop, lifetime: AsyncGenerator[None]) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(_started, loop, lifetime)


def _started(loop: AbstractEventLoop, lifetime: AsyncGenerator[None]) -> None:
    task = loop.create_task(lifetime.aclose())
    _closing.add(task)  # a loop itself holds its tasks but weakly
    task.add_done_callback(_closing.discard)


_closing: Final[set[asyncio.Task[None]]] = set()
