"""How a model is chosen: a pure function of what is needed and how the candidates stand.

Filters leave out what cannot serve and say why; a strategy orders what is left. Nothing is built,
asked or remembered here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Final

from kor_core.errors import (
    CapabilityNotSupportedError,
    CircuitOpenError,
    ContextWindowExceededError,
    LLMError,
    NotEligibleError,
    PluginError,
)
from kor_core.llm.policies.circuit import CLOSED, CircuitState
from kor_core.llm.policies.strategies import Option, Strategy, cheapest, ordered, preferred
from kor_core.llm.profile import UNKNOWN, ModelProfile
from kor_core.llm.reference import Reference
from kor_core.suggestions import listed

__all__ = [
    "NOTHING",
    "Choice",
    "Needs",
    "Ranked",
    "Rejected",
    "Standing",
    "choose",
    "in_order",
    "lacking",
    "open_error",
    "ranked",
    "sole",
]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model must have to be chosen.

    Args:
        capabilities: such as ``tools``; a model of which it is unknown passes, and ranks
            behind those that are known to have them.
        tokens: how many the request and its answer may take; 0 where nobody knows yet.
        min_context: smallest window that will do, in tokens.
        max_price: highest price, US dollars per million tokens, of input and output alike.
        tags: that the operator must have given the model.
        tenant: whose call it is; None for the application's.
    """

    capabilities: frozenset[str] = frozenset()
    tokens: int = 0
    min_context: int | None = None
    max_price: Decimal | None = None
    tags: frozenset[str] = frozenset()
    tenant: str | None = None

    def with_request(self, capabilities: frozenset[str], tokens: int) -> "Needs":
        """Return these and what one request needs."""
        return Needs(
            self.capabilities | capabilities,
            tokens,
            self.min_context,
            self.max_price,
            self.tags,
            self.tenant,
        )


NOTHING: Final = Needs()


@dataclass(frozen=True, slots=True)
class Standing:
    """How a candidate stands at the moment.

    Args:
        reference: the provider and model.
        profile: what is known of the model.
        circuit: whether it answered of late.
        latency: seconds to its first token of late, or None.
        spent: why a limit or budget has no room for the call, or None.
        unusable: why it cannot be asked at all, such as a key that is missing, or None.
        tags: that the operator gave the model.
        tenants: who may use it; None for everybody.
    """

    reference: Reference
    profile: ModelProfile = UNKNOWN
    circuit: CircuitState = CLOSED
    latency: float | None = None
    spent: LLMError | None = field(default=None, compare=False)
    unusable: LLMError | None = field(default=None, compare=False)
    tags: frozenset[str] = frozenset()
    tenants: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate that qualifies, and what it was ranked by.

    Args:
        reference: the provider and model.
        input_price: US dollars per million tokens; None is unknown, here and below.
        output_price: likewise.
        context_window: in tokens.
        latency: seconds to the first token of late.
        health: how its circuit breaker stands, in words.
    """

    reference: str
    input_price: Decimal | None
    output_price: Decimal | None
    context_window: int | None
    latency: float | None
    health: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A candidate that does not qualify.

    Args:
        reference: the provider and model.
        reason: why, and what would make it qualify.
        error: the same as an error; it is raised where there is no other candidate.
    """

    reference: str
    reason: str
    error: LLMError = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Choice:
    """What came of a choice.

    Args:
        order: the places of those that qualify, in the order in which they are asked.
        candidates: the same with what they were ranked by.
        rejected: the others, with the reason.
        why: in one sentence.
    """

    order: tuple[int, ...]
    candidates: tuple[Ranked, ...]
    rejected: tuple[Rejected, ...]
    why: str


def choose(
    standings: Sequence[Standing],
    needs: Needs,
    strategy: Strategy = ordered,
    *,
    name: str = "ordered",
    affinity: str | None = None,
) -> Choice:
    """Choose among candidates.

    Args:
        standings: the candidates, in the order of the configuration.
        needs: what they must have.
        strategy: orders those that qualify.
        name: of the strategy, for the sentence.
        affinity: what a conversation is known by, to stay with one model while it is healthy;
            strategies that put the same one first anyway go before it.

    Raises:
        PluginError: a strategy of the operator's raised, or gave back what it was not given.

    >>> small = Standing(Reference("p", "small"), ModelProfile(context_window=8))
    >>> large = Standing(Reference("p", "large"), ModelProfile(context_window=80))
    >>> choice = choose([small, large], Needs(tokens=20))
    >>> choice.candidates[0].reference, choice.rejected[0].reference
    ('p:large', 'p:small')
    """
    order, rejected = in_order(standings, needs, strategy, name=name, affinity=affinity)
    candidates = tuple(ranked(standings[place]) for place in order)
    return Choice(order, candidates, rejected, _why(candidates, rejected, name, affinity))


