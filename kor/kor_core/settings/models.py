"""What the operator knows of a model better than the table of profiles does."""

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from kor_core.settings.capabilities import CAPABILITIES, Capability
from kor_core.settings.rates import Concurrency, RequestsPerMinute, TokensPerMinute
from kor_core.settings.tables import Table
from kor_core.settings.values import Flag, FrozenMap, Text, Whole
from kor_core.suggestions import listed

__all__ = ["Price", "ProfileSettings"]

_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


def _exact(value: Any) -> Decimal:
    """Return a number as it was written: 0.15 is 0.15, not the binary fraction nearest to it."""
    if not isinstance(value, float | int | Decimal) or isinstance(value, bool):
        # pydantic's own finding of other numbers, so that it is worded like theirs.
        raise PydanticCustomError("float_type", "Input should be a valid number")
    number = Decimal(str(value))
    if not number.is_finite():
        raise PydanticCustomError("finite_number", "Input should be a finite number")
    return number


Price = Annotated[
    Decimal,
    BeforeValidator(_exact),
    Field(ge=0),
    WithJsonSchema({"type": "number", "minimum": 0}),
]


class ProfileSettings(Table):
    """What is known of a model, over what the table of profiles says.

    The name is that of the model, for every provider that has one of that name, or a
    reference such as `openai:gpt-4.1`, which goes before it.

    >>> ProfileSettings(input_price=0.15, capabilities={"vision": False}).input_price
    Decimal('0.15')
    """

    context_window: Whole | None = Field(
        default=None, ge=1, description="Longest request that the model takes, in tokens."
    )
    max_output: Whole | None = Field(
        default=None, ge=1, description="Longest answer that the model gives, in tokens."
    )
    input_price: Price | None = Field(
        default=None, description="US dollars per million tokens of requests."
    )
    output_price: Price | None = Field(
        default=None, description="US dollars per million tokens of answers."
    )
    cached_input_price: Price | None = Field(
        default=None,
        description="US dollars per million tokens of requests that the vendor has in its cache.",
    )
    capabilities: FrozenMap[Capability, Flag] = Field(
        default_factory=lambda: _EMPTY,
        description="What the model can do and what it cannot, such as "
        "`{ tools = true, vision = false }`. "
        f"Names: {listed(f'`{name}`' for name in CAPABILITIES)}.",
    )
    tags: tuple[Text, ...] = Field(
        default=(),
        description="Names of your own, such as `eu`, that a purpose may ask for by `tags`.",
    )
    tenants: tuple[Text, ...] | None = Field(
        default=None, description="The tenants that may use the model; by default all may."
    )
    requests_per_minute: RequestsPerMinute = None
    tokens_per_minute: TokensPerMinute = None
    concurrency: Concurrency = None
