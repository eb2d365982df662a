"""Imports a heavy SDK beside the event loop, in a thread that ends with the import."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Any, Final

__all__ = ["load"]

_lock: Final = Lock()
_loaded: dict[str, Future[Any]] = {}


async def load(name: str, importing: Callable[[], Any]) -> Any:
    """Return what ``importing`` returns, run once, with the event loop free in the meantime.

    The loop's own pool of threads would do, but its threads stay until the loop ends.

    Args:
        name: of what is imported; however many ask at once, it is imported once.
        importing: imports it. When it fails, the next who asks tries again.
    """
    with _lock:
        future = _loaded.get(name)
        if future is None or (future.done() and future.exception() is not None):
            future = _loaded[name] = Future()
            future.set_running_or_notify_cancel()  # a caller that is cancelled harms nobody
            thread = Thread(
                target=_import, args=(future, importing), name=f"kor-import-{name}", daemon=True
            )
            thread.start()
    return future.result() if future.done() else await asyncio.wrap_future(future)


def _import(future: Future[Any], importing: Callable[[], Any]) -> None:
    try:
        result = importing()
    except BaseException as error:  # noqa: BLE001  # handed to whoever waits
        future.set_exception(error)
    else:
        future.set_result(result)
