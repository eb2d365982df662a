"""An event loop in a thread of its own, on which the servers for tests run."""

import asyncio
from collections.abc import Coroutine
from threading import Event, Thread
from typing import Any, Final, TypeVar

__all__ = ["Background"]

T = TypeVar("T")

# Seconds after which starting, stopping or a step in between counts as stuck.
_DEADLINE: Final = 10.0


class Background:
    """Runs coroutines in its thread until it is stopped; then nothing of it is left.

    >>> async def answer() -> int:
    ...     return 42
    >>> background = Background("docs")
    >>> background.start()
    >>> background.run(answer())
    42
    >>> background.stop()
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._ready = Event()
        self._thread: Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event

    def start(self) -> None:
        """Start the thread, and wait until its loop runs."""
        # A daemon: a test that forgets to close does not keep the interpreter from exiting.
        self._thread = Thread(target=self._main, name=self._name, daemon=True)
        self._thread.start()
        self._ready.wait(_DEADLINE)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, and wait for what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_DEADLINE)

    def stop(self) -> None:
        """Cancel what still runs, close the loop and end the thread."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_DEADLINE)
            self._thread = None

    def _main(self) -> None:
        asyncio.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._ready.set()
        await self._stopping.wait()
