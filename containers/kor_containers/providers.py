"""The binding types of KOR: providers of dependency-injector that stay coherent.

Use them in a `KorContainer` where an application object is shared. They resolve as fast as
the native thread-safe singleton, are built once in any number of threads and tasks, derive,
and are closed with their container.

>>> from kor_containers.container import KorContainer
>>> class Shop(KorContainer):
...     name = Object("corner")
...     greeting = Singleton("Welcome to the {} shop".format, name)
>>> shop = Shop()
>>> shop.greeting()
'Welcome to the corner shop'
>>> with shop.name.override("book"):
...     shop.greeting()
'Welcome to the book shop'
>>> shop.greeting()
'Welcome to the corner shop'
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Self, TypeVar, overload

from dependency_injector import providers

from kor_containers.bindings import Binding
from kor_containers.definitions import (
    Alias as AliasDefinition,
)
from kor_containers.definitions import (
    Closer,
    Constant,
    Definition,
    Need,
    Read,
    Recipe,
    Undefined,
)
from kor_containers.native import AnyProvider, is_provider
from kor_containers.reading import ScopeOf
from kor_containers.spaces import Space
from kor_core.errors import ContainerError

__all__ = ["Alias", "Container", "Dependency", "Object", "ScopeOf", "Singleton"]

T = TypeVar("T")


class Singleton(Binding[T]):
    """One object, built when it is first asked for, shared by all that depend on it.

    Args:
        provides: the class or function to call, async functions included.
        args: its arguments; providers among them are resolved, everything else is handed over
            as it is, uncopied.
        kwargs: its keyword arguments, likewise.

    A container closes what its singletons built: by ``aclose()`` or ``close()``, whichever
    suits how the container is closed. `closed_by` says otherwise.

    >>> from kor_containers.container import KorContainer
    >>> class App(KorContainer):
    ...     store = Singleton(dict, answer=42)
    >>> app = App()
    >>> app.store()
    {'answer': 42}
    >>> app.store() is app.store()
    True
    """

    __slots__ = ("_args", "_closer", "_kwargs", "_provides")

    @overload
    def __init__(
        self, provides: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any
    ) -> None: ...
    @overload
    def __init__(self, provides: Callable[..., T], *args: Any, **kwargs: Any) -> None: ...
    @overload
    def __init__(self) -> None: ...
    def __init__(
        self, provides: Callable[..., Any] | None = None, *args: Any, **kwargs: Any
    ) -> None:
        super().__init__()
        self._provides = provides
        self._args = args
        self._kwargs = kwargs
        self._closer: Closer | None = ""

    @property
    def provides(self) -> Callable[..., Any] | None:
        """The class or function that is called."""
        return self._provides

    @property
    def args(self) -> tuple[Any, ...]:
        """Its arguments."""
        return self._args

    @property
    def kwargs(self) -> dict[str, Any]:
        """Its keyword arguments."""
        return dict(self._kwargs)

    def closed_by(self, closer: Closer | None) -> Self:
        """Say how the object is closed.

        Args:
            closer: the name of a method, a function of the object, or None for not at all.
        """
        self._closer = closer
        return self

    def define(self, read: Read) -> Definition:
        """One call, with what its arguments are."""
        if self._provides is None:
            raise ContainerError("Singleton() was declared without a class or function to call.")
        positional = tuple(read(item, str(number)) for number, item in enumerate(self._args))
        keyword = {name: read(item, name) for name, item in self._kwargs.items()}
        return Recipe(self._provides, positional, keyword, self._closer)

    def label(self) -> str:
        """The name of what is called."""
        return getattr(self._provides, "__name__", type(self).__name__)

    def again(self, memo: dict[int, Any]) -> Self:
        """The same call, with copies of the providers among its arguments."""
        args = (_copied(item, memo) for item in self._args)
        kwargs = {name: _copied(item, memo) for name, item in self._kwargs.items()}
        again: Any = type(self)
        return again(self._provides, *args, **kwargs).closed_by(self._closer)  # type: ignore[no-any-return] # a Self

    @property
    def related(self) -> Iterator[providers.Provider[Any]]:
        """The providers among its arguments, and those that override it."""
        for item in (*self._args, *self._kwargs.values()):
            if is_provider(item):
                yield item
        yield from self.overridden


class Object(Binding[T]):
    """An object that exists already. It is never copied, and never closed.

    >>> Object([1, 2])()
    [1, 2]
    """

    __slots__ = ("_object",)

    def __init__(self, provides: T | None = None) -> None:
        super().__init__()
        self._object: Any = provides

    def define(self, read: Read) -> Definition:  # noqa: ARG002 # an object has no arguments
        """The object itself."""
        return Constant(self._object)

    def again(self, memo: dict[int, Any]) -> Self:  # noqa: ARG002 # nothing is copied
        """The very same object."""
        return type(self)(self._object)


class Alias(Binding[T]):
    """Another name for a binding, which can be replaced for itself.

    By default it gives the very object of the binding it stands for; that object is closed
    once, by its owner.

    >>> from kor_containers.container import KorContainer
    >>> class Config(KorContainer):
    ...     operator = Singleton(dict, region="eu")
    ...     settings = Alias(operator)
    >>> config = Config()
    >>> config.settings() is config.operator()
    True
    >>> config.derive({"settings": {"region": "us"}}).operator()
    {'region': 'eu'}
    """

    __slots__ = ("_target",)

    def __init__(self, target: providers.Provider[T] | None = None) -> None:
        super().__init__()
        self._target: Any = target

    def define(self, read: Read) -> Definition:
        """The other binding."""
        need = read(self._target, "target")
        if not isinstance(need, Need):
            raise ContainerError("Alias() stands for another provider, and was given none.")
        return AliasDefinition(need.path)

    def again(self, memo: dict[int, Any]) -> Self:
        """A name for the copy of what it stands for."""
        return type(self)(_copied(self._target, memo))

    @property
    def related(self) -> Iterator[providers.Provider[Any]]:
        """What it stands for, and what overrides it."""
        if self._target is not None:
            yield self._target
        yield from self.overridden


class Dependency(Binding[T]):
    """Something a container needs and does not make: whoever holds the container binds it.

    It is dependency-injector's ``Dependency`` with two differences: what depends on it follows
    when it is overridden, and a replacement of another type is reported by ``validate()``
    instead of being refused.

    Args:
        instance_of: the class that is expected; protocols and unions are fine, too.
        default: an object or provider for when nobody binds it; None for no default.

    >>> from dependency_injector.providers import Container
    >>> from kor_containers.container import KorContainer
    >>> class Mail(KorContainer):
    ...     host = Dependency(instance_of=str)
    ...     greeting = Singleton("EHLO {}".format, host)
    >>> class App(KorContainer):
    ...     mail = Container(Mail, host="localhost")
    >>> App().mail.greeting()
    'EHLO localhost'
    """

    __slots__ = ("_default", "_expected")

    @overload
    def __init__(self, instance_of: type[T], default: Any = None) -> None: ...
    @overload
    def __init__(
        self: "Dependency[Any]", instance_of: Any = object, default: Any = None
    ) -> None: ...
    def __init__(self, instance_of: Any = object, default: Any = None) -> None:
        super().__init__()
        self._expected = instance_of
        self._default = default

    @property
    def instance_of(self) -> Any:
        """The class that is expected."""
        return self._expected

    @property
    def default(self) -> Any:
        """What is given when nobody binds it."""
        return self._default

    @property
    def is_defined(self) -> bool:
        """Whether there is anything to give."""
        return bool(self.overridden or self._declared) or self._default is not None

    def join(self, space: Space, path: str) -> tuple[providers.Provider[Any], ...]:
        """Keep what was declared: here that is composition, and no override."""
        bound = super().join(space, path)
        self._declared = bound
        return ()

    def leave(self) -> None:
        """Stay bound, while the container becomes part of another one."""
        bound = self._declared
        super().leave()
        self._declared = (*bound, *self._declared)

    def replaced_by(self) -> None:
        """Nothing: what it is bound to is what it is."""

    def define(self, read: Read) -> Definition:
        """Another name for what it is bound to."""
        expected = _checkable(self._expected)
        bound = next(reversed(self._declared), self._default)
        if bound is None:
            return Undefined(expected)
        need = read(bound if is_provider(bound) else providers.Object(bound), "bound")
        assert isinstance(need, Need)  # noqa: S101 # read() makes a need of every provider
        return AliasDefinition(need.path, expected)

    def again(self, memo: dict[int, Any]) -> Self:
        """The same expectation."""
        return type(self)(self._expected, _copied(self._default, memo))

    def overrides_to_copy(self) -> tuple[AnyProvider, ...]:
        """What it is bound to comes first."""
        bound = () if self.whereabouts() is None else self._declared
        return (*bound, *self.overridden)

    @property
    def related(self) -> Iterator[providers.Provider[Any]]:
        """What it is bound to, and what overrides it."""
        if is_provider(self._default):
            yield self._default
        yield from dict.fromkeys((*self._declared, *self.overridden))


class Container(providers.Container[T]):
    """dependency-injector's provider of a sub-container, with attributes that have a type.

    Args:
        container_cls: the class of the sub-container.
        overriding_providers: binds the dependencies that it declares.
    """

    def __getattr__(self, name: str) -> providers.Provider[Any]:
        """A provider of the sub-container."""
        native: Any = super()
        return native.__getattr__(name)  # type: ignore[no-any-return] # it holds providers only


def _checkable(expected: Any) -> type | None:
    """A class to compare with others; protocols say nothing of a class before it is used."""
    is_class = isinstance(expected, type) and not getattr(expected, "_is_protocol", False)
    return expected if is_class else None


def _copied(item: Any, memo: dict[int, Any]) -> Any:
    return providers.deepcopy(item, memo) if is_provider(item) else item
