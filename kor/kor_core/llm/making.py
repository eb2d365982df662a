"""Makes the targets of handles: their settings, keys, and the providers' own objects."""

import os
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from threading import Lock
from typing import Any, Protocol

from kor_core.errors import (
    AuthenticationError,
    KorError,
    LLMError,
    ModelNotFoundError,
    NotEligibleError,
    ProviderError,
)
from kor_core.llm import credentials
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider
from kor_core.llm.candidate import Candidate
from kor_core.llm.catalogue import refuse_half
from kor_core.llm.grants import Grants
from kor_core.llm.hiding import raise_typed, said
from kor_core.llm.pipeline import Policies
from kor_core.llm.policies.breaker import Breakers
from kor_core.llm.policies.circuit import CircuitKey
from kor_core.llm.profile import ModelProfile
from kor_core.llm.reference import Reference, spelled
from kor_core.llm.selection import Standing
from kor_core.llm.target import Target
from kor_core.redaction import Config, redact
from kor_core.settings import Settings
from kor_core.settings.models import ProfileSettings
from kor_core.spellings import spellings_of

__all__ = ["Knowing", "TargetMaker", "gates_of", "tables_of"]


class Knowing(Protocol):
    """What is needed of a registry here."""

    @property
    def providers(self) -> Mapping[str, BaseLLMProvider]:
        """All providers by id."""
        ...

    def get_provider(self, provider_id: str) -> BaseLLMProvider:
        """Return the provider of that id."""
        ...

    def profile(self, reference: Reference) -> ModelProfile:
        """Return what the configuration and the table of profiles know of a model."""
        ...


