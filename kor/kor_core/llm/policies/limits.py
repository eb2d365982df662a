"""Rate limits and budgets: what a request may take is set aside before, and settled after it.

Before a request is sent, what it may take is added to every count it belongs to, or to none of
them when one is full. Once it is answered, the difference to what it took is added; when it was
never sent, all is given back. So requests at the same time, in any number of processes, see each
other, and a limit is overspent by no more than what each took beyond its estimate.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple, TypeGuard

from kor_core.errors import LLMError
from kor_core.llm.policies.bounds import Planned, bounds_of, nanodollars
from kor_core.llm.policies.counters import Counter
from kor_core.llm.policies.refusals import full_error, unpriced_error
from kor_core.llm.policies.state import MOST, Charge, StateBackend, counted
from kor_core.settings import Settings

__all__ = ["Meter", "Reservation", "Use"]

# So many kinds of calls (by model, tenant, purpose, account) are known by heart.
_KNOWN_BY_HEART: Final = 4096

# For so long a refusal is remembered, in seconds: somebody may give back.
_REMEMBERED: Final = 1.0
_MOST_REMEMBERED: Final = 1000


class Use(NamedTuple):
    """How much of a limit or budget is used.

    Args:
        limit: the key path where it is set.
        pot: whose count it is; empty where there is one for all.
        used: requests, tokens or billionths of a US dollar, those set aside included.
        amount: the most there may be.
        resets_in: seconds until the window ends.
    """

    limit: str
    pot: str
    used: int
    amount: int
    resets_in: float


class Reservation:
    """What was set aside for one request, until it is settled or refunded.

    The first of the two counts; what comes after does nothing.

    Args:
        state: keeps the counts.
        parts: each charge with what it counts.
    """

    __slots__ = ("_parts", "_state")

    def __init__(self, state: StateBackend, parts: Sequence[tuple[str, Charge]]) -> None:
        self._state = state
        self._parts = parts

    async def settle(self, *, tokens: int | None, cost: Decimal | None) -> None:
        """Count what the request took instead of the estimate.

        Args:
            tokens: of request and answer together; None where the provider does not say, and
                the estimate stays. 0 where it refused the request.
            cost: in US dollars; None where it is unknown, likewise.

        Numbers that make no sense (below 0, without end, more than can be counted) are unknown.
        """
        if not self._parts:
            return
        taken = {"tokens": tokens, "money": _money(cost)}
        await self._add({unit: amount for unit, amount in taken.items() if _is_count(amount)})

    async def refund(self) -> None:
        """Give everything back: the request was never sent."""
        await self._add(_NOTHING)

    async def _add(self, taken: Mapping[str, int]) -> None:
        parts, self._parts = self._parts, ()
        changes = [
            Charge(charge.key, taken[unit] - charge.amount, None, charge.lasts)
            for unit, charge in parts
            if unit in taken and taken[unit] != charge.amount
        ]
        if changes:
            await self._state.take(changes)

    def __repr__(self) -> str:
        parts = ", ".join(f"{charge.amount} {unit}" for unit, charge in self._parts)
        return f"<Reservation {parts or 'of nothing'}>"


def _money(cost: Decimal | None) -> int | None:
    exact = Decimal("NaN" if cost is None else cost)  # a custom model may say it in floats
    return nanodollars(exact) if exact.is_finite() and abs(exact) <= MOST else None


def _is_count(amount: int | None) -> TypeGuard[int]:
    return type(amount) is int and 0 <= amount <= MOST


# Tenant, purpose and account.
_Whose = tuple[str | None, str | None, str | None]

_NOTHING: Final[Mapping[str, int]] = MappingProxyType({"requests": 0, "tokens": 0, "money": 0})


class _Refused(NamedTuple):
    """A refusal that is remembered: until when, and what was asked for at least."""

    until: float
    amount: int
    error: LLMError


class Meter:
    """Counts requests, tokens and money against the limits of a configuration.

    Args:
        settings: the operator's, which all tenants share.
        state: keeps the counts.
        clock: seconds since the epoch; the windows follow it.

    >>> import asyncio
    >>> from kor_core.adapters.state_memory import MemoryState
    >>> from kor_core.settings import settings_from
    >>> budget = {"amount": 1, "per": "day", "each": "tenant"}
    >>> meter = Meter(settings_from({"llm": {"budgets": {"team": budget}}}), MemoryState())
    >>> async def call(tenant: str) -> None:
    ...     planned = Planned("openai", "gpt-4o", 1000, Decimal("0.60"), tenant=tenant)
    ...     reserved = await meter.reserve(planned)
    ...     await reserved.settle(tokens=800, cost=Decimal("0.50"))
    >>> asyncio.run(call("acme"))
    >>> asyncio.run(call("acme"))
    Traceback (most recent call last):
    kor_core.errors.BudgetExceededError: openai:gpt-4o: The budget of US$ 1 a day for tenant=acme...
    """

    def __init__(
        self, settings: Settings, state: StateBackend, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._state = state
        self._clock = clock
        self._refused: dict[str, _Refused] = {}
        self._counters = lru_cache(_KNOWN_BY_HEART)(self._counters_for)

    async def reserve(self, call: Planned) -> Reservation:
        """Set aside what a request may take, of every limit and budget that it counts in.

        Raises:
            RateLimitError: a rate is reached; ``retry_after`` says when the request fits.
            BudgetExceededError: it may cost more than is left, or nobody knows what it costs.
            StateUnavailableError: Redis does not answer, and ``[state] on_failure`` says
                that calls are refused then.
        """
        counters = self._counters_of(call)
        if not counters:
            return Reservation(self._state, ())
        now, amounts = self._clock(), call.amounts()
        charges = [_charge(counter, amounts[counter.bound.unit], call, now) for counter in counters]
        full = await self._state.take(charges)
        if full is not None:
            counter, charge = counters[full.which], charges[full.which]
            error = full_error(
                counter.bound, charge, full, window=counter.window(now), call=call, now=now
            )
            self._remember(charge, error, now)
            raise error
        parts = [
            (counter.bound.unit, charge) for counter, charge in zip(counters, charges, strict=True)
        ]
        return Reservation(self._state, parts)

    @property
    def has_refused(self) -> bool:
        """Whether any call was refused of late; where none was, nobody need ask which."""
        return bool(self._refused)

    def uncounted(self, call: Planned) -> LLMError | None:
        """Return why a call like this one is refused always: nobody knows what it costs.

        None where no budget counts it, or its price is known.
        """
        amounts = call.amounts()
        bounds = (counter.bound for counter in self._counters_of(call))
        unknown = (each for each in bounds if amounts[each.unit] is None and not each.free)
        return next((unpriced_error(bound, call) for bound in unknown), None)

    def refused(self, call: Planned) -> LLMError | None:
        """Return why a call like this one was refused a moment ago; None where none was.

        It asks nobody, so that a choice between models need not wait.
        """
        if not self._refused:
            return None
        now, amounts = self._clock(), call.amounts()
        for counter in self._counters_of(call):
            found = self._refused.get(counter.key(now))
            if found and now < found.until and (amounts[counter.bound.unit] or 0) >= found.amount:
                return copy(found.error)  # to be raised: each call adds its own attempts
        return None

    async def uses(self, call: Planned) -> list[Use]:
        """Return how much is used of every limit and budget that a call would count in.

        Raises:
            StateUnavailableError: Redis does not answer.
        """
        counters, now = self._counters_of(call), self._clock()
        charges = [counter.charge(0, now) for counter in counters]
        keys = [key for charge in charges for key in (charge.key, charge.before)]
        counts = await self._state.counts(keys)
        used = map(counted, counts[::2], counts[1::2], [charge.share for charge in charges])
        return [_use(counter, amount, now) for counter, amount in zip(counters, used, strict=True)]

    def _counters_of(self, call: Planned) -> tuple[Counter, ...]:
        whose = (call.tenant, call.purpose, call.account)
        return self._counters(call.provider, call.model, call.names, whose)

    def _counters_for(
        self, provider: str, model: str, names: tuple[str, ...], whose: _Whose
    ) -> tuple[Counter, ...]:
        call = Planned(provider, model, 0, None, *whose, names)
        return tuple(map(Counter, bounds_of(self._settings, call)))

    def _remember(self, charge: Charge, error: LLMError, now: float) -> None:
        if len(self._refused) >= _MOST_REMEMBERED:
            self._refused.clear()
        self._refused[charge.key] = _Refused(now + _REMEMBERED, charge.amount, copy(error))

    def __repr__(self) -> str:
        return f"<Meter {self._state!r}>"


def _charge(counter: Counter, amount: int | None, call: Planned, now: float) -> Charge:
    if amount is not None:
        return counter.charge(amount, now)
    if not counter.bound.free:
        raise unpriced_error(counter.bound, call)
    # What it costs may be known afterwards.
    return counter.charge(0, now, limited=False)


def _use(counter: Counter, used: int, now: float) -> Use:
    bound = counter.bound
    return Use(bound.key, bound.pot, used, bound.amount, counter.window(now).end - now)
