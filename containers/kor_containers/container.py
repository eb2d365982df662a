"""What every KOR container can do, on top of what dependency-injector's can.

>>> from kor_containers import providers
>>> class Greeter:
...     def __init__(self, word: str) -> None:
...         self.word = word
>>> class App(KorContainer):
...     word = providers.Object("hello")
...     greeter = providers.Singleton(Greeter, word)
>>> app = App()
>>> child = app.derive({"word": "salut"})
>>> app.greeter().word, child.greeter().word
('hello', 'salut')
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self, overload

from dependency_injector import containers, providers

from kor_containers.bindings import Binding
from kor_containers.instances import KorInstance, Operations, reset_native
from kor_containers.overriding import Override
from kor_containers.providers import Dependency
from kor_core.errors import ContainerError
from kor_core.suggestions import did_you_mean, listed

__all__ = ["KorContainer", "KorInstance", "KorMeta"]

# What a container keeps in attributes of its own: a binding of that name would shadow it.
_RESERVED = frozenset(dir(KorInstance())) - {"__self__"}


class KorMeta(type(containers.DeclarativeContainer)):  # type: ignore[misc] # a dynamic base
    """The class of container classes: knows their instances, refuses names that break them."""

    def __new__(mcs, name: str, bases: tuple[type, ...], attributes: dict[str, Any]) -> "KorMeta":
        """Create a container class.

        Raises:
            ContainerError: a binding has a name that the container itself needs.
        """
        for key, value in attributes.items():
            if isinstance(value, providers.Provider) and key in _RESERVED:
                raise ContainerError(
                    f"A binding of {name} is called '{key}', a name that every container uses "
                    "itself. Choose another one.",
                    path=key,
                )
        made: KorMeta = super().__new__(mcs, name, bases, attributes)
        return made

    def __instancecheck__(cls, instance: object) -> bool:
        if not isinstance(instance, containers.DynamicContainer):
            return False
        declared: Any = getattr(instance, "declarative_parent", None)
        return isinstance(declared, type) and issubclass(declared, cls)


class _Override:
    """``override``: of a living container, and dependency-injector's own on the class."""

    @overload
    def __get__(
        self, instance: None, owner: Any
    ) -> Callable[[type[containers.Container] | containers.Container], None]: ...
    @overload
    def __get__(
        self, instance: containers.Container, owner: Any
    ) -> Callable[[Mapping[str, Any] | containers.Container], Override]: ...
    def __get__(self, instance: object, owner: Any) -> Any:
        return partial(_override_class, owner)


def _override_class(container: Any, overriding: Any) -> None:
    """Override the bindings of a class, and refuse names that it has not.

    Raises:
        ContainerError: a name is no binding of the class; nothing was changed.
    """
    for name in overriding.cls_providers:
        if name not in container.providers:
            known = sorted(container.providers)
            raise ContainerError(
                f"No binding '{name}' in {container.__name__}. Bindings: {listed(known)}."
                f"{did_you_mean(name, known)}",
                path=name,
            )
    native: Any = containers.DeclarativeContainer.__dict__["override"]
    native.__func__(container, overriding)


class KorContainer(Operations, containers.DeclarativeContainer, metaclass=KorMeta):
    """The class to declare a container with.

    Everything a ``DeclarativeContainer`` can do works, and its instances can do what
    `KorInstance` adds: derive, override, validate, explain, close.
    """

    instance_type = KorInstance

    # Without it the stub's __getattr__ would let every misspelt attribute pass as Any.
    __getattr__: None  # type: ignore[assignment,misc] # hides a method on purpose
    override: _Override = _Override()  # type: ignore[assignment] # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType, reportIncompatibleVariableOverride] # both forms, by where it is looked up

    def __new__(cls, **overriding_providers: Any) -> Self:
        """Create a container; nothing is built and nothing is read.

        Args:
            overriding_providers: binds dependencies that the container declares.
        """
        container: Any = super().__new__(cls, **overriding_providers)
        container.adopt()
        return container  # type: ignore[no-any-return] # a KorInstance, which checkers need not know

    @classmethod
    def reset_override(cls) -> None:
        """Undo the overrides of the class; how it is composed stays."""
        cls.overridden = ()
        for provider in cls.providers.values():
            if isinstance(provider, Binding) and not isinstance(provider, Dependency):
                provider.reset_override()
            reset_native(provider)