class TargetMaker:
    """Makes targets of candidates.

    Args:
        settings: what the kernel runs on.
        registry: where providers and profiles are found.
        breakers: tells keys apart without revealing them.
        catalogue: the number of the catalogue that the providers are from.
    """

    # Each target keeps one, for the words of its errors.
    __slots__ = ("_breakers", "_catalogue", "_registry", "_settings")

    def __init__(
        self, settings: Settings, registry: Knowing, breakers: Breakers, catalogue: int = 0
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._breakers = breakers
        self._catalogue = catalogue

    def target(self, candidate: Candidate) -> Target:
        """Return the target for a candidate; its object is made when it is first asked for.

        Raises:
            MissingCredentialsError: its provider needs a key and has none.
            RegistrationError: what stands in the provider's place is none.
        """
        reference = candidate.reference
        refuse_half(reference.provider, self._registry.get_provider(reference.provider))
        config = self._config(candidate)
        inner = _Inner(self._registry.get_provider, reference, config)
        names = self._names(reference)
        tables = tables_of(self._settings.llm.models, names)
        allowed = [table.tenants for table in tables if table.tenants is not None]
        return Target(
            reference,
            config,
            inner,
            _Known(self._registry.profile, reference, inner),
            self._circuit(reference, config),
            gates_of(reference.provider, names),
            self._account(reference),
            frozenset(tag for table in tables for tag in table.tags),
            frozenset(allowed[-1]) if allowed else None,
            partial(self._origin, candidate, config),
            names,
        )

    def standing(
        self, candidate: Candidate, policies: Policies, tokens: int, purpose: str | None
    ) -> Standing:
        """Return how a candidate stands at the moment, without making its object.

        Args:
            candidate: the model.
            policies: what surrounds each call.
            tokens: how many a request and its answer may take.
            purpose: what it is for.
        """
        reference = candidate.reference
        try:
            self._registry.get_provider(reference.provider)
            target = self.target(candidate)
        except LLMError as error:
            return Standing(reference, unusable=error)
        except KorError as error:
            return Standing(reference, unusable=NotEligibleError(str(error)))
        profile = self._registry.profile(reference)
        target = target._replace(known=lambda: profile)  # what its class cannot do needs the object
        if policies.meter is None:
            return target.standing(policies)
        # Of at least one token, since none cost nothing, whatever the price.
        planned = target.planned(tokens or 1, 0, self._settings.tenant, purpose)
        meter = policies.meter
        return target.standing(policies, meter.uncounted(planned) or meter.refused(planned))

    def _names(self, reference: Reference) -> tuple[str, ...]:
        provider, model = reference
        return spelled(provider, tuple(self._registry.get_provider(provider).names(model)))

    def _circuit(self, reference: Reference, config: Mapping[str, Any]) -> CircuitKey:
        key, url = config.get("api_key") or "", config.get("base_url") or ""
        fingerprint = self._breakers.fingerprint(str(key), str(url), str(self._catalogue))
        return CircuitKey(self._settings.tenant, *reference, fingerprint)

    def _account(self, reference: Reference) -> str | None:
        """Return the tenant whose own account is used; None for the operator's.

        A key alone makes no account where the operator's server asks for none: whoever made one
        up would be out of the operator's limits, and still at the operator's server.
        """
        tenancy = self._settings.tenancy
        if tenancy is None:
            return None
        own = tenancy.provider(reference.provider)
        wanted = self._registry.providers[reference.provider].credentials(reference.model)
        if own.base_url is not None:
            # One that says nothing of keys and endpoints may not heed them.
            heeds = (wanted.key_variables, wanted.url_variables, wanted.required, wanted.local)
            brought = any(heeds)
        else:
            operators = tenancy.operator.providers.get(reference.provider)
            keyless = operators is not None and operators.base_url and operators.api_key is None
            brought = own.api_key is not None and wanted.required and not keyless
        return tenancy.tenant if brought else None

    def _config(self, candidate: Candidate) -> Config:
        provider, model = candidate.reference
        grants = Grants(self._settings, self._registry.providers)
        wanted = grants.credentials(candidate.reference)
        values = _provider_values(grants, candidate.reference)
        config = Config({**values, **candidate.settings})
        tenancy = self._settings.tenancy
        config.is_tenants = tenancy is not None and tenancy.names_endpoint(provider)
        credentials.complete(config, wanted, os.environ)
        credentials.require(
            config, wanted, provider=provider, model=model, asked_by=self._asked_by(candidate)
        )
        return config

    def _origin(self, candidate: Candidate, config: Config, error: LLMError) -> str:
        """Say which line of the configuration an error leads back to, where one does."""
        if isinstance(error, ModelNotFoundError):
            return self._asked_by(candidate)
        if isinstance(error, AuthenticationError):
            return self._keyed_by(candidate.reference, config.get("api_key"))
        return ""

    def _keyed_by(self, reference: Reference, key: object) -> str:
        """Say where a key came from: a table of the configuration, or the environment."""
        grants = Grants(self._settings, self._registry.providers)
        table = grants.provider_settings(reference)
        if table is not None and table.api_key is not None:
            if table.api_key.get_secret_value() != key:
                return ""  # `extra` of the model brought another one
            name = f"llm.providers.{reference.provider}"
            origin = self._settings.origin("llm", "providers", reference.provider, "api_key")
            return f" The key is that of [{name}]{f' in {origin}' if origin else ''}."
        names = grants.credentials(reference).key_variables
        found = next((name for name in names if key and os.environ.get(name) == key), None)
        return f" The key is that of the environment variable {found}." if found else ""

    def _asked_by(self, candidate: Candidate) -> str:
        if not candidate.key:
            return ""
        origin = self._settings.origin(*candidate.key)
        place = f" in {origin}" if origin else ""
        return f" It was asked for by [{'.'.join(candidate.key)}]{place}."


def _provider_values(grants: Grants, reference: Reference) -> dict[str, Any]:
    settings = grants.provider_settings(reference)
    if settings is None:
        return {}
    key = settings.api_key.get_secret_value() if settings.api_key else None
    values = {"api_key": key, "base_url": settings.base_url, "timeout": settings.timeout}
    return {**{k: v for k, v in values.items() if v is not None}, **settings.extra}


def tables_of(
    models: Mapping[str, ProfileSettings], names: Iterable[str]
) -> tuple[ProfileSettings, ...]:
    """Return the tables of ``[llm.models]`` that mean a model, the most exact last.

    Args:
        models: the tables by name.
        names: all that the model may be called, the most exact last.
    """
    return tuple(models[name] for name in names if name in models)


@lru_cache(maxsize=1024)
def gates_of(provider: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names under which a model's concurrency may be limited, the narrowest first.

    Args:
        provider: its id.
        names: all that the model may be called, the most exact last.

    >>> gates_of("openai", ("gpt-4o", "openai/gpt-4o", "openai:gpt-4o"))
    ('model openai:gpt-4o', 'model openai/gpt-4o', 'model gpt-4o', 'provider openai')
    """
    return (*(f"model {name}" for name in reversed(names)), f"provider {provider}")


class _Inner:
    """The provider's own object: made once, and again when another provider takes the id."""

    def __init__(
        self,
        get_provider: Callable[[str], BaseLLMProvider],
        reference: Reference,
        config: Config,
    ) -> None:
        self._get_provider = get_provider
        self._reference = reference
        self._config = config
        self._made: tuple[BaseLLMProvider, BaseLLMModel] | None = None
        self._lock = Lock()

    def __call__(self) -> BaseLLMModel:
        provider = self._get_provider(self._reference.provider)
        made = self._made
        if made is not None and made[0] is provider:
            return made[1]
        with self._lock:
            made = self._made
            if made is None or made[0] is not provider:
                made = self._made = provider, self._create(provider)
            return made[1]

    def _create(self, provider: BaseLLMProvider) -> BaseLLMModel:
        name, model_name = self._reference
        try:
            made = provider.create_model(model_name, self._config)
        except KorError:
            raise
        except Exception as error:  # noqa: BLE001  # a custom provider may raise anything
            secrets = spellings_of(self._config)
            message = redact(
                f"create_model() failed: {type(error).__name__}: {said(error)}", secrets
            )
            failure = ProviderError(message, provider=name, model=model_name)
            raise_typed(failure, error, secrets)
        return self._checked(made, provider)

    def _checked(self, made: object, provider: BaseLLMProvider) -> BaseLLMModel:
        if isinstance(made, BaseLLMModel):
            return made
        name, model_name = self._reference
        raise ProviderError(
            f"create_model() of {type(provider).__name__} returned {type(made).__name__}; "
            "it must return a BaseLLMModel.",
            provider=name,
            model=model_name,
        )


class _Known:
    """What is known of a model: of its class, the table of profiles and the configuration."""

    def __init__(
        self, look: Callable[[Reference], ModelProfile], reference: Reference, inner: _Inner
    ) -> None:
        self._look = look
        self._reference = reference
        self._inner = inner
        self._found: tuple[BaseLLMModel, ModelProfile] | None = None

    def __call__(self) -> ModelProfile:
        inner = self._inner()
        found = self._found
        if found is None or found[0] is not inner:
            found = self._found = inner, self._merged(inner.profile)
        return found[1]

    def _merged(self, own: ModelProfile) -> ModelProfile:
        # What its class cannot do, no table makes it do.
        lacking = ModelProfile(unsupported=own.unsupported)
        return own.overlaid(self._look(self._reference)).overlaid(lacking)
