"""Bounds on the rate of calls, of ``[llm.providers.<id>]`` and ``[llm.models]``.

They are the operator's alone: a tenant that set its own would have none. Calls of the application
and of all tenants that use the operator's key count together; a tenant with a key of its own has
a count of its own.
"""

from typing import Annotated, Final

from pydantic import Field

from kor_core.settings.values import Whole

__all__ = ["RATES", "Concurrency", "RequestsPerMinute", "TokensPerMinute"]

RATES: Final = ("requests_per_minute", "tokens_per_minute", "concurrency")
"""The names of the keys."""

# So that Redis' scripts, which count in floats, stay exact.
_MOST: Final = 1_000_000_000

_Bound = Annotated[Whole, Field(ge=1, le=_MOST)]

RequestsPerMinute = Annotated[
    _Bound | None,
    Field(
        description="Most requests in a minute, retries and fallbacks included. The minute "
        "slides: of the clock's minute before, the share counts that is not yet a minute ago."
    ),
]
TokensPerMinute = Annotated[
    _Bound | None,
    Field(
        description="Most tokens in a minute, of requests and answers together. A call counts as "
        "estimated when it begins (its text and `max_tokens`), and as it was once it is answered."
    ),
]
Concurrency = Annotated[
    _Bound | None,
    Field(
        description="Most requests at the same time, in this process. Others wait; tenants take "
        "turns."
    ),
]
