"""A tenant's tables about models, merged from the operator's and its own, then checked."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from kor_core.errors import Problem
from kor_core.settings.document import Settings
from kor_core.settings.llm import LLMSettings, ProviderSettings, inheriting, inherits, provider_in
from kor_core.settings.problems import problems_in
from kor_core.settings.provenance import KeyPath, Sourced, as_list, as_table
from kor_core.settings.tables import Table, updated
from kor_core.settings.tenancy import without_replaced

__all__ = ["Draft"]


class Draft:
    """What an overlay makes of the operator's settings. Only what it touches is made anew.

    Args:
        base: the operator's settings.
        overlay: the tenant's tables.
    """

    def __init__(self, base: Settings, overlay: Sourced) -> None:
        self.below = _source_of(base)
        self._base = base.llm
        self._overlay = overlay
        self._own = _llm(overlay.data)

    def providers_of(self, key: KeyPath) -> list[str]:
        """Return the ids of the providers that a table about models names.

        Args:
            key: ``("llm", "default")`` or ``("llm", "purposes", name)``.
        """
        is_default = key[1] == "default"
        table = self._default if is_default else self._purpose(key[2])
        provider = table.get("provider")
        named = [provider] if isinstance(provider, str) else [table.get("model")]
        names = [*named, *(as_list(table.get("fallbacks")) or ())]
        names += as_list(table.get("candidates")) or ()
        return [provider_in(str(name)) for name in names if name]

    def checked(self) -> LLMSettings | list[Problem]:
        """Return the tables, or everything that is wrong with them."""
        problems: list[Problem] = []
        update: dict[str, Any] = {}
        # Apart, since purposes that are checked beside a default inherit from it.
        for part in filter(None, (self._default_part(), self._other_part())):
            try:
                made = _Part.model_validate({"llm": part}).llm
            except ValidationError as error:
                problems += self._problems(error)
            else:
                update |= {name: getattr(made, name) for name in part}
        if problems:
            return list(dict.fromkeys(problems))
        return updated(self._base, self._beside_base(update))

    # --- the parts that an overlay touches ------------------------------------------------

    def _default_part(self) -> dict[str, Any]:
        return {"default": self._default} if "default" in self._own else {}

    def _other_part(self) -> dict[str, Any]:
        parts = {"providers": dict(self._providers()), "purposes": dict(self._purposes())}
        return {name: tables for name, tables in parts.items() if tables}

    def _providers(self) -> Iterator[tuple[str, Any]]:
        for name, own in (as_table(self._own.get("providers")) or {}).items():
            table = as_table(own) or {}
            if "extra" in table:  # of which the operator's part is kept
                table["extra"] = self._merged["providers"][name]["extra"]
            yield name, table

    def _beside_base(self, made: dict[str, Any]) -> dict[str, Any]:
        if "providers" in made:
            tables = {name: self._provider(name, own) for name, own in made["providers"].items()}
            made["providers"] = MappingProxyType({**self._base.providers, **tables})
        if "purposes" in made:
            made["purposes"] = MappingProxyType({**self._base.purposes, **made["purposes"]})
        return made

    def _provider(self, name: str, own: ProviderSettings) -> ProviderSettings:
        below = self._base.providers.get(name)
        if below is None or own.base_url is not None:
            return updated(own, {})
        return updated(below, {key: getattr(own, key) for key in own.model_fields_set})

    def _purposes(self) -> Iterator[tuple[str, Any]]:
        if self._own.keys().isdisjoint(("default", "purposes")):
            return
        own = as_table(self._own.get("purposes")) or {}
        for name in self._all_purposes:
            if name in own or ("default" in self._own and self._inherits(name)):
                yield name, self._purpose(name)

    def _purpose(self, name: str) -> dict[str, Any]:
        purpose: dict[str, Any] = self._all_purposes[name]
        return inheriting(purpose, self._default) if self._inherits(name) else purpose

    def _inherits(self, name: str) -> bool:
        """Say whether a purpose inherits: as in the operator's configuration, where it stands.

        A tenant that gives the default a provider gives none to the operator's purposes that
        name theirs in a reference.
        """
        before = self._purposes_below.get(name)
        if before is not None:
            return inherits(before, self._llm_below.get("default"))
        return inherits(self._all_purposes[name], self._default)

    # --- merged ---------------------------------------------------------------------------

    @cached_property
    def _merged(self) -> dict[str, Any]:
        # Without origins, which only errors need: copying them for each tenant takes longest.
        below, own = Sourced(self.below.data), Sourced(self._overlay.data)
        return _llm(without_replaced(below, own).under(own).data)

    # Each once: a copy of all purposes for each of them would be quadratic.

    @cached_property
    def _default(self) -> dict[str, Any]:
        return as_table(self._merged.get("default")) or {}

    @cached_property
    def _all_purposes(self) -> dict[str, Any]:
        return as_table(self._merged.get("purposes")) or {}

    @cached_property
    def _llm_below(self) -> dict[str, Any]:
        return _llm(self.below.data)

    @cached_property
    def _purposes_below(self) -> dict[str, Any]:
        return as_table(self._llm_below.get("purposes")) or {}

    def _problems(self, error: ValidationError) -> list[Problem]:
        source = without_replaced(self.below, self._overlay).under(self._overlay)
        moved: dict[KeyPath, KeyPath] = {
            ("llm", "purposes", name, key): ("llm", "default", key)
            for name, purpose in self._all_purposes.items()
            for key in self._default.keys() - purpose.keys()
        }
        return problems_in(error, Settings, source, moved)


class _Part(Table):
    """The one section of a document that a tenant has."""

    llm: LLMSettings


def _llm(data: Mapping[str, Any]) -> dict[str, Any]:
    return as_table(data.get("llm")) or {}


def _source_of(base: Settings) -> Sourced:
    """Return what the operator's sources gave; settings made in code give themselves."""
    if base.source.data or base.llm == LLMSettings():
        return base.source
    return Sourced({"llm": _given(base.llm)})


def _given(value: Any) -> Any:
    if isinstance(value, Table):
        return {name: _given(getattr(value, name)) for name in value.model_fields_set}
    if (table := as_table(value)) is not None:
        return {name: _given(item) for name, item in table.items()}
    return value
