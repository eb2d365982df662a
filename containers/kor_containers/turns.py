"""One builds, the others wait: the same thing is not built twice at once, in threads or tasks."""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Lock

__all__ = ["Turn", "Turns"]


class Turn:
    """Somebody is building; the future is done when they end.

    Its result says nothing: those who waited look again, since the builder may have been
    cancelled. Its exception is what building raised.
    """

    __slots__ = ("future", "loop")

    def __init__(self) -> None:
        self.future: Future[None] = Future()
        # Not to be cancelled by a waiter: asyncio would pass its own cancellation on.
        self.future.set_running_or_notify_cancel()
        self.loop = _running_loop()

    @property
    def waits_for_us(self) -> bool:
        """Whether the builder is a task of this very loop, which stops while we wait."""
        return self.loop is not None and self.loop is _running_loop()


class Turns:
    """Whose turn it is to build, by key."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._turns: dict[str, Turn] = {}

    def begin(self, key: str) -> tuple[Turn, bool]:
        """Return whose turn it is, and whether it is the caller's."""
        mine = Turn()
        with self._lock:
            turn = self._turns.setdefault(key, mine)
        return turn, turn is mine

    @contextmanager
    def building(self, key: str, turn: Turn) -> Generator[None]:
        """End a turn with the block, and tell those who wait how."""
        try:
            yield
        except Exception as error:
            self._end(key, turn)
            turn.future.set_exception(error)
            raise
        except BaseException:  # cancelled: one of those who wait builds
            self._end(key, turn)
            turn.future.set_result(None)
            raise
        else:
            self._end(key, turn)
            turn.future.set_result(None)

    def _end(self, key: str, turn: Turn) -> None:
        with self._lock:
            if self._turns.get(key) is turn:
                del self._turns[key]


def _running_loop() -> AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