def in_order(
    standings: Sequence[Standing],
    needs: Needs,
    strategy: Strategy = ordered,
    *,
    name: str = "ordered",
    affinity: str | None = None,
) -> tuple[tuple[int, ...], tuple[Rejected, ...]]:
    """Choose as :func:`choose` does, and say nothing of why: that is for people, not for calls.

    Args:
        standings: as for :func:`choose`, and so are the others.
        needs: what they must have.
        strategy: orders those that qualify.
        name: of the strategy.
        affinity: what a conversation is known by.

    >>> in_order([Standing(Reference("p", "m"))], NOTHING)
    ((0,), ())
    """
    rejected: list[Rejected] = []
    options: dict[str, Option] = {}
    places: dict[str, int] = {}
    for place, standing in enumerate(standings):
        reference = str(standing.reference)
        error = lacking(standing, needs)
        if error is not None:
            rejected.append(_rejected(standing, error))
        elif reference not in options:
            options[reference] = _option(standing, needs)
            places[reference] = place
    if affinity is not None and strategy not in _STEADY:
        strategy = partial(preferred, affinity)
    best = _ordered(strategy, name, options)
    left = [standings[places[reference]] for reference in options if reference not in best]
    rejected += [_rejected(each, _left_out(each.reference, name)) for each in left]
    return tuple(places[reference] for reference in best), tuple(rejected)


# They stay with one model by themselves, and a conversation is no reason to ask another first.
_STEADY: Final[tuple[Strategy, ...]] = (ordered, cheapest)


def _ordered(strategy: Strategy, name: str, options: Mapping[str, Option]) -> Sequence[str]:
    """Return the references in the order of a strategy, each once."""
    try:
        best = list(dict.fromkeys(each.reference for each in strategy(tuple(options.values()))))
    except Exception as error:  # a function of the operator's may raise, or return, anything
        raise _astray(f"It raised {type(error).__name__}: {error}.", name) from error
    strange = next((reference for reference in best if reference not in options), None)
    if strange is not None:
        raise _astray(f"It returned {strange!r}, which is no candidate.", name)
    return best


def _astray(what: str, name: str) -> PluginError:
    cure = "A strategy returns the options that it is given, the best one first. Mend it."
    return PluginError(f"{what} {cure}", plugin=name, origin="strategy in the configuration")


def _left_out(reference: Reference, name: str) -> LLMError:
    return NotEligibleError(
        f"The strategy '{name}' leaves it out. Return it too, if only as the last one.",
        provider=reference.provider,
        model=reference.model,
    )


def _rejected(standing: Standing, error: LLMError) -> Rejected:
    reason = str(error.args[0]) if error.args else str(error)
    return Rejected(str(standing.reference), reason, error)


def sole(standing: Standing, needs: Needs) -> Choice:
    """Choose where there is no choice: the same as :func:`choose` for one, and quicker."""
    error = lacking(standing, needs)
    if error is not None:
        rejected = _rejected(standing, error)
        return Choice((), (), (rejected,), _why((), (rejected,), "", None))
    return _SOLE


_SOLE: Final = Choice((0,), (), (), "It is the only candidate.")


def lacking(standing: Standing, needs: Needs) -> LLMError | None:
    """Return why a candidate does not qualify, or None where it does."""
    return next(_reasons(standing, needs), None)


def _reasons(standing: Standing, needs: Needs) -> Iterator[LLMError]:
    if standing.unusable is not None:
        yield copy(standing.unusable)  # to be raised: each call adds its own attempts
    provider, model = standing.reference
    for check in _CHECKS:
        error = check(standing, needs)
        if error is not None:
            error.provider, error.model = provider, model
            yield error


def _lacks_capability(standing: Standing, needs: Needs) -> LLMError | None:
    for need in sorted(needs.capabilities):
        if standing.profile.supports(need) is False:
            return CapabilityNotSupportedError(
                f"It lacks the capability '{need}', which is known without asking it. Ask "
                "another model, or correct what [llm.models] says of this one.",
                capability=need,
            )
    return None


