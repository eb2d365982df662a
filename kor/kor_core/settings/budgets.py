"""Money that may be spent in a day or a month: the tables ``[llm.budgets.<name>]``.

They are the operator's alone: a tenant that set its own would have none.
"""

from typing import Annotated, Final, Literal

from pydantic import Field, WithJsonSchema

from kor_core.settings.models import Price
from kor_core.settings.tables import Table
from kor_core.settings.values import Texts

__all__ = ["BudgetSettings"]

# Counted in billionths of a dollar by Redis' scripts, whose numbers are exact up to 2**53.
_MOST: Final = 9_000_000

_Amount = Annotated[
    Price, Field(le=_MOST), WithJsonSchema({"type": "number", "minimum": 0, "maximum": _MOST})
]


class BudgetSettings(Table):
    """Money that may be spent in a day or a month; the table's name is yours to choose.

    A call counts where it fits `tenant`, `purpose` and `model`; what is left out fits all.
    All these calls share one pot, or have one pot each with `each`. A call that would spend
    more than is left is refused before it is made. Calls with a key or an endpoint of a
    tenant's own are not paid for by you: they count in pots of their own.

    >>> BudgetSettings(amount=5, per="day", each="tenant")
    BudgetSettings(amount=Decimal('5'), per='day', each='tenant', unpriced='refuse')
    """

    amount: _Amount = Field(description="US dollars that each pot holds.")
    per: Literal["day", "month"] = Field(
        description="When the pots are full again: at midnight, or on the first of the month at "
        "midnight, both in UTC."
    )
    each: Literal["tenant", "purpose", "model"] | None = Field(
        default=None,
        description="Whose pot it is: one for each tenant, purpose or model; left out, one for "
        "all. The application's own calls count as one tenant more.",
    )
    tenant: Texts | None = Field(
        default=None, description="Ids of the tenants whose calls count; left out, all calls."
    )
    purpose: Texts | None = Field(
        default=None, description="Names of the purposes whose calls count; left out, all calls."
    )
    model: Texts | None = Field(
        default=None,
        description="Models whose calls count, as `openai:gpt-4o`, or `gpt-4o` with any "
        "provider; left out, all calls.",
    )
    unpriced: Literal["refuse", "allow"] = Field(
        default="refuse",
        description="What becomes of calls to a model whose price is unknown, and which no "
        "budget can count. Prices are set in `[llm.models]`.",
    )
