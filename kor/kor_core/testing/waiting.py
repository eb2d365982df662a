"""Waiting for what another thread does, with a deadline."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

__all__ = ["await_until", "wait_until"]

# Seconds between two looks: short beside a test, long beside a look.
_PAUSE: Final = 0.002


def wait_until(condition: Callable[[], bool], timeout: float, what: str) -> None:
    """Block until ``condition()`` holds.

    Args:
        condition: a look that changes nothing.
        timeout: seconds after which to give up.
        what: what is waited for, for the error.

    Raises:
        TimeoutError: it did not hold in time.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        _check(deadline, timeout, what)
        time.sleep(_PAUSE)


async def await_until(condition: Callable[[], bool], timeout: float, what: str) -> None:  # noqa: ASYNC109  # the twin of wait_until
    """Wait as :func:`wait_until` does, without blocking the event loop."""
    deadline = time.monotonic() + timeout
    while not condition():
        _check(deadline, timeout, what)
        await asyncio.sleep(_PAUSE)


def _check(deadline: float, timeout: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"Waited {timeout:g} s for {what}, in vain.")
