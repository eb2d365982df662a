"""Deadlines that end in an error of KOR."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from kor_core.errors import LLMTimeoutError

__all__ = ["too_late", "within"]


@asynccontextmanager
async def within(
    limit: asyncio.Timeout, late: Callable[[], LLMTimeoutError]
) -> AsyncGenerator[None]:
    """Hold a block to a deadline.

    Args:
        limit: the deadline; the block's own timeouts pass through.
        late: makes the error that is raised when it has passed.

    >>> async def slow() -> None:
    ...     async with within(asyncio.timeout(0.01), lambda: too_late(0.01)):
    ...         await asyncio.sleep(60)
    >>> asyncio.run(slow())
    Traceback (most recent call last):
    kor_core.errors.LLMTimeoutError: No answer within the deadline of 0.01 s. ...
    """
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
    else:
        return
    try:
        raise late()
    except LLMTimeoutError as error:
        # The cancelled block is still its context here, and frames of that may hold keys.
        error.__context__ = None
        raise


def too_late(
    seconds: float, *, provider: str | None = None, model: str | None = None
) -> LLMTimeoutError:
    """Return the error of a call whose deadline has passed."""
    return LLMTimeoutError(
        f"No answer within the deadline of {seconds:g} s. Raise `timeout` if that is too short.",
        provider=provider,
        model=model,
    )
