"""Closing what was built: everything, in reverse order of creation, whatever fails."""

import asyncio
import inspect
from collections.abc import Iterable
from threading import Thread
from typing import Any, NamedTuple

from kor_containers.definitions import Closer

__all__ = ["Built", "aclose_all", "can_close", "close_all", "raise_together"]


def can_close(value: Any, closer: Closer | None) -> bool:
    """Whether there is anything to do for an object when its container is closed."""
    if closer is None:
        return False
    if closer:
        return True
    return not isinstance(value, type) and (hasattr(value, "close") or hasattr(value, "aclose"))


class Built(NamedTuple):
    """An object that a container built and will close.

    Args:
        path: the binding it was built for.
        value: the object.
        closer: how it is closed; "" for its own ``close()`` or ``aclose()``.
    """

    path: str
    value: Any
    closer: Closer | None

    def close(self) -> None:
        """Close it from sync code; a closer that is async runs on an event loop of its own."""
        result = self._call("close", "aclose")
        if inspect.isawaitable(result):
            _run(result)

    async def aclose(self) -> None:
        """Close it from async code."""
        result = self._call("aclose", "close")
        if inspect.isawaitable(result):
            await result

    def _call(self, *names: str) -> Any:
        if callable(self.closer):
            return self.closer(self.value)
        if self.closer:
            return getattr(self.value, self.closer)()
        for name in names:
            closer = getattr(self.value, name, None)
            if callable(closer):
                return closer()
        return None


def _run(awaitable: Any) -> None:
    """Wait for an async closer from sync code, inside a running loop too."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(_awaiting(awaitable))
        except BaseException as error:  # noqa: BLE001 # carried to the caller's thread
            failures.append(error)

    thread = Thread(target=run, name="kor-close")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


async def _awaiting(awaitable: Any) -> None:
    await awaitable


def close_all(built: Iterable[Built]) -> list[Exception]:
    """Close every object, the last built first; what went wrong comes back."""
    errors: list[Exception] = []
    for item in _last_first(built):
        try:
            item.close()
        except Exception as error:  # noqa: BLE001 # each closer runs, though others fail
            error.add_note(f"while closing {item.path}")
            errors.append(error)
    return errors


async def aclose_all(built: Iterable[Built]) -> list[BaseException]:
    """Close every object, the last built first, also when cancelled meanwhile."""
    errors: list[BaseException] = []
    for item in _last_first(built):
        try:
            await item.aclose()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 # each closer runs, though others fail
            error.add_note(f"while closing {item.path}")
            errors.append(error)
    return errors


def _last_first(built: Iterable[Built]) -> list[Built]:
    return list(built)[::-1]


def raise_together(errors: Iterable[BaseException], what: str) -> None:
    """Raise what closers raised as one group; a cancellation goes on as itself.

    Raises:
        ExceptionGroup: at least one closer failed.
    """
    failed = [error for error in errors if isinstance(error, Exception)]
    cancelled = [error for error in errors if not isinstance(error, Exception)]
    group = ExceptionGroup(f"{len(failed)} errors while closing {what}", failed) if failed else None
    if cancelled:
        raise cancelled[0] from group
    if group is not None:
        raise group
