"""dependency-injector's providers, with the types that its stubs leave open."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, TypeGuard

from dependency_injector import providers

__all__ = [
    "AnyProvider",
    "Handed",
    "contents",
    "inside",
    "is_provider",
    "last_overriding",
    "overridings",
    "related",
]

AnyProvider: TypeAlias = providers.Provider[Any]


class Handed(providers.Provider[Any]):
    """An object that was handed in, as a provider. Unlike ``Object`` it does not show it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def __call__(self, *_: Any, **__: Any) -> Any:
        """The object."""
        return self.value

    def __deepcopy__(self, memo: dict[int, Any] | None) -> "Handed":
        return self


def is_provider(value: Any) -> TypeGuard[AnyProvider]:
    """Whether a value is a provider, of whatever."""
    return isinstance(value, providers.Provider)


def inside(provider: AnyProvider) -> Any:
    """The container that a container provider holds; None for other providers."""
    anything: Any = provider
    return anything.container if isinstance(provider, providers.Container) else None


def contents(container: Any) -> Mapping[str, AnyProvider]:
    """The providers of a container, or of what looks like one, by name."""
    return container.providers  # type: ignore[no-any-return] # of whatever it is


def overridings(provider: AnyProvider) -> tuple[AnyProvider, ...]:
    """The providers that override one, the one in force last."""
    anything: Any = provider
    return anything.overridden  # type: ignore[no-any-return] # the stub says there is just one


def last_overriding(provider: AnyProvider) -> AnyProvider | None:
    """The provider that overrides one now."""
    anything: Any = provider
    return anything.last_overriding  # type: ignore[no-any-return] # the stub leaves out of what


def related(provider: AnyProvider) -> Iterator[AnyProvider]:
    """The providers that one refers to."""
    anything: Any = provider
    return anything.related  # type: ignore[no-any-return] # the stub leaves out of what
