"""What tells a tenant's settings from the operator's: who it is, and what is its own.

The settings themselves are base and overlay merged. This keeps the two apart, so that what
the operator configured for one place can be kept from another.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Final

from kor_core.settings.llm import LLMSettings, ModelSettings, ProviderSettings, inherits
from kor_core.settings.provenance import KeyPath, Sourced, as_table

__all__ = ["Flat", "Overlaid", "Tenancy", "flat", "without_replaced"]

_PURPOSE: Final = ("llm", "purposes")

Flat = tuple[tuple[KeyPath, Any], ...]
"""Tables as paths and values: a third of the memory, and there are thousands of tenants."""


@dataclass(frozen=True, slots=True, eq=False)
class Tenancy:
    """A tenant and the two sides of its settings.

    Args:
        tenant: its id.
        operator: the models and providers as the operator configured them.
        values: what the tenant set.
        base: what the operator's sources gave.
        file: where the overlay stands; empty where it is in no file.
    """

    tenant: str
    operator: LLMSettings = field(repr=False)
    values: Flat = field(repr=False)
    base: Sourced = field(repr=False)
    file: str = ""

    @property
    def place(self) -> str:
        """Where the overlay came from, for messages."""
        return self.file or f"overlay of tenant '{self.tenant}'"

    @property
    def overlay(self) -> dict[str, Any]:
        """What the tenant set, as tables."""
        return _nested(self.values)

    def names_endpoint(self, provider: str) -> bool:
        """Say whether the tenant brought an endpoint of its own for a provider."""
        endpoint = ("llm", "providers", provider, "base_url")
        return any(path == endpoint for path, _ in self.values)

    def provider(self, provider: str) -> ProviderSettings:
        """Return what the tenant itself set for a provider."""
        return ProviderSettings.model_validate(self._table("providers", provider))

    def own_extra(self, key: KeyPath) -> Mapping[str, Any]:
        """Return what the tenant itself set as ``extra`` of a table about models.

        Args:
            key: ``("llm", "default")`` or ``("llm", "purposes", name)``.
        """
        default = as_table(self._table("default").get("extra")) or {}
        if key[:2] != _PURPOSE:
            return default
        own = as_table(self._table("purposes", key[2]).get("extra")) or {}
        return {**default, **own} if self._inherits(key[2]) else own

    def operators(self, key: KeyPath) -> ModelSettings | None:
        """Return the operator's table that the ``extra`` of a table about models comes from."""
        found = self.operator.purposes.get(key[2]) if key[:2] == _PURPOSE else None
        return found or self.operator.default

    def _inherits(self, purpose: str) -> bool:
        merged = Overlaid(self).data["llm"]
        return inherits(merged["purposes"].get(purpose), merged.get("default"))

    def _table(self, *path: str) -> dict[str, Any]:
        here: dict[str, Any] = as_table(self.overlay.get("llm")) or {}
        for part in path:
            here = as_table(here.get(part)) or {}
        return here


class Overlaid(Sourced):
    """The operator's sources under a tenant's overlay, merged when somebody first asks.

    Thousands of tenants share what lies below; merging it for each would copy it as often.
    Hence the settings make one whenever they are asked where a value came from, and whoever
    has many questions keeps it meanwhile.
    """

    def __init__(self, tenancy: Tenancy) -> None:  # pyright: ignore[reportMissingSuperCall]  # data and origins are made on demand
        self._tenancy = tenancy

    @property
    def data(self) -> dict[str, Any]:  # type: ignore[override] # read, never assigned
        """The merged tables."""
        return self._merged.data

    @property
    def origins(self) -> dict[KeyPath, str]:  # type: ignore[override] # read, never assigned
        """Where each came from."""
        return self._merged.origins

    @cached_property
    def _merged(self) -> Sourced:
        tenancy = self._tenancy
        # Values only: the tables around them may be the operator's.
        origins = dict.fromkeys((path for path, _ in tenancy.values), tenancy.place)
        upper = Sourced(tenancy.overlay, origins)
        return without_replaced(tenancy.base, upper).under(upper)


def flat(tables: Mapping[str, Any]) -> Flat:
    """Return tables as paths and values.

    >>> flat({"llm": {"default": {"model": "gpt-4o"}, "purposes": {}}})
    ((('llm', 'default', 'model'), 'gpt-4o'), (('llm', 'purposes'), {}))
    """
    return tuple((_shared(path), value) for path, value in _leaves(tables, ()))


# Nearly all tenants set the same keys.
@lru_cache(maxsize=1024)
def _shared(path: KeyPath) -> KeyPath:
    return path


def _leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    table = as_table(value)
    if not table:
        yield path, value
        return
    for name, item in table.items():
        yield from _leaves(item, (*path, name))


def _nested(values: Flat) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for path, value in values:
        if path:
            here = tables
            for part in path[:-1]:
                here = here.setdefault(part, {})
            here[path[-1]] = value
    return tables


def without_replaced(base: Sourced, overlay: Sourced) -> Sourced:
    """Return the operator's sources without the provider tables that an overlay replaces."""
    replaced = [
        ("llm", "providers", name)
        for name, table in _providers(overlay.data).items()
        if "base_url" in (as_table(table) or {})
    ]
    origins = {path: text for path, text in base.origins.items() if path[:3] not in replaced}
    kept = {
        name: table
        for name, table in _providers(base.data).items()
        if ("llm", "providers", name) not in replaced
    }
    llm = {**(as_table(base.data.get("llm")) or {}), "providers": kept}
    return Sourced({**base.data, "llm": llm}, origins)


def _providers(data: Mapping[str, Any]) -> dict[str, Any]:
    llm = as_table(data.get("llm")) or {}
    return as_table(llm.get("providers")) or {}
