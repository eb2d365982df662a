"""The tables about models: the default, the providers, the purposes. Their defaults stand here."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator

from kor_core.settings.budgets import BudgetSettings
from kor_core.settings.capabilities import Capability
from kor_core.settings.models import Price, ProfileSettings
from kor_core.settings.policies import PolicySettings
from kor_core.settings.provenance import as_table
from kor_core.settings.rates import Concurrency, RequestsPerMinute, TokensPerMinute
from kor_core.settings.tables import Table
from kor_core.settings.values import (
    ApiKey,
    Extra,
    FrozenMap,
    Number,
    ProviderId,
    PurposeName,
    Reference,
    ServiceUrl,
    Stops,
    Strategy,
    Text,
    Whole,
)

__all__ = [
    "MODEL_MISSING",
    "LLMSettings",
    "ModelSettings",
    "ProviderSettings",
    "PurposeSettings",
    "inheriting",
    "inherits",
    "provider_in",
]

MODEL_MISSING: Final = "The model is missing: set `model`, or `candidates`."
_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})

# Each is made, watched and remembered: a table of thousands would crowd out those of others.
_MOST_MODELS: Final = 32


class ModelSettings(Table):
    """A model and how to call it; what is not set is not sent.

    >>> ModelSettings(provider="openai", model="gpt-4o", temperature=0.2).temperature
    0.2
    """

    provider: ProviderId | None = Field(
        default=None,
        description="Id of the provider. With it `model` is taken verbatim; without it `model` "
        "is a reference such as `openai:gpt-4o`.",
    )
    model: Text = Field(
        default="",
        description="The model's name, or a reference. Required unless `candidates` are given.",
    )
    fallbacks: tuple[Reference, ...] = Field(
        default=(),
        max_length=_MOST_MODELS,
        description="References asked in this order when the model fails.",
    )
    candidates: tuple[Reference, ...] = Field(
        default=(),
        max_length=_MOST_MODELS,
        description="References to choose from, instead of `model` and `fallbacks`.",
    )
    strategy: Strategy = Field(
        default="ordered",
        description="How to choose: `ordered`, `cheapest`, `fastest`, `round_robin`, or a "
        "function as `package.module:name`.",
    )
    needs: tuple[Capability, ...] = Field(
        default=(),
        description="Capabilities that the model must have, such as `tools`, `vision`, "
        "`json_schema`, `streaming` or `embeddings`.",
    )
    min_context: Whole | None = Field(
        default=None,
        ge=1,
        description="Smallest context window that will do, in tokens.",
    )
    max_price: Price | None = Field(
        default=None,
        description="Highest price accepted, in US dollars per million tokens, for input and "
        "for output alike.",
    )
    tags: tuple[Text, ...] = Field(
        default=(),
        description="Tags that `[llm.models]` must have given the model, such as `eu`.",
    )
    temperature: Number | None = Field(default=None, ge=0, description="Sampling temperature.")
    max_tokens: Whole | None = Field(default=None, ge=1, description="Longest answer, in tokens.")
    top_p: Number | None = Field(
        default=None, ge=0, le=1, description="Share of the probability mass that is sampled from."
    )
    stop: Stops | None = Field(
        default=None, description="Texts that end the answer; one text or a list of them."
    )
    seed: Whole | None = Field(
        default=None, description="Seed for providers that sample repeatably."
    )
    timeout: Number | None = Field(
        default=None,
        gt=0,
        description="Deadline of the whole call, all attempts included, in seconds.",
    )
    extra: Extra = Field(
        default_factory=lambda: _EMPTY,
        description="Anything else the provider understands, passed on as it is.",
    )

    @model_validator(mode="after")
    def _names_its_models_once(self) -> Self:
        if self.model and self.candidates:
            raise ValueError("Give `model` or `candidates`, not both.")
        if self.provider and self.candidates:
            raise ValueError("`candidates` are references that name their own providers.")
        if self.fallbacks and self.candidates:
            raise ValueError("Put the `fallbacks` behind the other `candidates`.")
        if not self.model and not self.candidates:
            raise ValueError(MODEL_MISSING)
        return self

    def references(self) -> Iterator[tuple[str, str]]:
        """Yield each reference with the name of the field that holds it."""
        if self.model and not self.provider:
            yield "model", self.model
        yield from (("fallbacks", reference) for reference in self.fallbacks)
        yield from (("candidates", reference) for reference in self.candidates)

    def named_providers(self) -> Iterator[str]:
        """Yield each provider that is named, registered or not.

        >>> list(ModelSettings(model="openai:gpt-4o", fallbacks=["groq/m"]).named_providers())
        ['openai', 'groq']
        """
        if self.provider is not None:
            yield self.provider
        for _, text in self.references():
            provider = provider_in(text)
            if provider != text:
                yield provider

    def field_naming(self, provider: str) -> str:
        """Return the field that names a provider, which one of them does.

        >>> ModelSettings(model="openai:gpt-4o", fallbacks=["groq/m"]).field_naming("groq")
        'fallbacks'
        """
        if self.provider == provider:
            return "provider"
        return next(field for field, text in self.references() if provider_in(text) == provider)


def provider_in(reference: str) -> str:
    """Return what stands before the first ``:`` or ``/`` of a reference; all of it without one.

    >>> provider_in("litellm/ollama/llama3:8b"), provider_in("gpt-4o")
    ('litellm', 'gpt-4o')
    """
    return reference.replace("/", ":").partition(":")[0]


class PurposeSettings(ModelSettings):
    """A model for one purpose.

    A purpose that does not say which provider serves it inherits every key it leaves out
    from ``[llm.default]``.
    """


class ProviderSettings(Table):
    """How to reach a provider."""

    api_key: ApiKey | None = Field(
        default=None,
        description="The key. Without it and without `base_url`, the provider's environment "
        "variable is read.",
    )
    base_url: ServiceUrl | None = Field(
        default=None, description="Endpoint to use instead of the provider's own."
    )
    timeout: Number | None = Field(
        default=None,
        gt=0,
        description="Deadline of a whole call, in seconds, where the model sets none.",
    )
    extra: Extra = Field(
        default_factory=lambda: _EMPTY,
        description="Anything else the provider understands, passed on as it is.",
    )
    requests_per_minute: RequestsPerMinute = None
    tokens_per_minute: TokensPerMinute = None
    concurrency: Concurrency = None


class LLMSettings(Table):
    """Models, providers and purposes.

    >>> llm = LLMSettings.model_validate(
    ...     {
    ...         "default": {"provider": "openai", "model": "gpt-4o", "temperature": 0},
    ...         "purposes": {"fast": {"model": "gpt-4o-mini"}},
    ...     }
    ... )
    >>> llm.purposes["fast"].provider, llm.purposes["fast"].temperature
    ('openai', 0.0)
    """

    unknown_purpose: Literal["error", "default"] = Field(
        default="error",
        description="What becomes of a purpose that is not configured: an error, or the default.",
    )
    default: ModelSettings | None = Field(
        default=None, description="The model used where no purpose and no reference is given."
    )
    providers: FrozenMap[ProviderId, ProviderSettings] = Field(
        default_factory=lambda: _EMPTY, description="Providers by id."
    )
    purposes: FrozenMap[PurposeName, PurposeSettings] = Field(
        default_factory=lambda: _EMPTY, description="Purposes by name."
    )
    models: FrozenMap[Text, ProfileSettings] = Field(
        default_factory=lambda: _EMPTY, description="What holds for models, by name."
    )
    budgets: FrozenMap[Text, BudgetSettings] = Field(
        default_factory=lambda: _EMPTY, description="Money that may be spent, by name of the pot."
    )
    policies: PolicySettings = Field(
        default_factory=PolicySettings, description="What happens around a call."
    )

    @property
    def tables(self) -> Mapping[str, ModelSettings]:
        """The tables about models by purpose, ``default`` first where there is one."""
        default = {} if self.default is None else {"default": self.default}
        return {**default, **self.purposes}

    @model_validator(mode="before")
    @classmethod
    def _purposes_inherit(cls, data: Any) -> Any:
        """Fill in what purposes inherit, before the tables are checked."""
        table = as_table(data)
        purposes = as_table(table.get("purposes")) if table else None
        if not table or not purposes:
            return data
        default = _given(table.get("default"))
        filled = {
            name: inheriting(_given(item) or item, default) for name, item in purposes.items()
        }
        return {**table, "purposes": filled}


def inherits(purpose: Any, default: Any) -> bool:
    """Say whether a purpose inherits what it leaves out from ``[llm.default]``.

    It does unless it says itself which provider serves it: by ``provider``, by
    ``candidates``, or by a reference, which ``model`` is where no provider is inherited.

    >>> inherits({"model": "gpt-4o-mini"}, {"provider": "openai", "model": "gpt-4o"})
    True
    >>> inherits({"model": "openai:gpt-4o-mini"}, {"model": "openai:gpt-4o"})
    False
    """
    own, above = as_table(purpose), as_table(default)
    if own is None or above is None:
        return False
    telling = {"provider", "candidates"} if "provider" in above else _TELLING
    return telling.isdisjoint(own)


# The keys of a purpose that say which provider serves it.
_TELLING: Final = {"provider", "candidates", "model"}


def inheriting(purpose: Any, default: Any) -> Any:
    """Return a purpose's table with what it inherits filled in; ``extra`` merges."""
    if not inherits(purpose, default):
        return purpose
    merged = {**default, **purpose}
    below, above = as_table(default.get("extra")), as_table(purpose.get("extra"))
    if below is not None and above is not None:
        merged["extra"] = {**below, **above}
    return merged


def _given(table: Any) -> dict[str, Any] | None:
    """Return the keys that were set, of a model or of a raw table."""
    if isinstance(table, ModelSettings):
        return {name: getattr(table, name) for name in table.model_fields_set}
    return as_table(table)
