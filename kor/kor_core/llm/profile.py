"""What is known of a model: what it can do, how much it takes, what it costs.

Unknown is unknown: None, never zero and never False.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final, Protocol

from kor_core.llm.response import Usage
from kor_core.settings.capabilities import CAPABILITIES, checked_capabilities
from kor_core.settings.models import ProfileSettings

__all__ = [
    "UNKNOWN",
    "ModelProfile",
    "PriceTier",
    "ProfileTable",
    "configured",
    "unknown_models",
]

# Prices are for a million tokens, as vendors print them: ten to this power.
_MILLION: Final = 6


@dataclass(frozen=True, slots=True)
class PriceTier:
    """Other prices for long requests: all tokens of such a request cost them.

    Args:
        above: the tier holds for requests of more input tokens than this.
        input_price: US dollars per million tokens, or None where it is unknown.
        output_price: likewise.
        cached_input_price: likewise.
    """

    above: int
    input_price: Decimal | None = None
    output_price: Decimal | None = None
    cached_input_price: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """What is known of one model.

    Args:
        supported: capabilities it has, by the names of ``CAPABILITIES``.
        unsupported: capabilities it is known not to have; of all others nothing is known.
        context_window: longest request it takes, in tokens.
        max_output: longest answer it gives, in tokens.
        input_price: US dollars per million tokens of the request.
        output_price: US dollars per million tokens of the answer.
        cached_input_price: US dollars per million tokens of the request that were read from
            the vendor's cache.
        tiers: other prices for long requests, the longest last.

    Raises:
        ValueError: a capability has an unknown name, or is said to be there and not to be.

    >>> profile = ModelProfile(
    ...     supported=frozenset({"tools"}),
    ...     unsupported=frozenset({"vision"}),
    ...     input_price=Decimal("0.15"),
    ... )
    >>> profile.supports("tools"), profile.supports("vision"), profile.supports("reasoning")
    (True, False, None)
    >>> profile.output_price is None
    True
    """

    supported: frozenset[str] = frozenset()
    unsupported: frozenset[str] = frozenset()
    context_window: int | None = None
    max_output: int | None = None
    input_price: Decimal | None = None
    output_price: Decimal | None = None
    cached_input_price: Decimal | None = None
    tiers: tuple[PriceTier, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is misspelt or contradicts itself."""
        checked_capabilities(self.supported | self.unsupported)
        both = sorted(self.supported & self.unsupported)
        if both:
            raise ValueError(f"{both[0]!r} is in `supported` and in `unsupported`: leave one.")

    @property
    def capabilities(self) -> frozenset[str]:
        """The capabilities that the model is known to have."""
        return self.supported

    def supports(self, capability: str) -> bool | None:
        """Say whether the model has a capability; None where that is unknown.

        Raises:
            ValueError: there is no capability of that name.
        """
        if capability in self.supported:
            return True
        if capability in self.unsupported:
            return False
        if capability not in CAPABILITIES:
            checked_capabilities([capability])
        return None

    def cost(self, usage: Usage) -> Decimal | None:
        """Return what a call cost in US dollars; None where tokens or prices are unknown.

        Cached tokens without a price of their own count at the full price, so that the
        result is never too low for that.

        Args:
            usage: what the call took. A call for embeddings writes 0 tokens, not None.

        >>> profile = ModelProfile(input_price=Decimal(2), output_price=Decimal(8))
        >>> print(profile.cost(Usage(1000, 100)), ModelProfile().cost(Usage(1000, 100)))
        0.002800 None
        """
        read, written = usage.input_tokens, usage.output_tokens
        if read is None or written is None:
            return None
        prices = self._prices_for(read)
        cached = min(usage.cached_tokens or 0, read)
        cached_price = prices.cached_input_price
        parts = (
            _cost(read - cached, prices.input_price),
            _cost(cached, prices.input_price if cached_price is None else cached_price),
            _cost(written, prices.output_price),
        )
        known = [part for part in parts if part is not None]
        return sum(known, Decimal()) if len(known) == len(parts) else None

    def _prices_for(self, read: int) -> "PriceTier | ModelProfile":
        reached = [tier for tier in self.tiers if read > tier.above]
        return reached[-1] if reached else self

    def overlaid(self, other: "ModelProfile") -> "ModelProfile":
        """Return this profile with all that ``other`` knows, which wins.

        Prices belong together: where ``other`` has one, the tiers of this one are gone.

        >>> table = ModelProfile(supported=frozenset({"tools"}), context_window=8192)
        >>> own = ModelProfile(unsupported=frozenset({"tools"}), max_output=100)
        >>> print(table.overlaid(own))
        ModelProfile(lacks tools; window 8192, output 100)
        """
        if other is UNKNOWN or self is UNKNOWN:
            return self if other is UNKNOWN else other
        given = {name: getattr(other, name) for name in _NUMBERS}
        priced = other.input_price is not None or other.output_price is not None
        return replace(
            self,
            supported=(self.supported - other.unsupported) | other.supported,
            unsupported=(self.unsupported - other.supported) | other.unsupported,
            tiers=other.tiers if priced else self.tiers,
            **{name: value for name, value in given.items() if value is not None},
        )

    def __str__(self) -> str:
        return f"ModelProfile({'; '.join(filter(None, self._words())) or 'nothing known'})"

    def _words(self) -> tuple[str, ...]:
        numbers = {
            "window": self.context_window,
            "output": self.max_output,
            "$ in": self.input_price,
            "$ out": self.output_price,
        }
        known = (f"{name} {value}" for name, value in numbers.items() if value is not None)
        has, lacks = ", ".join(sorted(self.supported)), ", ".join(sorted(self.unsupported))
        return has and f"has {has}", lacks and f"lacks {lacks}", ", ".join(known)


