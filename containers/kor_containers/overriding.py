"""One override in force: what it replaces, who asked for it, and how it ends."""

from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Any, Protocol

from kor_containers.callers import Caller
from kor_containers.levels import Replacement
from kor_containers.native import AnyProvider, Handed, is_provider

__all__ = ["Overridden", "Override"]


class Overridden(Protocol):
    """The container that an override is in force in."""

    def end(self, override: "Override") -> None:
        """End an override."""
        ...

    async def aend(self, override: "Override") -> None:
        """End an override from async code."""
        ...


class Override:
    """An override in force, from the moment it was made until it is left.

    It is a context manager, sync and async, and ends itself alone, whatever began after it;
    ending it twice is once.

    Args:
        owner: the container it is in force in.
        replacement: what it replaces, as read.
        given: what was handed in, by path.
        caller: who asked for it.
        entered: what ``with ... as`` gives.
        kept: the bindings that kept their objects, though they depend on what it replaces.
    """

    __slots__ = ("_entered", "caller", "given", "kept", "owner", "replacement")

    def __init__(
        self,
        owner: Overridden,
        replacement: Replacement,
        given: Mapping[str, Any],
        caller: Caller,
        entered: Any = None,
        *,
        kept: Collection[str] = (),
    ) -> None:
        self.owner = owner
        self.replacement = replacement
        self.given = given
        self.caller = caller
        self.kept = kept
        self._entered = entered

    def end(self) -> None:
        """End it, and close what was built under it.

        Raises:
            ExceptionGroup: closers failed; the override has ended all the same.
        """
        self.owner.end(self)

    async def aend(self) -> None:
        """End it from async code, as `end` does."""
        await self.owner.aend(self)

    def provider(self, path: str) -> AnyProvider:
        """What replaces a binding, as a provider."""
        value = self.given[path]
        return value if is_provider(value) else Handed(value)

    def __enter__(self) -> Any:
        return self if self._entered is None else self._entered

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    async def __aenter__(self) -> Any:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aend()

    def __repr__(self) -> str:
        return f"<Override of {', '.join(self.replacement.paths)} at {self.caller}>"
