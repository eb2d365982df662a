"""Reads providers, as declared or handed in, into definitions with paths.

A provider without a name of its own, nested among the arguments of another, gets a path made
of its owner's and its place there, such as ``llm.selector(policy)``. So it takes part in
everything: it is derived, followed and explained like a named one.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from dependency_injector import providers

from kor_containers.definitions import (
    Alias,
    Argument,
    Constant,
    Container,
    Definable,
    Definition,
    Native,
    Need,
    Plain,
    Read,
    Recipe,
    ScopeNeed,
    Undefined,
)
from kor_containers.native import AnyProvider, Handed, is_provider, overridings, related
from kor_containers.redirects import Redirect

__all__ = ["Foreign", "Names", "Reader", "ScopeOf", "bindings_of"]

Names = Callable[[AnyProvider], str | None]

# A configuration and its options hold each other and values, never a binding.
_OPAQUE: Final = (providers.Configuration, providers.ConfigurationOption)

# What a coherent singleton of ours can stand in for. Others mean something else: an object
# for each thread or context.
_SINGLETONS: Final = (providers.Singleton, providers.ThreadSafeSingleton)


class ScopeOf(providers.Provider[Any]):
    """An argument that is the `kor_core.scope.Scope` of the container that builds the object.

    It is no dependency: an object that takes it is still shared by derived containers when
    nothing else sets it apart, and then holds the scope of the container it lives in.
    """

    __slots__ = ()

    def __call__(self) -> Any:
        """Raise: there is no container around it.

        Raises:
            TypeError: always.
        """
        raise TypeError("ScopeOf() is an argument of other bindings and gives nothing by itself.")

    def __deepcopy__(self, memo: dict[int, Any] | None) -> "ScopeOf":
        return self


class Foreign(providers.Provider[Any]):
    """A binding of another container, handed in: it is asked where it lives."""

    __slots__ = ("_binding",)

    def __init__(self, binding: Definable[Any]) -> None:
        super().__init__()
        self._binding = binding

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the other container gives."""
        return self._binding(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any] | None) -> "Foreign":
        return self


class Reader:
    """Turns providers into definitions.

    Args:
        names: gives the path of a provider that is known by name, or None.
        prefixes: gives the prefix of the paths in a container that is known, or None.
        suffix: sets apart the paths made up for what is handed in; empty for what is declared.
        joins: whether nameless bindings join the space that reads them, which then puts in
            force what was declared to override them.
    """

    def __init__(
        self,
        names: Names,
        prefixes: Callable[[object], str | None],
        suffix: str = "",
        *,
        joins: bool = False,
    ) -> None:
        self._names = names
        self._prefixes = prefixes
        self._suffix = suffix
        self._joins = joins
        self._paths: dict[int, str] = {}
        self.nameless: dict[str, AnyProvider] = {}
        self.definitions: dict[str, Definition] = {}

    def declare(self, path: str, provider: AnyProvider) -> None:
        """Read a binding of a container, known by name."""
        self.definitions[path] = self._define(path, provider, declared=True)

    def replace(self, path: str, value: Any) -> None:
        """Read an object or a provider that was handed in to replace a binding."""
        if is_provider(value):
            self.definitions[path] = self._define(path, value, declared=False)
        else:
            self.definitions[path] = Constant(value)

    def name(self, provider: AnyProvider, owner: str, label: str) -> str:
        """The path of a provider, made up and read when it has none."""
        known = self._names(provider) or self._paths.get(id(provider))
        if known is not None:
            return known
        path = f"{owner.removesuffix(self._suffix)}({label}){self._suffix}"
        self._paths[id(provider)] = path
        self.nameless[path] = provider
        self.definitions[path] = Undefined()  # holds the place while what is inside is read
        self.definitions[path] = self._define(path, provider, declared=False)
        return path

    def _define(self, path: str, provider: AnyProvider, *, declared: bool) -> Definition:
        def read(value: Any, label: str) -> Argument:
            if isinstance(value, ScopeOf):
                return ScopeNeed()
            if is_provider(value):
                return Need(self.name(value, path, label))
            return Plain(value)

        known = None if declared else self._names(provider)
        if known is not None:
            return Alias(known)
        if isinstance(provider, Definable):
            return self._binding(path, provider, read, declared=declared)
        return self._native(path, provider, read, declared=declared)

    def _native(
        self, path: str, provider: AnyProvider, read: Read, *, declared: bool
    ) -> Definition:
        match provider:
            case providers.Dependency():
                return self._dependency(path, provider)
            case providers.Container() | providers.Self():
                return self._container(provider())
            case Handed():
                return Constant(provider.value)
            case providers.Object() if not declared and not overridings(provider):
                return Constant(provider())
            case _:
                pass
        recipe = _recipe(provider, read)
        if recipe is not None and not declared:
            return recipe
        return Native(provider, tuple(self._references(path, provider)), declared, recipe)

    def _binding(
        self, path: str, binding: Definable[Any], read: Read, *, declared: bool
    ) -> Definition:
        if not declared and binding.whereabouts() is not None:
            return Native(Foreign(binding))
        overriding = None if declared or self._joins else binding.replaced_by()
        if overriding is not None:
            return Alias(self.name(overriding, path, "override"))
        return binding.define(read)

    def _dependency(self, path: str, dependency: providers.Dependency[Any]) -> Definition:
        own = (item for item in overridings(dependency)[::-1] if not isinstance(item, Redirect))
        default: Any = dependency.default  # None without one, whatever the stub says
        bound: AnyProvider | None = next(own, default)
        if bound is None:
            return Undefined(dependency.instance_of)
        return Alias(self.name(bound, path, "bound"), dependency.instance_of)

    def _container(self, container: Any) -> Definition:
        prefix = self._prefixes(container)
        if prefix is None:
            return Constant(container)
        contents = (self._names(provider) for _, provider in bindings_of(container))
        return Container(prefix, tuple(name for name in contents if name is not None))

    def _references(
        self, path: str, provider: providers.Provider[Any]
    ) -> Iterator[tuple[AnyProvider, str]]:
        if isinstance(provider, _OPAQUE):
            return
        for number, item in enumerate(related(provider)):
            if not isinstance(item, Redirect):
                yield item, self.name(item, path, str(number))


def _recipe(provider: AnyProvider, read: Read) -> Recipe | None:
    """What a plain native singleton does, as a recipe of ours."""
    if type(provider) not in _SINGLETONS or overridings(provider):
        return None
    single: Any = provider
    if single.attributes or single.provides is None:
        return None
    positional = tuple(read(item, str(number)) for number, item in enumerate(single.args))
    keyword = {name: read(item, name) for name, item in single.kwargs.items()}
    return Recipe(single.provides, positional, keyword)


def bindings_of(container: Any, prefix: str = "") -> Iterator[tuple[str, AnyProvider]]:
    """The leaf bindings of a native container and of the containers in it, with their paths."""
    named: Mapping[str, AnyProvider] = container.providers
    for name, provider in named.items():
        path = prefix + name
        match provider:
            case providers.Container():
                yield from bindings_of(provider.container, f"{path}.")
            case providers.DependenciesContainer():
                yield from bindings_of(provider, f"{path}.")
            case _:
                yield path, provider
