"""What is registered by hand on one container: its own entries, then its parent's.

A derived container sees what is registered on its parent, also later; the parent never
sees what is registered on the child. Providers and services both live by this rule, so
both use it.
"""

from collections.abc import Iterator, Mapping
from threading import Lock, RLock
from types import MappingProxyType
from typing import Any, Final, Generic, Protocol, TypeVar

from kor_core.errors import RegistrationError

__all__ = ["Layer", "Owner", "Scope"]

T = TypeVar("T")

# One of each for all layers: thousands of tenants have a layer, and few add anything to it.
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_changing: Final = Lock()


class Layer(Mapping[str, T], Generic[T]):
    """A mapping of names over a parent's: own entries win, the parent's show through.

    >>> shared = Layer[int]()
    >>> own = Layer(shared)
    >>> own.add("mine", 1)
    >>> shared.add("ours", 2)
    >>> sorted(own), sorted(shared)
    (['mine', 'ours'], ['ours'])
    """

    __slots__ = ("_own", "_parent")

    def __init__(self, parent: "Layer[T] | None" = None) -> None:
        self._parent = parent
        self._own: Mapping[str, T] = _NOTHING

    def add(self, name: str, value: T, *, replace: bool = False) -> None:
        """Add an entry; a name that is taken, here or above, needs ``replace=True``.

        Raises:
            RegistrationError: the name is taken.
        """
        with _changing:
            if not replace and name in self:
                raise RegistrationError(
                    f"'{name}' is registered already: {self[name]!r}. "
                    "Choose another name, or pass replace=True.",
                    name=name,
                )
            # A new dict, so that readers in other threads iterate over a finished one.
            self._own = {**self._own, name: value}

    def __getitem__(self, name: str) -> T:
        own = self._own
        if name in own:
            return own[name]
        if self._parent is None:
            raise KeyError(name)
        return self._parent[name]

    def find(self, name: str) -> T | None:
        """Return an entry or None, without the exception that a mapping's `get` runs into."""
        found = self._own.get(name)
        if found is not None or self._parent is None:
            return found
        return self._parent.find(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> Mapping[str, T]:
        if self._parent is None:
            return self._own
        above = self._parent._all()  # noqa: SLF001  # of the same class
        return {**above, **self._own} if self._own else above


# One for all scopes: it is held for an instant, and a lock each would be paid by every tenant.
# Re-entrant, because making a layer asks for the parent's.
_making: Final = RLock()


class Owner(Protocol):
    """What a container is to the objects that it builds."""

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        ...

    def view(self, prefix: str) -> Any:
        """Return the container as its users see it, or the part whose paths begin so."""
        ...

    def close(self) -> None:
        """Close what the container owns."""
        ...

    async def aclose(self) -> None:
        """Close what the container owns, from async code."""
        ...


class Scope:
    """What belongs to one container, handed to the objects it builds.

    Args:
        owner: the container.
        parent: the scope of the container that it was derived from, or None.
    """

    __slots__ = ("__weakref__", "_providers", "_services", "owner", "parent")

    def __init__(self, owner: Owner, parent: "Scope | None" = None) -> None:
        self.owner = owner
        self.parent = parent
        # Made when asked for: thousands of tenants register nothing by hand.
        self._providers: Layer[Any] | None = None
        self._services: Layer[Any] | None = None

    @property
    def providers(self) -> Layer[Any]:
        """Providers registered by hand here, then those of the parents."""
        with _making:
            if self._providers is None:
                self._providers = Layer(self.parent.providers if self.parent else None)
            return self._providers

    @property
    def services(self) -> Layer[Any]:
        """Services registered by hand here, then those of the parents."""
        with _making:
            if self._services is None:
                self._services = Layer(self.parent.services if self.parent else None)
            return self._services
