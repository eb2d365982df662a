"""The catalogue: what a container and all its tenants share: providers, services, strategies."""

from collections.abc import Iterable, Mapping
from itertools import count
from types import MappingProxyType
from typing import Any, Final

from kor_core.errors import RegistrationError
from kor_core.llm.base import BaseLLMProvider
from kor_core.llm.policies.strategies import Strategy
from kor_core.llm.reference import SEPARATORS
from kor_core.scope import Layer
from kor_core.suggestions import listed

__all__ = ["Catalogue", "refuse_half", "register", "register_strategy"]


_numbers: Final = count(1)


class Catalogue:
    """What came with the container: built in, handed in, from plugins.

    It depends on the operator's configuration only, so tenants share it. Its ``number`` is its
    own in the process: what is remembered of its models is not mixed up with that of another,
    in which a double may stand in a provider's place.

    Args:
        providers: those that are handed in, by their own ids.
        builtin: those of the bindings, by the names of the bindings: what replaces a binding
            is taken as it is, whatever it calls itself.
    """

    def __init__(
        self,
        providers: Iterable[BaseLLMProvider] = (),
        builtin: Mapping[str, BaseLLMProvider] = MappingProxyType({}),
    ) -> None:
        self.providers: Layer[BaseLLMProvider] = Layer()
        self.services: Layer[Any] = Layer()
        self.strategies: Layer[Strategy] = Layer()
        self.number: Final = next(_numbers)
        for name, provider in builtin.items():
            self.providers.add(name, provider)
        for provider in providers:
            register(provider, self.providers, {}, replace=False)

    def __repr__(self) -> str:
        return f"<Catalogue {', '.join(self.providers)}>"


def register(
    provider: BaseLLMProvider,
    layer: Layer[BaseLLMProvider],
    below: Mapping[str, BaseLLMProvider],
    *,
    replace: bool,
) -> None:
    """Add a provider to ``layer`` under its id, which must be new there and ``below``.

    Raises:
        RegistrationError: it is no provider, its id is unusable, or the id is taken.
    """
    name = _checked_id(provider)
    taken = layer.get(name, below.get(name))
    if taken is not None and not replace:
        raise RegistrationError(
            f"Provider id '{name}' is taken by {_described(taken)}; {_described(provider)} "
            "needs another id. To take its place, register it with replace=True, or replace the "
            "binding of that one by derive().",
            name=name,
        )
    layer.add(name, provider, replace=replace)


def register_strategy(
    name: str, strategy: Strategy, layer: Layer[Strategy], *, replace: bool
) -> None:
    """Add a strategy to ``layer`` under a name that cannot be taken for one of KOR's.

    Raises:
        RegistrationError: the name has no prefix, or is taken.
        TypeError: the strategy cannot be called.
    """
    if not callable(strategy):
        raise TypeError(f"A strategy is a function of the options, not {strategy!r}.")
    before, colon, after = name.partition(":")
    if not (before and colon and after):
        raise RegistrationError(
            f"A strategy '{name}' could be taken for one of KOR's. Put a prefix of your own "
            f"before it: 'acme:{after or before or 'mine'}'.",
            name=name,
        )
    layer.add(name, strategy, replace=replace)


def _checked_id(provider: object) -> str:
    """Return the provider's id.

    Raises:
        RegistrationError: it is no provider, or its id is missing or cannot stand in a
            reference.
    """
    if isinstance(provider, type):
        raise RegistrationError(
            f"{provider.__name__} is a class. Register an instance: {provider.__name__}().",
            name=provider.__name__,
        )
    if not isinstance(provider, BaseLLMProvider):
        raise RegistrationError(
            f"{type(provider).__name__} is no provider. Subclass kor_core.llm.base.BaseLLMProvider."
        )
    name: object = provider.id
    if not isinstance(name, str) or not name:
        raise RegistrationError(
            f'{_described(provider)} has no id. Give it one: `id = "my-provider"`.'
        )
    if any(mark in name for mark in SEPARATORS) or name != name.strip():
        raise RegistrationError(
            f"Provider id '{name}' holds ':', '/' or surrounding space, so no reference could "
            "name it. Use letters, digits, '-' and '_'.",
            name=name,
        )
    return name


def refuse_half(name: str, provider: object) -> None:
    """Refuse to ask what replaced a provider's binding and lacks what providers have.

    A double need not inherit from anything, and is taken as it is until it is asked for a model.

    Args:
        name: the id under which it stands.
        provider: what stands there.

    Raises:
        RegistrationError: it is a class, or lacks a method.

    >>> refuse_half("openai", object())
    Traceback (most recent call last):
    kor_core.errors.RegistrationError: What replaces the provider 'openai', of the class object, ...
    """
    if isinstance(provider, BaseLLMProvider):
        return
    if isinstance(provider, type):
        kind = provider.__name__
        words = f"What replaces the provider '{name}' is the class {kind}. Hand in {kind}()."
        raise RegistrationError(words, name=name)
    lacking = [each for each in _METHODS if not callable(getattr(provider, each, None))]
    if lacking:
        raise RegistrationError(
            f"What replaces the provider '{name}', of the class {type(provider).__name__}, lacks "
            f"{listed(lacking)}. Derive it from kor_core.llm.base.BaseLLMProvider, which has "
            "defaults for all but create_model; kor_core.testing has ScriptedProvider.",
            name=name,
        )


# What a double must have.
_METHODS: Final = ("create_model", "credentials", "names", "profile")


def _described(provider: BaseLLMProvider) -> str:
    kind = type(provider)
    return f"{kind.__module__}.{kind.__qualname__}"
