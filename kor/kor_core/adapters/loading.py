"""Imports a heavy SDK beside the event loop, in a thread that ends with the import."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Any, Final

__all__ = ["load"]

_lock: Final = Lock()
_loaded: Final[dict[str, Any]] = {}
# Apart from what is loaded: a future holds on to the loops that waited for it.
_loading: Final[dict[str, Future[None]]] = {}


async def load(name: str, importing: Callable[[], Any]) -> Any:
    """Return what ``importing`` returns, run once, with the event loop free in the meantime.

    The loop's own pool of threads would do, but its threads stay until the loop ends.

    Args:
        name: of what is imported; however many ask at once, it is imported once.
        importing: imports it. When it fails, the next who asks tries again.
    """
    if name not in _loaded:
        with _lock:
            future = _loading.get(name)
            if future is None and name not in _loaded:
                future = _started(name, importing)
        if future is not None:
            await asyncio.wrap_future(future)
    return _loaded[name]


def _started(name: str, importing: Callable[[], Any]) -> Future[None]:
    future = _loading[name] = Future[None]()
    future.set_running_or_notify_cancel()  # a caller that is cancelled harms nobody
    work = Thread(
        target=_import, args=(name, future, importing), name=f"kor-import-{name}", daemon=True
    )
    work.start()
    return future


def _import(name: str, future: Future[None], importing: Callable[[], Any]) -> None:
    try:
        _loaded[name] = importing()
    except BaseException as error:  # noqa: BLE001  # handed to whoever waits
        _forget(name)
        future.set_exception(error)
    else:
        _forget(name)
        future.set_result(None)


def _forget(name: str) -> None:
    with _lock:
        del _loading[name]
