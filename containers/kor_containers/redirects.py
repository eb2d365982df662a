"""Native providers follow an override too: a redirect among their own overridings.

A provider of dependency-injector cannot be taught to look elsewhere, but it can be overridden
with a provider that does. The redirect takes no part in what the provider itself has.
"""

from typing import Any

from dependency_injector import providers

from kor_containers.definitions import Native
from kor_containers.native import AnyProvider, overridings
from kor_containers.sources import Home, Reference

__all__ = ["Redirect", "copied", "given_below", "redirect", "unredirect"]


class Redirect(Reference):
    """Leads from a native binding to what an override put in force."""

    __slots__ = ()

    def register_overrides(self, provider: object) -> None:
        """Remember nothing: the one who redirects takes the redirect away again."""

    def unregister_overrides(self, provider: object) -> None:
        """Nothing was remembered."""


def redirect(provider: AnyProvider, to: Redirect) -> None:
    """Make a provider lead elsewhere."""
    _override(provider, to)


def unredirect(provider: AnyProvider) -> None:
    """Take the redirect away, and leave the user's own overridings as they are."""
    kept = [item for item in overridings(provider) if not isinstance(item, Redirect)]
    if len(kept) < len(overridings(provider)):
        provider.reset_override()
        for item in kept:
            _override(provider, item)


def _override(provider: Any, overriding: AnyProvider) -> None:
    provider.override(overriding)


def given_below(provider: AnyProvider, *args: Any, **kwargs: Any) -> Any:
    """What a provider gives apart from a redirect."""
    for item in reversed(overridings(provider)):
        if not isinstance(item, Redirect):
            return item(*args, **kwargs)
    if not overridings(provider):
        return provider(*args, **kwargs)
    return provider._provide(args, kwargs)  # type: ignore[attr-defined] # noqa: SLF001 # on every provider's class, though not in the stubs


def copied(native: Native, home: Home) -> AnyProvider:
    """A copy of a provider whose references lead to another container's bindings."""
    memo: dict[int, Any] = {}
    for reference, path in native.references:
        memo[id(reference)] = Reference(home, path)
    provider: Any = native.provider
    for overridden in provider.overrides:
        # What a provider overrides is bookkeeping of its own; copying it would drag in, and
        # copy, the whole container of a dependency that it was bound to.
        memo[id(overridden)] = overridden
    copy: AnyProvider = providers.deepcopy(native.provider, memo)
    unredirect(copy)
    return copy
