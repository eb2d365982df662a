"""Which error leads to what: one table for every provider.

Three questions are answered for each class of error: is the same model asked again, who is
asked next, and what does the error say of the model's health?
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from math import isfinite
from types import MappingProxyType
from typing import Final

from kor_core import errors

__all__ = ["REACTIONS", "Health", "Next", "Reaction", "asked_wait", "reaction_to"]


class Next(Enum):
    """Who is asked once a candidate is given up."""

    ANY = "the next candidate"
    LARGER = "the next candidate with a larger window"
    OPTED_IN = "the next candidate, where that is opted in to"
    NONE = "nobody"


class Health(Enum):
    """What an error says of the model that was asked."""

    ANSWERED = "it works: the request was at fault"
    FAILING = "it failed, and may soon work again"
    REFUSING = "it refuses this key, and will for a while"
    UNTRIED = "nothing: it was not asked"


@dataclass(frozen=True, slots=True)
class Reaction:
    """What follows from an error.

    Args:
        then: who is asked next.
        health: what it says of the model.
        retry: whether the same model may be asked once more before that.
    """

    then: Next
    health: Health
    retry: bool = False


_AGAIN: Final = Reaction(Next.ANY, Health.FAILING, retry=True)
_COOLDOWN: Final = Reaction(Next.ANY, Health.REFUSING)
_STOP: Final = Reaction(Next.NONE, Health.UNTRIED)

# The nearest class among the bases of an error counts, so that errors of plugins have a row too.
REACTIONS: Final[Mapping[type[errors.KorError], Reaction]] = MappingProxyType(
    {
        errors.LLMConnectionError: _AGAIN,
        errors.LLMTimeoutError: _AGAIN,
        errors.ProviderError: _AGAIN,
        # It was repaired once, where that is emulated; asked the same again it would be as often.
        errors.InvalidAnswerError: Reaction(Next.ANY, Health.ANSWERED),
        errors.InvalidToolCallError: Reaction(Next.ANY, Health.ANSWERED, retry=True),
        errors.RateLimitError: _AGAIN,
        errors.StreamInterruptedError: _AGAIN,
        errors.LLMError: _AGAIN,
        errors.ContextWindowExceededError: Reaction(Next.LARGER, Health.ANSWERED),
        errors.ContentFilterError: Reaction(Next.OPTED_IN, Health.ANSWERED),
        errors.AuthenticationError: _COOLDOWN,
        errors.PermissionDeniedError: _COOLDOWN,
        errors.ModelNotFoundError: _COOLDOWN,
        errors.QuotaExhaustedError: _COOLDOWN,
        errors.CapabilityNotSupportedError: Reaction(Next.ANY, Health.UNTRIED),
        errors.CircuitOpenError: Reaction(Next.ANY, Health.UNTRIED),
        errors.NotEligibleError: Reaction(Next.ANY, Health.UNTRIED),
        # A purpose within a purpose: its own candidates were retried and judged already.
        errors.AllModelsFailedError: Reaction(Next.ANY, Health.UNTRIED),
        errors.BadRequestError: Reaction(Next.NONE, Health.ANSWERED),
        errors.BudgetExceededError: _STOP,
        errors.ConfigurationError: _STOP,
        errors.RealCallsBlockedError: _STOP,
        # Every candidate's limits are counted there.
        errors.StateUnavailableError: _STOP,
        errors.ToolRoundsExceededError: _STOP,
        errors.KorError: _STOP,
    }
)


def reaction_to(error: errors.KorError) -> Reaction:
    """Return what follows from an error; only one that says it is retryable is retried.

    >>> from kor_core.errors import ProviderError, RateLimitError
    >>> reaction_to(RateLimitError("Slow down.")).retry
    True
    >>> reaction_to(ProviderError("It redirects.", retryable=False)).retry
    False
    """
    found = next(REACTIONS[kind] for kind in type(error).__mro__ if kind in REACTIONS)
    if found.retry and not (isinstance(error, errors.LLMError) and error.retryable):
        return replace(found, retry=False)
    return found


def asked_wait(error: errors.KorError) -> float:
    """Return the seconds that a provider asked to be left alone for; 0.0 when it did not.

    >>> from kor_core.errors import RateLimitError
    >>> asked_wait(RateLimitError("Slow down.", retry_after=2.5))
    2.5
    """
    wait = error.retry_after if isinstance(error, errors.LLMError) else None
    # Providers of users fill this in too: what is no wait does not become one.
    return wait if wait is not None and isfinite(wait) and wait > 0 else 0.0
