"""A tenant's settings: the operator's, with the tenant's overlay merged in.

A secret stays where it was configured. An overlay is data that somebody else wrote, so it may
say which models serve its tenant and with which key, and nothing that would send what the
operator configured elsewhere.
"""

from collections.abc import Mapping
from typing import Any

from kor_core.errors import ConfigurationError, Problem
from kor_core.redaction import guarded
from kor_core.settings.document import Settings
from kor_core.settings.draft import Draft
from kor_core.settings.limits import overstepping
from kor_core.settings.llm import LLMSettings
from kor_core.settings.provenance import Sourced, as_table, copied, too_deep
from kor_core.settings.tenancy import Tenancy, flat

__all__ = ["settings_for_tenant"]


def settings_for_tenant(
    base: Settings, tenant: str, overlay: Mapping[str, Any] | Sourced, *, place: str = ""
) -> Settings:
    """Return the settings of a tenant; neither argument is changed.

    Tables merge key by key, the overlay wins, and lists replace, with these limits:

    - An overlay may set ``llm.default``, ``llm.purposes`` and
      ``llm.providers.<id>.{api_key, base_url, timeout, extra}``. Its ``extra`` holds
      generation parameters (see ``kor_core.settings.generation``). Functions by dotted name,
      ``max_price`` and ``tags`` are the operator's.
    - A provider table with ``base_url`` replaces the operator's whole table.
    - Names of models that look like URLs or lead to another path, text that begins with
      ``@``, and ``dynaconf_…`` keys are refused.

    What the operator configured goes to no other endpoint or vendor by way of the result:
    see :class:`kor_core.llm.grants.Grants`, by which the registry asks.

    Args:
        base: the operator's settings.
        tenant: id of the tenant; ``result.tenant``.
        overlay: what the tenant sets, as tables; or a file's, with its lines.
        place: where the overlay came from, for messages; by default "overlay of tenant 'x'".

    Raises:
        ConfigurationError: everything that is wrong with the overlay. No message shows a
            value or names another tenant.

    >>> from kor_core.settings.document import settings_from
    >>> base = settings_from({"llm": {"default": {"provider": "openai", "model": "gpt-4o"}}})
    >>> acme = settings_for_tenant(base, "acme", {"llm": {"default": {"model": "gpt-4o-mini"}}})
    >>> acme.tenant, acme.llm.default.provider, acme.llm.default.model
    ('acme', 'openai', 'gpt-4o-mini')
    >>> settings_for_tenant(base, "acme", {"network": {"proxy": "http://localhost:1"}})
    Traceback (most recent call last):
    kor_core.errors.ConfigurationError: overlay of tenant 'acme': network: Not a tenant's ...
    """
    outcome = _outcome(base, tenant, overlay, place)
    if isinstance(outcome, Settings):
        return outcome
    # Raised here, where no local holds an unmasked value.
    del base, overlay
    raise ConfigurationError(outcome)


def _outcome(
    base: Settings, tenant: str, given: Mapping[str, Any] | Sourced, place: str
) -> Settings | list[Problem]:
    """Return the settings or what is wrong: a raise from here would carry values."""
    overlay = _copied(given, place or f"overlay of tenant '{tenant}'")
    if isinstance(overlay, Problem):
        return [overlay]
    draft = Draft(base, overlay)
    problems = overstepping(overlay, draft.providers_of)
    if problems:
        return problems
    llm = draft.checked()
    if isinstance(llm, list):
        return llm
    values = flat(_without_second_keys(overlay.data, llm))
    return base.with_tenancy(Tenancy(tenant, base.llm, values, draft.below, place), llm)


def _without_second_keys(data: dict[str, Any], llm: LLMSettings) -> dict[str, Any]:
    """Put the checked keys in the place of the given ones, so that each is held once."""
    for name, table in data.get("llm", {}).get("providers", {}).items():
        if "api_key" in table:
            table["api_key"] = llm.providers[name].api_key
    return data


def _copied(given: Mapping[str, Any] | Sourced, place: str) -> Sourced | Problem:
    """Return the overlay as tables of our own: the tenant's source may change its later."""
    data = given.data if isinstance(given, Sourced) else as_table(given)
    if data is None:
        return Problem("Expected a table.", place)
    if too_deep(data):
        return Problem("Tables or lists are nested too deeply, or hold themselves.", place)
    # guarded: frames that hold an overlay show no key in a traceback
    data = guarded("", copied(data))
    lines = given.origins if isinstance(given, Sourced) else {}
    return Sourced(data, {**{(name,): place for name in data}, **lines})