def _is_too_small(standing: Standing, needs: Needs) -> LLMError | None:
    window = standing.profile.context_window
    wanted = max(needs.tokens, needs.min_context or 0)
    if window is None or wanted <= window:
        return None
    return ContextWindowExceededError(
        f"Its window of {window:,} tokens is too small: about {wanted:,} are needed. Shorten "
        "the request, lower max_tokens or min_context, or add a model with a larger window."
    )


def _is_too_dear(standing: Standing, needs: Needs) -> LLMError | None:
    prices = (standing.profile.input_price, standing.profile.output_price)
    highest = max((price for price in prices if price is not None), default=None)
    if needs.max_price is None or highest is None or highest <= needs.max_price:
        return None
    return NotEligibleError(
        f"It costs US$ {highest} per million tokens, more than max_price = {needs.max_price}. "
        "Raise max_price, or add a cheaper model."
    )


def _is_untagged(standing: Standing, needs: Needs) -> LLMError | None:
    missing = needs.tags - standing.tags
    if not missing:
        return None
    return NotEligibleError(
        f"It lacks the tags {listed(missing)}. Give them to it in [llm.models], or ask for fewer."
    )


def _is_not_for_tenant(standing: Standing, needs: Needs) -> LLMError | None:
    allowed = standing.tenants
    if allowed is None or needs.tenant is None or needs.tenant in allowed:
        return None
    return NotEligibleError("It is not for this tenant. The operator decides that.")


def _is_spent(standing: Standing, needs: Needs) -> LLMError | None:
    del needs
    return standing.spent


def _is_open(standing: Standing, needs: Needs) -> LLMError | None:
    del needs
    blocked = standing.circuit.blocked
    return open_error(standing.reference, standing.circuit) if blocked else None


def open_error(reference: Reference, circuit: CircuitState) -> CircuitOpenError:
    """Return the error of a model that is left alone for a while."""
    return CircuitOpenError(
        f"Its circuit breaker is {circuit}. It is asked again after that; add a fallback to be "
        "served meanwhile.",
        provider=reference.provider,
        model=reference.model,
        retry_after=circuit.left or None,
    )


_CHECKS: Final[tuple[Callable[[Standing, Needs], LLMError | None], ...]] = (
    _lacks_capability,
    _is_too_small,
    _is_too_dear,
    _is_untagged,
    _is_not_for_tenant,
    _is_spent,
    _is_open,
)


def _option(standing: Standing, needs: Needs) -> Option:
    profile = standing.profile
    known = all(profile.supports(need) for need in needs.capabilities)
    sized = profile.context_window is not None or needs.min_context is None
    priced = needs.max_price is None or _price(profile) is not None
    return Option(
        str(standing.reference),
        price=_price(profile),
        context=profile.context_window,
        latency=standing.latency,
        known_capable=known and sized and priced,
        cooled=standing.circuit.cooled,
    )


# Three tokens read for each one written, which is how prices are usually compared.
_READ, _WRITTEN = 3, 1


def _price(profile: ModelProfile) -> Decimal | None:
    """Return what a million tokens cost in a usual mix, or None where that is unknown."""
    if profile.input_price is None or profile.output_price is None:
        return None
    mixed = profile.input_price * _READ + profile.output_price * _WRITTEN
    return mixed / (_READ + _WRITTEN)


def ranked(standing: Standing) -> Ranked:
    """Return a candidate with what it is ranked by."""
    profile = standing.profile
    return Ranked(
        str(standing.reference),
        profile.input_price,
        profile.output_price,
        profile.context_window,
        standing.latency,
        str(standing.circuit),
    )


def _why(
    candidates: Sequence[Ranked], rejected: Sequence[Rejected], name: str, affinity: str | None
) -> str:
    if not candidates:
        return f"None of {len(rejected)} qualifies: {rejected[0].reason}" if rejected else _EMPTY
    first = candidates[0]
    others = len(candidates) - 1
    out = f", {len(rejected)} left out" if rejected else ""
    if affinity is not None and others:
        how = "the conversation stays with it"
    elif not others:
        how = "it is the only one that qualifies" if rejected else "it is the only candidate"
    else:
        how = f"strategy '{name}' puts it first of {others + 1}"
    return f"{first.reference}: {how}{out}."


_EMPTY: Final = "There is no candidate."
