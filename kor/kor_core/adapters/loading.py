"""Imports a heavy SDK beside the event loop, in a thread that ends with the import."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Any, Final

__all__ = ["load"]

_lock: Final = Lock()
_loads: Final[dict[str, Future[Any]]] = {}


async def load(name: str, importing: Callable[[], Any]) -> Any:
    """Return what ``importing`` returns, run once, with the event loop free in the meantime.

    The loop's own pool of threads would do, but its threads stay until the loop ends.

    Args:
        name: of what is imported; however many ask at once, it is imported once.
        importing: imports it. When it fails, the next who asks tries again.
    """
    with _lock:
        future = _loads.get(name) or _started(name, importing)
    return future.result() if future.done() else await asyncio.wrap_future(future)


def _started(name: str, importing: Callable[[], Any]) -> Future[Any]:
    future = _loads[name] = Future[Any]()
    future.set_running_or_notify_cancel()  # a caller that is cancelled harms nobody
    work = Thread(
        target=_import, args=(name, future, importing), name=f"kor-import-{name}", daemon=True
    )
    work.start()
    return future


def _import(name: str, future: Future[Any], importing: Callable[[], Any]) -> None:
    try:
        result = importing()
    except BaseException as error:  # noqa: BLE001  # handed to whoever waits
        with _lock:
            del _loads[name]
        future.set_exception(error)
    else:
        with _lock:
            # A new one: a future that was waited for holds on to the loops of those who did.
            _loads[name] = _finished(result)
        future.set_result(result)


def _finished(result: Any) -> Future[Any]:
    future = Future[Any]()
    future.set_result(result)
    return future
