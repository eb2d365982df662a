"""How a binding's object comes to be, apart from any container that builds it.

A definition knows what it needs by path only, so that one definition serves a container
and everything derived from it.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeVar

from dependency_injector import providers

from kor_core.errors import ContainerError

__all__ = [
    "MISSING",
    "Alias",
    "Argument",
    "Closer",
    "Constant",
    "Container",
    "Definable",
    "Definition",
    "Missing",
    "Native",
    "Need",
    "Plain",
    "Read",
    "Recipe",
    "ScopeNeed",
    "Undefined",
]


T = TypeVar("T")


class Missing:
    """The type of `MISSING`, which no object that is built can be."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()

Closer = str | Callable[[Any], Any]
"""A method's name, or a function that is given the object."""


# --- arguments ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plain:
    """An argument that is handed over as it is: never copied, never interpreted."""

    value: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Need:
    """An argument that is another binding's object."""

    path: str


@dataclass(frozen=True, slots=True)
class ScopeNeed:
    """An argument that is the scope of the container that builds; no edge of the graph."""


Argument = Plain | Need | ScopeNeed


# --- definitions --------------------------------------------------------------------------


class Definition:
    """How an object comes to be."""

    __slots__ = ()

    kind: ClassVar[str]

    @property
    def edges(self) -> tuple[str, ...]:
        """The paths that are needed, in the order in which they are built."""
        return ()

    @property
    def declared_type(self) -> type | None:
        """The class a replacement is expected to be an instance of, where one is known."""
        return None


# Not frozen, as freezing doubles what making one costs; nothing assigns to it.
@dataclass(slots=True, eq=False)
class Constant(Definition):
    """An object that was handed in. It is never closed here."""

    kind: ClassVar[str] = "object"
    value: Any = field(repr=False)


class Recipe(Definition):
    """One call that makes the object, at most once in each container that owns it.

    Args:
        factory: the class or function to call.
        positional: its arguments.
        keyword: its keyword arguments.
        closer: how the object is closed; None for not at all; "" for its own ``close()`` or
            ``aclose()``.
    """

    __slots__ = ("_edges", "closer", "factory", "is_async", "keyword", "positional")

    kind: ClassVar[str] = "singleton"

    def __init__(
        self,
        factory: Callable[..., Any],
        positional: tuple[Argument, ...] = (),
        keyword: Mapping[str, Argument] | None = None,
        closer: Closer | None = "",
    ) -> None:
        self.factory = factory
        self.positional = positional
        self.keyword = keyword or {}
        self.closer = closer
        self.is_async = inspect.iscoroutinefunction(factory)
        arguments = (*positional, *self.keyword.values())
        self._edges = tuple(item.path for item in arguments if isinstance(item, Need))

    @property
    def edges(self) -> tuple[str, ...]:
        """What its arguments need."""
        return self._edges

    @property
    def declared_type(self) -> type | None:
        """The class that is called, or that the function says it returns."""
        if isinstance(self.factory, type):
            return self.factory
        returned = getattr(self.factory, "__annotations__", {}).get("return")
        # isinstance() cannot be asked of a protocol.
        checkable = isinstance(returned, type) and not getattr(returned, "_is_protocol", False)
        return returned if checkable else None

    def make(self, objects: Iterable[Any], scope: Callable[[], Any]) -> Any:
        """Make the object.

        Args:
            objects: the objects at the paths of ``edges``.
            scope: gives the scope of the container that builds.
        """
        given = iter(objects)
        # Spelled out, as every tenant pays for it.
        args = [
            next(given) if type(item) is Need else item.value if type(item) is Plain else scope()
            for item in self.positional
        ]
        kwargs = {
            name: next(given)
            if type(item) is Need
            else item.value
            if type(item) is Plain
            else scope()
            for name, item in self.keyword.items()
        }
        return self.factory(*args, **kwargs)


@dataclass(frozen=True, slots=True, eq=False)
class Alias(Definition):
    """Another name for a binding, such as a declared dependency that was bound."""

    kind: ClassVar[str] = "alias"
    target: str
    expected: type | None = None

    @property
    def edges(self) -> tuple[str, ...]:
        """The binding it stands for."""
        return (self.target,)

    @property
    def declared_type(self) -> type | None:
        """What a ``Dependency(instance_of=...)`` asked for."""
        return self.expected


@dataclass(frozen=True, slots=True, eq=False)
class Native(Definition):
    """A provider of dependency-injector that is called each time.

    Args:
        provider: the provider as declared or handed in.
        references: the providers it refers to directly, with the path of each.
        in_place: whether the provider itself serves its container; otherwise a copy does,
            whose references lead to that container's bindings.
        recipe: for a native singleton, how to make its object where the provider itself does
            not serve: so it is built once in any number of threads, and closed.
    """

    kind: ClassVar[str] = "native"
    provider: providers.Provider[Any]
    references: tuple[tuple[providers.Provider[Any], str], ...] = ()
    in_place: bool = False
    recipe: Recipe | None = None

    @property
    def edges(self) -> tuple[str, ...]:
        """What its references need."""
        return tuple(path for _, path in self.references)

    @property
    def declared_type(self) -> type | None:
        """The class it makes, if it is one."""
        provides = getattr(self.provider, "provides", None)
        return provides if isinstance(provides, type) else None


@dataclass(frozen=True, slots=True, eq=False)
class Container(Definition):
    """A container as such, injected whole."""

    kind: ClassVar[str] = "container"
    prefix: str
    contents: tuple[str, ...]

    @property
    def edges(self) -> tuple[str, ...]:
        """All that it holds."""
        return self.contents


@dataclass(frozen=True, slots=True, eq=False)
class Undefined(Definition):
    """A declared dependency that nobody bound."""

    kind: ClassVar[str] = "undefined"
    expected: type | None = None

    @property
    def declared_type(self) -> type | None:
        """What the dependency asked for."""
        return self.expected

    def error(self, path: str) -> ContainerError:
        """The error for asking all the same."""
        name = path.rpartition(".")[2]
        return ContainerError(
            f"'{path}' is a dependency that nobody bound. Bind it where its container is "
            f"declared, providers.Container(..., {name}=...), or hand it to the container.",
            path=path,
        )


class Definable(providers.Provider[T]):
    """A provider that knows its own definition: the binding types of this package."""

    __slots__ = ()

    def define(self, read: "Read") -> Definition:
        """Its definition; ``read`` turns the providers among its arguments into needs."""
        raise NotImplementedError

    def join(self, space: Any, path: str) -> tuple[providers.Provider[Any], ...]:
        """Belong to a space from now on; the overrides declared so far are its to put in force."""
        raise NotImplementedError

    def replaced_by(self) -> providers.Provider[Any] | None:
        """What was declared to override it, before it belonged anywhere."""
        raise NotImplementedError

    def whereabouts(self) -> tuple[object, str] | None:
        """The space it belongs to and its path there; None while it belongs to none."""
        raise NotImplementedError


Read = Callable[[Any, str], Argument]
"""Turns one argument, with a label for what has no path, into an `Argument`."""
