"""The registry: every model goes through it."""

import os
from collections.abc import Mapping, Sequence
from threading import Lock
from types import MappingProxyType
from typing import Any

from kor_core.errors import (
    ConfigurationError,
    KorError,
    Problem,
    ProviderError,
    ProviderNotFoundError,
)
from kor_core.llm import credentials
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider
from kor_core.llm.candidate import Candidate, refuse_unserved
from kor_core.llm.catalogue import Catalogue, register
from kor_core.llm.grants import Grants
from kor_core.llm.handle import ModelHandle, Target
from kor_core.llm.lasting import Lasting, question
from kor_core.llm.notice import say_offline
from kor_core.llm.profile import ModelProfile, ProfileTable, configured, unknown_models
from kor_core.llm.reference import Reference
from kor_core.redaction import Config, redact, secrets_in
from kor_core.scope import Layer
from kor_core.settings import ModelSettings, Settings

__all__ = ["LLMRegistry"]


class LLMRegistry:
    """Finds providers by id and models by reference.

    Args:
        settings: what this kernel runs on.
        catalogue: the providers it shares with others.
        own: where providers registered here go; by default a place of its own.
        profiles: what is known of models; by default nothing but what the configuration and
            the providers say.

    >>> from kor_core.llm.echo import EchoProvider
    >>> from kor_core.settings import settings_from
    >>> registry = LLMRegistry(settings_from({}), Catalogue([EchoProvider()]))
    >>> registry.get_model("echo:any").generate("Hello!")
    'Echo: Hello!'
    """

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        own: Layer[BaseLLMProvider] | None = None,
        profiles: ProfileTable = unknown_models,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._own: Layer[BaseLLMProvider] = Layer() if own is None else own
        self._profiles = profiles
        self._handles = Lasting()

    # --- providers ---

    @property
    def providers(self) -> Mapping[str, BaseLLMProvider]:
        """All providers by id: those registered here, then those of the catalogue."""
        return MappingProxyType({**self._catalogue.providers, **self._own})

    def register(self, provider: BaseLLMProvider, *, replace: bool = False) -> None:
        """Add a provider for this kernel and everything derived from it.

        Args:
            provider: an instance with an ``id`` of its own.
            replace: take the place of a provider with the same id; models got before
                use the new one from then on.

        Raises:
            RegistrationError: it is no provider, its id is unusable, or the id is taken.
        """
        register(provider, self._own, self._catalogue.providers, replace=replace)

    def get_provider(self, provider_id: str) -> BaseLLMProvider:
        """Return the provider of that id.

        Raises:
            ProviderNotFoundError: there is none; the error lists those there are.
        """
        for place in (self._own, self._catalogue.providers):
            found = place.get(provider_id)
            if found is not None:
                return found
        raise ProviderNotFoundError(
            provider_id, self.providers, "Register one with registry.register()."
        )

    # --- models ---

    def get_model(self, reference: str | None = None, **settings: Any) -> ModelHandle:
        """Return the model for a reference; the same object each time.

        Args:
            reference: ``provider:model`` or ``provider/model``; by default ``[llm.default]``.
                A reference takes its provider's settings and inherits nothing from
                ``[llm.default]``.
            **settings: generation settings, such as ``temperature=0.2`` or ``timeout=30``
                (seconds, the deadline of each call).

        Raises:
            ProviderNotFoundError: the reference names no registered provider.
            MissingCredentialsError: the provider needs a key and has none.
            ConfigurationError: no default is configured, or a setting is unknown.
        """
        if not settings:
            return self._handles.get(reference, lambda: self._made(reference, {}))
        # Config: what is set may hold a key, and a traceback may show this frame.
        settings = Config(settings)
        return self._handles.get(
            question(reference, settings), lambda: self._made(reference, settings)
        )

    def _made(self, reference: str | None, settings: Mapping[str, Any]) -> ModelHandle:
        if reference is not None:
            return self.handle([Candidate.asked(reference, settings, self.providers)])
        return self.handle([candidate.with_settings(settings) for candidate in self._default()])

    def _default(self) -> Sequence[Candidate]:
        default = self._settings.llm.default
        if default is None:
            raise ConfigurationError([_NO_DEFAULT])
        if self._settings.unconfigured:
            say_offline()
        return self.candidates(default, "llm", "default")

    def candidates(self, model: ModelSettings, *key: str) -> Sequence[Candidate]:
        """Return the models that a table of the configuration names.

        Raises:
            ConfigurationError: one of them names no registered provider.
        """
        refuse_unserved(model, self._settings, key)
        try:
            found = Candidate.configured(model, key, self.providers)
            for candidate in found:
                self.get_provider(candidate.reference.provider)
        except ProviderNotFoundError as error:
            at = (*key, "provider" if model.provider == error.name else "model")
            problem = self._settings.problem(at, str(error))
            raise ConfigurationError([problem]) from error
        return tuple(self._grants().limited(found, model))

    def profile(self, reference: str | Reference) -> ModelProfile:
        """Return what is known of a model, whether or not it can be called.

        The configuration goes before the table of profiles, and both before what the
        provider says itself.

        Args:
            reference: ``provider:model`` or ``provider/model``.

        Raises:
            ProviderNotFoundError: the reference names no registered provider.

        >>> from kor_core.llm.echo import EchoProvider
        >>> from kor_core.settings import settings_from
        >>> known = {"any": {"context_window": 8192}}
        >>> settings = settings_from({"llm": {"models": known}})
        >>> LLMRegistry(settings, Catalogue([EchoProvider()])).profile("echo:any").context_window
        8192
        """
        if isinstance(reference, str):
            reference = Reference.parse(reference, self.providers)
        provider, model = reference
        said = self.get_provider(provider).profile(model)
        own = configured(self._settings.llm.models, provider, model)
        return said.overlaid(self._profiles(provider, model)).overlaid(own)

    def check(self) -> None:
        """Refuse a configuration that misspells a provider, or asks for what is not done yet.

        A name that resembles none may be registered later; it is refused when it is asked for.

        Raises:
            ConfigurationError: all the places that do.
        """
        settings = self._settings
        problems = settings.problems_with_providers(self.providers)
        found = [problem for problem in problems if problem.suggestion is not None]
        if settings.state.url is not None:
            words = "This version keeps no state that could be shared: leave it out."
            found.append(settings.problem(("state", "url"), words))
        if found:
            raise ConfigurationError(found)

    def handle(self, candidates: Sequence[Candidate]) -> ModelHandle:
        """Return a new handle for candidates, with the providers' objects made and checked.

        Raises:
            MissingCredentialsError: a provider needs a key and has none.
            ProviderError: ``create_model`` failed, or returned something else.
        """
        targets = [self._target(candidate) for candidate in candidates]
        for target in targets:
            target.find()
        return ModelHandle(*targets, capable=self.capable)

    def _target(self, candidate: Candidate) -> Target:
        config = self._config(candidate)
        reference = candidate.reference
        inner = _Inner(self, reference, config)
        return Target(reference, config, inner, _Known(self, reference, inner))

    def capable(self, capability: str) -> Sequence[str]:
        """Return which configured models are known to have a capability, by purpose.

        >>> from kor_core.llm.echo import EchoProvider
        >>> from kor_core.settings import settings_from
        >>> settings = settings_from(
        ...     {
        ...         "llm": {
        ...             "purposes": {"looking": {"model": "echo:eye"}},
        ...             "models": {"eye": {"capabilities": {"vision": True}}},
        ...         }
        ...     }
        ... )
        >>> LLMRegistry(settings, Catalogue([EchoProvider()])).capable("vision")
        ['echo:eye (looking)']
        """
        llm = self._settings.llm
        default = {} if llm.default is None else {"default": llm.default}
        found: list[str] = []
        for purpose, model in {**default, **llm.purposes}.items():
            references = (
                each.reference for each in Candidate.configured(model, (), self.providers)
            )
            able = (each for each in references if self.profile(each).supports(capability))
            found += [f"{each} ({purpose})" for each in able]
        return found

    def _config(self, candidate: Candidate) -> Config:
        provider, model = candidate.reference
        wanted = self._grants().credentials(candidate.reference)
        config = Config({**self._provider_values(candidate.reference), **candidate.settings})
        credentials.complete(config, wanted, os.environ)
        credentials.require(
            config, wanted, provider=provider, model=model, asked_by=self._asked_by(candidate)
        )
        return config

    def _grants(self) -> Grants:
        return Grants(self._settings, self.providers)

    def _provider_values(self, reference: Reference) -> dict[str, Any]:
        settings = self._grants().provider_settings(reference)
        if settings is None:
            return {}
        key = settings.api_key.get_secret_value() if settings.api_key else None
        values = {"api_key": key, "base_url": settings.base_url, "timeout": settings.timeout}
        return {**{k: v for k, v in values.items() if v is not None}, **settings.extra}

    def _asked_by(self, candidate: Candidate) -> str:
        if not candidate.key:
            return ""
        origin = self._settings.origin(*candidate.key)
        place = f" in {origin}" if origin else ""
        return f" It was asked for by [{'.'.join(candidate.key)}]{place}."

    def __repr__(self) -> str:
        return f"<LLMRegistry {', '.join(self.providers)}>"