_NUMBERS: Final = (
    "context_window",
    "max_output",
    "input_price",
    "output_price",
    "cached_input_price",
)

UNKNOWN: Final = ModelProfile()


def configured(models: Mapping[str, ProfileSettings], names: Iterable[str]) -> ModelProfile:
    """Return what ``[llm.models]`` says of a model.

    Args:
        models: the tables by name.
        names: all that the model may be called, the most exact last, which goes before others.

    >>> gpt = ProfileSettings(context_window=8192, max_output=100)
    >>> models = {"gpt": gpt, "groq:gpt": ProfileSettings(max_output=50)}
    >>> print(configured(models, ["gpt", "groq:gpt"]), configured(models, ["gpt", "openai:gpt"]))
    ModelProfile(window 8192, output 50) ModelProfile(window 8192, output 100)
    """
    found = UNKNOWN
    for name in names if models else ():
        if name in models:
            found = found.overlaid(_said(models[name]))
    return found


def _said(settings: ProfileSettings) -> ModelProfile:
    can = settings.capabilities
    return ModelProfile(
        supported=frozenset(name for name, has in can.items() if has),
        unsupported=frozenset(name for name, has in can.items() if not has),
        **{name: getattr(settings, name) for name in _NUMBERS},
    )


def _cost(tokens: int, price: Decimal | None) -> Decimal | None:
    if tokens == 0:
        return Decimal()
    return None if price is None else (tokens * price).scaleb(-_MILLION)


class ProfileTable(Protocol):
    """Looks up what is known of a provider's model; unknown models give ``UNKNOWN``."""

    def __call__(self, provider: str, model: str, /) -> ModelProfile:
        """Return the profile.

        Args:
            provider: its id, such as ``openai``.
            model: verbatim from the reference.
        """
        ...


def unknown_models(provider: str, model: str, /) -> ModelProfile:
    """Return a profile that knows nothing: the table of a registry that was given none."""
    del provider, model
    return UNKNOWN
