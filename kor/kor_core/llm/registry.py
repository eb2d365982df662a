"""The registry: every model goes through it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from kor_core.errors import (
    AllModelsFailedError,
    ConfigurationError,
    KorError,
    LLMError,
    PluginError,
    Problem,
    ProviderNotFoundError,
)
from kor_core.llm.base import BaseLLMProvider
from kor_core.llm.candidate import Candidate
from kor_core.llm.catalogue import Catalogue, register, register_strategy
from kor_core.llm.grants import Grants
from kor_core.llm.handle import ModelHandle, Serving, Target
from kor_core.llm.lasting import Lasting, question
from kor_core.llm.making import TargetMaker
from kor_core.llm.notice import say_offline
from kor_core.llm.pipeline import Policies
from kor_core.llm.policies.strategies import Strategy, strategy_named
from kor_core.llm.profile import ModelProfile, ProfileTable, configured, unknown_models
from kor_core.llm.reference import Reference, spelled
from kor_core.llm.selection import Choice, Needs, Standing, choose
from kor_core.redaction import Config
from kor_core.scope import Layer
from kor_core.settings import ModelSettings, Settings
from kor_core.settings.capabilities import checked_capabilities
from kor_core.suggestions import nearest

__all__ = ["LLMRegistry"]


class LLMRegistry:
    """Finds providers by id and models by reference.

    Args:
        settings: what this kernel runs on.
        catalogue: the providers it shares with others.
        own: where providers registered here go; by default a place of its own.
        profiles: what is known of models; by default nothing but what the configuration and
            the providers say.
        policies: what surrounds each call.
        strategies: returns the strategy of a name.

    >>> from kor_core.llm.echo import EchoProvider
    >>> from kor_core.settings import settings_from
    >>> registry = LLMRegistry(settings_from({}), Catalogue([EchoProvider()]))
    >>> registry.get_model("echo:any").generate("Hello!")
    'Echo: Hello!'
    """

    # There is one for each of thousands of tenants.
    __slots__ = (
        "__weakref__",
        "_catalogue",
        "_handles",
        "_own",
        "_policies",
        "_profiles",
        "_settings",
        "_strategies",
    )

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        own: Layer[BaseLLMProvider] | None = None,
        profiles: ProfileTable = unknown_models,
        *,
        policies: Policies | None = None,
        strategies: Callable[[str], Strategy] = strategy_named,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._own: Layer[BaseLLMProvider] = Layer() if own is None else own
        self._profiles = profiles
        self._policies = policies or Policies()
        self._strategies = strategies
        self._handles = Lasting()

    @property
    def _maker(self) -> TargetMaker:
        # Made when it is needed: each of thousands of tenants would keep one.
        number = self._catalogue.number
        return TargetMaker(self._settings, self, self._policies.breakers, number)

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
            found = place.find(provider_id)
            if found is not None:
                return found
        raise ProviderNotFoundError(
            provider_id, self.providers, "Register one with registry.register()."
        )

    # --- models ---

    def get_model(
        self, reference: str | None = None, *, needs: Iterable[str] = (), **settings: Any
    ) -> ModelHandle:
        """Return the model for a reference; the same object each time.

        Args:
            reference: ``provider:model`` or ``provider/model``; by default ``[llm.default]``.
                A reference takes its provider's settings and inherits nothing from
                ``[llm.default]``.
            needs: capabilities that the model must have, such as ``"tools"``; it is refused
                before any call where it is known to lack one.
            **settings: generation settings, such as ``temperature=0.2`` or ``timeout=30``
                (seconds, the deadline of each call).

        Raises:
            ProviderNotFoundError: the reference names no registered provider.
            MissingCredentialsError: the provider needs a key and has none.
            ConfigurationError: no default is configured, or a setting is unknown.
        """
        if not needs and not settings:
            return self._handles.get(reference, lambda: self._made(reference, {}))
        # Config: what is set may hold a key, and a traceback may show this frame.
        settings = Config(settings)
        wanted, asked = frozenset(needs), question(reference, settings)
        return self._handles.get(
            (asked, wanted) if wanted else asked,
            lambda: self._made(reference, settings, wanted),
        )

    def _made(
        self,
        reference: str | None,
        settings: Mapping[str, Any],
        needs: frozenset[str] = frozenset(),
    ) -> ModelHandle:
        if reference is None:
            return self.for_table("default", self.default(), needs, settings)
        return self.handle([Candidate.asked(reference, settings, self.providers)], needs=needs)

    # --- strategies ---

    def register_strategy(self, name: str, strategy: Strategy, *, replace: bool = False) -> None:
        """Add a strategy for the application and all its tenants, for ``strategy`` to name.

        Args:
            name: with a prefix of your own and a colon, such as ``"acme:nearest"``.
            strategy: takes the options, and returns them with the best one first.
            replace: take the place of one with the same name.

        Raises:
            RegistrationError: the name has no prefix, or is taken.
            TypeError: the strategy cannot be called.

        >>> from kor_core.settings import settings_from
        >>> table = {"candidates": ["echo:a", "echo:b"], "strategy": "acme:backwards"}
        >>> settings = settings_from({"llm": {"default": table}})
        >>> from kor_core.llm.echo import EchoProvider
        >>> registry = LLMRegistry(settings, Catalogue([EchoProvider()]))
        >>> registry.register_strategy("acme:backwards", lambda options: options[::-1])
        >>> registry.get_model().choose().candidates[0].reference
        'echo:b'
        """
        register_strategy(name, strategy, self._catalogue.strategies, replace=replace)

    def strategy(self, name: str) -> Strategy:
        """Return the strategy of a name: one that was registered, one of KOR's, or a function.

        Raises:
            PluginError: the function cannot be loaded.
            ValueError: there is none of that name.
        """
        registered = self._catalogue.strategies.find(name)
        return registered or self._strategies(name)

    def default(self) -> ModelSettings:
        """Return ``[llm.default]``.

        Raises:
            ConfigurationError: there is none.
        """
        default = self._settings.llm.default
        if default is None:
            raise ConfigurationError([_NO_DEFAULT])
        return default

    # --- models of tables ---

    def for_table(
        self,
        purpose: str,
        table: ModelSettings,
        needs: frozenset[str] = frozenset(),
        settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> ModelHandle:
        """Return a new handle for a table of the configuration.

        Args:
            purpose: ``default`` or the name of a purpose.
            table: its table.
            needs: capabilities that a model must have beside those of the table.
            settings: of the handle, over those of the table.
        """
        if purpose == "default" and self._settings.unconfigured:
            say_offline()
        candidates = self.candidates(table, *_key(purpose))
        given = [each.with_settings(settings) for each in candidates] if settings else candidates
        return self.handle(given, purpose=purpose, table=table, needs=needs)

    def explained(
        self,
        purpose: str,
        table: ModelSettings,
        needs: frozenset[str],
        tokens: int,
        affinity: str | None,
    ) -> Choice:
        """Choose among the candidates of a table without building any of them."""
        serving = self._serving(purpose, table, needs)
        wanted = serving.needs.with_request(frozenset(), tokens)
        # A provider that nobody registered is a reason too.
        named = {*self.providers, *table.named_providers()}
        standings = [
            self._maker.standing(each, self._policies, tokens, purpose)
            for each in Candidate.configured(table, _key(purpose), named)
        ]
        return choose(
            standings, wanted, serving.strategy, name=serving.strategy_name, affinity=affinity
        )

    def candidates(self, model: ModelSettings, *key: str) -> Sequence[Candidate]:
        """Return the models that a table of the configuration names.

        Raises:
            ConfigurationError: one of them names no registered provider.
        """
        try:
            found = Candidate.configured(model, key, self.providers)
            for candidate in found:
                self.get_provider(candidate.reference.provider)
        except ProviderNotFoundError as error:
            problem = self._settings.problem((*key, model.field_naming(error.name)), str(error))
            raise ConfigurationError([problem]) from error
        grants = Grants(self._settings, self.providers)
        return tuple(grants.limited(found, model))

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
        found = self.get_provider(provider)
        said = found.profile(model)
        own = configured(self._settings.llm.models, spelled(provider, found.names(model)))
        return said.overlaid(self._profiles(provider, model)).overlaid(own)

    def check(self) -> None:
        """Refuse a configuration that misspells a provider or a strategy.

        A name that resembles none may be registered later; it is refused when it is asked for.

        Raises:
            ConfigurationError: all the places that do.
        """
        settings = self._settings
        problems = settings.problems_with_providers(self.providers)
        found = [problem for problem in problems if problem.suggestion is not None]
        found += self._problems_with_strategies()
        if found:
            raise ConfigurationError(found)

    def _problems_with_strategies(self) -> Iterator[Problem]:
        for purpose, table in self._settings.llm.tables.items():
            if ":" in table.strategy:  # the settings know the others
                try:
                    self.strategy(table.strategy)
                except (PluginError, ValueError) as error:
                    path = (*_key(purpose), "strategy")
                    known = nearest(table.strategy, self._catalogue.strategies)
                    yield self._settings.problem(path, str(error.args[0]), known)

    def handle(
        self,
        candidates: Sequence[Candidate],
        *,
        purpose: str | None = None,
        table: ModelSettings | None = None,
        needs: Iterable[str] = (),
    ) -> ModelHandle:
        """Return a new handle for candidates, with the providers' objects made and checked.

        A candidate that cannot be asked is left out where another one can.

        Args:
            candidates: in the order of the configuration.
            purpose: what it serves; None for a reference.
            table: the table of the configuration that names them.
            needs: capabilities that a model must have beside those of the table.

        Raises:
            MissingCredentialsError: a provider needs a key and has none.
            ProviderError: ``create_model`` failed, or returned something else.
        """
        targets: list[Target] = []
        unusable: list[Standing] = []
        for candidate in candidates:
            try:
                target = self._maker.target(candidate)
                target.find()
            except LLMError as error:
                unusable.append(Standing(candidate.reference, unusable=error))
            else:
                targets.append(target)
        if not targets:
            errors = [each.unusable for each in unusable if each.unusable is not None]
            raise errors[0] if len(errors) == 1 else AllModelsFailedError(_NONE_USABLE, errors)
        serving = replace(self._serving(purpose, table, needs), unusable=tuple(unusable))
        return ModelHandle(*targets, serving=serving)

    def _serving(
        self, purpose: str | None, table: ModelSettings | None, needs: Iterable[str]
    ) -> Serving:
        settings, names = self._settings, checked_capabilities(needs)
        wanted = Needs(frozenset(names), tenant=settings.tenant)
        name = "ordered"
        if table is not None:
            name = table.strategy
            wanted = replace(
                wanted,
                capabilities=wanted.capabilities | frozenset(table.needs),
                min_context=table.min_context,
                max_price=table.max_price,
                tags=frozenset(table.tags),
            )
        return Serving(
            self._policies,
            wanted,
            self.strategy(name),
            name,
            settings.tenant,
            purpose,
            capable=self.capable,
        )

    def capable(self, capability: str) -> Sequence[str]:
        """Return which configured models are known to have a capability, by purpose.

        >>> from kor_core.settings import settings_from
        >>> from kor_core.testing import ScriptedProvider
        >>> settings = settings_from({"llm": {"purposes": {"looking": {"model": "scripted:eye"}}}})
        >>> LLMRegistry(settings, Catalogue([ScriptedProvider()])).capable("vision")
        ['scripted:eye (looking)']
        """
        found: list[str] = []
        for purpose, model in self._settings.llm.tables.items():
            with suppress(KorError):  # this is advice: what cannot be built is none
                candidates = Candidate.configured(model, (), self.providers)
                able = [
                    each
                    for each in candidates
                    if self._maker.target(each).known().supports(capability)
                ]
                found += [f"{each.reference} ({purpose})" for each in able]
        return found

    def __repr__(self) -> str:
        return f"<LLMRegistry {', '.join(self.providers)}>"


_NO_DEFAULT = Problem(
    "No default model is configured. Add [llm.default] with provider and model, or ask for a "
    "model by reference: kernel.llm_registry.get_model('provider:model').",
    key="llm.default",
)


def _key(purpose: str) -> tuple[str, ...]:
    return ("llm", "default") if purpose == "default" else ("llm", "purposes", purpose)


_NONE_USABLE = "None of the candidates can be asked."
