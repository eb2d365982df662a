"""The limits and budgets of a configuration, as data: what each counts, for whom, how much."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from math import ceil
from typing import Any, Final, Literal
from urllib.parse import quote

from kor_core.llm.policies.state import added
from kor_core.llm.policies.windows import Period
from kor_core.llm.reference import spelled
from kor_core.settings import Settings
from kor_core.settings.budgets import BudgetSettings
from kor_core.settings.provenance import KeyPath, dotted

__all__ = ["Bound", "Planned", "Unit", "bounds_of", "dollars", "nanodollars"]

Unit = Literal["requests", "tokens", "money"]

_NANO: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Planned:
    """A request that is about to be sent.

    Args:
        provider: id of the provider.
        model: name of the model, as in the reference.
        tokens: how many it may take, answer included; see :func:`estimated_tokens`.
        cost: how many US dollars it may cost; None where no price is known.
        tenant: whose call it is; None for the application's own.
        purpose: what it is for; None where the model was asked for by reference.
        account: whose key is used: the tenant's id where it brought its own, None for the
            operator's. What it takes is counted in pots of its account.
        names: all that the configuration may call the model, the most exact last; by default
            its name and the reference.
    """

    provider: str
    model: str
    tokens: int
    cost: Decimal | None
    tenant: str | None = None
    purpose: str | None = None
    account: str | None = None
    names: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """The provider and the model."""
        return f"{self.provider}:{self.model}"

    def amounts(self) -> dict[Unit, int | None]:
        """Return how much it takes of each unit, never below 0; None where that is unknown."""
        money = None if self.cost is None else added(0, nanodollars(self.cost))
        return {"requests": 1, "tokens": added(0, self.tokens), "money": money}

    @property
    def called(self) -> tuple[str, ...]:
        """All that the configuration may call the model; the last one is its own alone."""
        return self.names or spelled(self.provider, (self.model,))


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit or budget, which fits a call.

    Args:
        key: where it is set, such as ``llm.providers.openai.requests_per_minute``.
        origin: the file and line, or the variable; empty where there is none.
        unit: what it counts; money in billionths of a US dollar.
        amount: the most there may be in a window.
        period: the window.
        pot: whose count it is; calls with the same pot count together.
        free: whether calls of unknown cost are made, uncounted.
    """

    key: str
    origin: str
    unit: Unit
    amount: int
    period: Period
    pot: str
    free: bool = False

    @property
    def place(self) -> str:
        """Where it is set, for messages."""
        return f"{self.key} in {self.origin}" if self.origin else self.key


def nanodollars(cost: Decimal) -> int:
    """Return an amount in billionths of a US dollar, rounded up.

    >>> nanodollars(Decimal("0.15")), nanodollars(Decimal("0.00000000001"))
    (150000000, 1)
    """
    return ceil(cost * _NANO)


def dollars(nano: int) -> str:
    """Return billionths of a US dollar as text.

    >>> dollars(150_000_000), dollars(5_000_000_000)
    ('US$ 0.15', 'US$ 5')
    """
    return f"US$ {(Decimal(nano) / _NANO).normalize():f}"


# --- from the configuration ----------------------------------------------------------------


def bounds_of(settings: Settings, call: Planned) -> Iterator[Bound]:
    """Yield the limits and budgets that a call counts in.

    Args:
        settings: the operator's, which all tenants share.
        call: what is to be sent; its tokens and cost do not matter.
    """
    yield from _rates(settings, ("llm", "providers", call.provider), call, call.provider)
    yield from _rates_of_model(settings, call)
    for name, budget in settings.llm.budgets.items():
        if _counts(budget, call):
            yield _budget(settings, name, budget, call)


def _rates_of_model(settings: Settings, call: Planned) -> Iterator[Bound]:
    """Yield those of the model: what is said of the reference goes before the name alone."""
    found: dict[Unit, Bound] = {}
    for name in call.called:
        path = ("llm", "models", name)
        found |= {rate.unit: rate for rate in _rates(settings, path, call, call.called[-1])}
    yield from found.values()


def _rates(settings: Settings, path: KeyPath, call: Planned, whose: str) -> Iterator[Bound]:
    table = getattr(settings.llm, path[1]).get(path[2])
    for unit in _RATED:
        key = f"{unit}_per_minute"
        amount = getattr(table, key, None)
        if amount is not None:
            yield Bound(
                key=dotted((*path, key)),
                origin=settings.origin(*path, key),
                unit=unit,
                amount=amount,
                period="minute",
                pot=_pot(whose, "account", call.account),
            )


_RATED: Final[tuple[Unit, ...]] = ("requests", "tokens")


def _counts(budget: BudgetSettings, call: Planned) -> bool:
    return (
        (budget.tenant is None or call.tenant in budget.tenant)
        and (budget.purpose is None or call.purpose in budget.purpose)
        and (budget.model is None or any(name in call.called for name in budget.model))
    )


def _budget(settings: Settings, name: str, budget: BudgetSettings, call: Planned) -> Bound:
    path = ("llm", "budgets", name)
    whose: dict[str | None, Any] = {
        "tenant": call.tenant,
        "purpose": call.purpose,
        "model": call.called[-1],
    }
    return Bound(
        key=dotted(path),
        origin=settings.origin(*path),
        unit="money",
        amount=nanodollars(budget.amount),
        period=budget.per,
        pot="/".join(_pots(budget, whose.get(budget.each), call.account)),
        free=budget.unpriced == "allow",
    )


def _pots(budget: BudgetSettings, whose: Any, account: str | None) -> Iterator[str]:
    """Yield the parts of a pot's name: whose it is, and who pays, where the operator does not.

    What a tenant's own endpoint says that a call took must not spend what others share.
    """
    if budget.each:
        yield _pot("", budget.each, whose)
    if account is not None:
        yield _pot("", "account", account)


def _pot(whose: str, kind: str, name: str | None) -> str:
    """Return the name of a pot; no tenant can be called so that it gets into another's."""
    given = kind if name is None else f"{kind}={quote(name, safe=':')}"
    return f"{quote(whose, safe=':')}/{given}" if whose else given