class _Inner:
    """The provider's own object: made once, and again when another provider takes the id."""

    def __init__(self, registry: LLMRegistry, reference: Reference, config: Config) -> None:
        self._registry = registry
        self._reference = reference
        self._config = config
        self._made: tuple[BaseLLMProvider, BaseLLMModel] | None = None
        self._lock = Lock()

    def __call__(self) -> BaseLLMModel:
        provider = self._registry.get_provider(self._reference.provider)
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
        except Exception as error:  # a custom provider may raise anything
            words = f"create_model() failed: {type(error).__name__}: {error}"
            message = redact(words, secrets_in(self._config))
            raise ProviderError(message, provider=name, model=model_name) from error
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

    def __init__(self, registry: LLMRegistry, reference: Reference, inner: _Inner) -> None:
        self._registry = registry
        self._reference = reference
        self._inner = inner
        self._found: tuple[BaseLLMModel, ModelProfile] | None = None

    def __call__(self) -> ModelProfile:
        inner = self._inner()
        found = self._found
        if found is None or found[0] is not inner:
            found = self._found = inner, self._look(inner.profile)
        return found[1]

    def _look(self, own: ModelProfile) -> ModelProfile:
        # What its class cannot do, no table makes it do.
        lacking = ModelProfile(unsupported=own.unsupported)
        return own.overlaid(self._registry.profile(self._reference)).overlaid(lacking)


_NO_DEFAULT = Problem(
    "No default model is configured. Add [llm.default] with provider and model, or ask for a "
    "model by reference: get_model('provider:model').",
    key="llm.default",
)
