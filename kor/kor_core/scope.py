"""What is registered by hand on one container: its own entries, then its parent's.

A derived container sees what is registered on its parent, also later; the parent never
sees what is registered on the child. Providers and services both live by this rule, so
both use it.
"""

from collections.abc import Callable, Coroutine, Iterator, Mapping
from threading import Lock
from typing import Any, Generic, TypeVar

from kor_core.errors import RegistrationError

__all__ = ["Layer", "Scope"]

T = TypeVar("T")


class Layer(Mapping[str, T], Generic[T]):
    """A mapping of names over a parent's: own entries win, the parent's show through.

    >>> shared = Layer[int]()
    >>> own = Layer(shared)
    >>> own.add("mine", 1)
    >>> shared.add("ours", 2)
    >>> sorted(own), sorted(shared)
    (['mine', 'ours'], ['ours'])
    """

    def __init__(self, parent: "Layer[T] | None" = None) -> None:
        self._parent = parent
        self._own: dict[str, T] = {}
        self._lock = Lock()

    def add(self, name: str, value: T, *, replace: bool = False) -> None:
        """Add an entry; a name that is taken, here or above, needs ``replace=True``.

        Raises:
            RegistrationError: the name is taken.
        """
        with self._lock:
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

    def __iter__(self) -> Iterator[str]:
        inherited = () if self._parent is None else self._parent
        return iter(dict.fromkeys([*inherited, *self._own]))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Scope:
    """What belongs to one container, handed to the objects it builds.

    Args:
        parent: the scope of the container this one was derived from, or None.
        resolve: returns what a binding of the container gives now, by its path.
        close: closes the container.
        aclose: closes the container from async code.
    """

    def __init__(
        self,
        parent: "Scope | None" = None,
        *,
        resolve: Callable[[str], Any],
        close: Callable[[], None],
        aclose: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self.parent = parent
        self.resolve = resolve
        self.close = close
        self.aclose = aclose
        self.providers: Layer[Any] = Layer(parent.providers if parent else None)
        self.services: Layer[Any] = Layer(parent.services if parent else None)
