"""What the operator configured may go where: a secret stays where it was configured.

A tenant chooses models, keys and endpoints. What it chooses never draws the operator's key,
``extra`` or environment to a place that the operator did not configure.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from kor_core.errors import ConfigurationError, Problem, ProviderNotFoundError
from kor_core.llm.base import BaseLLMProvider, Credentials
from kor_core.llm.candidate import Candidate, generation_settings
from kor_core.llm.reference import Reference
from kor_core.settings import ModelSettings, ProviderSettings, Settings

__all__ = ["Grants"]


class Grants:
    """The limits of one kernel's settings; the application's own have none.

    Args:
        settings: what the kernel runs on.
        providers: by id.
    """

    def __init__(self, settings: Settings, providers: Mapping[str, BaseLLMProvider]) -> None:
        self._settings = settings
        self._tenancy = settings.tenancy
        self._providers = providers

    def reach(self, reference: Reference) -> bool:
        """Say whether the operator's key, ``extra`` and environment serve a model.

        They serve no endpoint of the tenant's, and no vendor that the operator's
        configuration does not name. Where a provider has but one vendor, its table names it.
        """
        tenancy = self._tenancy
        if tenancy is None or tenancy.names_endpoint(reference.provider):
            return tenancy is None
        llm = tenancy.operator
        vendors = self._vendors(llm.default, *llm.purposes.values())
        by_table = ((name, "") for name in llm.providers)
        return self._vendor(reference) in {*vendors, *by_table}

    def provider_settings(self, reference: Reference) -> ProviderSettings | None:
        """Return the provider's table for a model: merged, or only what the tenant set."""
        if self._tenancy is not None and not self.reach(reference):
            return self._tenancy.provider(reference.provider)
        return self._settings.llm.providers.get(reference.provider)

    def credentials(self, reference: Reference) -> Credentials:
        """Return what a model's provider wants, without the environment where it may not serve.

        Raises:
            ConfigurationError: a tenant asks for a model whose name could be an endpoint, or
                whose vendor would be called with the identity of the host.
        """
        wanted = self._providers[reference.provider].credentials(reference.model)
        if self._tenancy is None:
            return wanted
        if "://" in reference.model:
            raise ConfigurationError([Problem(_ENDPOINT, self._tenancy.place)])
        if self.reach(reference):
            return wanted
        if wanted.ambient:
            words = f"'{reference}': {_AMBIENT}"
            raise ConfigurationError([Problem(words, self._tenancy.place)])
        # Required, for an SDK that is given no key may find the operator's by itself.
        required = wanted.required or wanted.local or bool(wanted.vendor)
        return replace(wanted, key_variables=(), url_variables=(), required=required)

    def limited(self, candidates: Iterable[Candidate], model: ModelSettings) -> Iterator[Candidate]:
        """Yield candidates of a table without the operator's ``extra``, where it may not go.

        Args:
            candidates: those of the table.
            model: the table.
        """
        for candidate in candidates:
            if self._tenancy is None or self._extra_reaches(candidate):
                yield candidate
            else:
                own = model.model_copy(update={"extra": self._tenancy.own_extra(candidate.key)})
                yield replace(candidate, settings=generation_settings(own))

    def _extra_reaches(self, candidate: Candidate) -> bool:
        """Say whether a table still sends its ``extra`` where the operator's sends it."""
        assert self._tenancy is not None  # noqa: S101  # asked for tenants only
        before = self._tenancy.operators(candidate.key)
        same = self._vendor(candidate.reference) in set(self._vendors(before))
        return same and self.reach(candidate.reference)

    def _vendors(self, *models: ModelSettings | None) -> Iterator[tuple[str, str]]:
        for model in models:
            if model is not None:
                yield from map(self._vendor, self._references(model))

    def _references(self, model: ModelSettings) -> Iterator[Reference]:
        if model.provider is not None and model.provider in self._providers:
            yield Reference(model.provider, model.model)
        for _, text in model.references():
            with suppress(ProviderNotFoundError):  # of a provider that is registered later
                yield Reference.parse(text, self._providers)

    def _vendor(self, reference: Reference) -> tuple[str, str]:
        provider = self._providers[reference.provider]
        return reference.provider, provider.credentials(reference.model).vendor


_ENDPOINT = (
    "A tenant's model may not be named by a URL. An endpoint goes into base_url of "
    "[llm.providers.<id>] in the tenant's overlay."
)

_AMBIENT = (
    "The operator's configuration names no model of this vendor, and its SDK may find the "
    "identity of this host by itself. Let the operator's configuration name one, or choose a "
    "vendor that takes a key."
)
