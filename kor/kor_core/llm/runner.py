"""The event loop behind the sync twins: one, in a thread of its own, started on first use.

A sync call inside a running loop (a notebook, a handler that is not async) cannot borrow
that loop, and a loop per call would drop every connection. So all sync calls share this
one: they work from any thread and keep their connections warm.
"""

import asyncio
import atexit
import os
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context, copy_context
from threading import Lock, Thread, current_thread
from typing import Any, Generic, TypeVar

from kor_core.errors import KorError

__all__ = ["run"]

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the shared loop and return its result.

    The caller's context variables are visible inside. When the wait is interrupted
    (Ctrl-C), the coroutine is cancelled.

    Raises:
        KorError: called from the shared loop itself, where waiting would never end.

    >>> async def answer() -> int:
    ...     return 42
    >>> run(answer())
    42
    """
    return _runner.run(coroutine)


class _Runner:
    def __init__(self) -> None:
        self._lock = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if current_thread() is self._thread:
            coroutine.close()
            raise KorError(
                "A sync method was called from async code that itself runs inside a sync call. "
                "Await the async twin there: `await model.agenerate(…)`."
            )
        loop = self._running_loop()
        work: _Work[T] = _Work(coroutine, copy_context())
        loop.call_soon_threadsafe(work.start)
        try:
            return work.future.result()
        finally:
            if not work.future.done():  # interrupted: nobody waits for the answer any more
                loop.call_soon_threadsafe(work.cancel)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = Thread(
                    target=self._loop.run_forever, name="kor-sync-calls", daemon=True
                )
                self._thread.start()
            return self._loop

    def stop(self) -> None:
        """End the loop as ``asyncio.run`` does, so that what hangs on it is closed in it."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_wind_down(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def forget(self) -> None:
        """Drop the loop in a forked child, where its thread does not run."""
        self._lock = Lock()
        self._loop = self._thread = None


class _Work(Generic[T]):
    """A coroutine on its way to the loop, and the future its caller waits on."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], context: Context) -> None:
        self.future: Future[T] = Future()
        self._coroutine = coroutine
        self._context = context

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._coroutine, context=self._context)
        self._task.add_done_callback(self._finish)

    def cancel(self) -> None:
        self._task.cancel()

    def _finish(self, task: asyncio.Task[T]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(task.result())


async def _wind_down() -> None:
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await loop.shutdown_asyncgens()
    # From 3.12 on no thread may start at exit, not even to wait for those of the executor, which
    # the interpreter has joined by then.
    with suppress(RuntimeError):
        await loop.shutdown_default_executor()


_runner = _Runner()
atexit.register(_runner.stop)
if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows does not fork
    os.register_at_fork(after_in_child=_runner.forget)
