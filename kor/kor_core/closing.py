"""What closes itself at the end of a ``with`` block, of either kind."""

from types import TracebackType
from typing import Self

__all__ = ["Closing"]


class Closing:
    """Makes a context manager, sync and async, of what has ``close()`` and ``aclose()``.

    >>> class Door(Closing):
    ...     def close(self) -> None:
    ...         print("closed")
    >>> with Door():
    ...     print("open")
    open
    closed
    """

    # No slots of its own: a base beside classes written in C.
    __slots__ = ()

    def close(self) -> None:
        """Close it."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close it from async code; by default as ``close`` does."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
