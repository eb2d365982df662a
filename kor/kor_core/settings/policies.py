"""How calls are kept going: retries, breakers, the cache. The operator's alone."""

from pydantic import Field

from kor_core.settings.tables import Table
from kor_core.settings.values import Flag, Number, Whole

__all__ = ["BreakerSettings", "CacheSettings", "PolicySettings"]


class BreakerSettings(Table):
    """When a model that fails is left alone for a while."""

    failures: Whole = Field(
        default=5, ge=1, description="Failed requests within `window` that open the breaker."
    )
    window: Number = Field(default=60.0, gt=0, description="How far back it looks, in seconds.")
    cooldown: Number = Field(
        default=30.0,
        gt=0,
        description="How long the model is left alone, in seconds; one request then tries it. A "
        "`retry-after` of the provider takes its place.",
    )


class CacheSettings(Table):
    """Answers kept in memory, for requests that are the same."""

    entries: Whole = Field(
        default=0,
        ge=0,
        description="Most answers kept, of 64 KiB on average; beyond, of the tenant with the most "
        "the one unused for longest goes. Above 256 KiB one is kept without `raw`, or not at all. "
        "`0`: no cache.",
    )
    ttl: Number = Field(default=300.0, gt=0, description="How long one is kept, in seconds.")
    coalesce: Flag = Field(
        default=False,
        description="Whether requests that are the same, and made at the same time, become one.",
    )


class PolicySettings(Table):
    """What happens around a call."""

    retries: Whole = Field(
        default=2,
        ge=0,
        le=20,
        description="How often a request is tried again on the same model, after failures that "
        "may pass.",
    )
    content_filter_fallback: Flag = Field(
        default=False,
        description="Whether the next model is asked when one declines the content.",
    )
    log_content: Flag = Field(
        default=False,
        description="Whether prompts and answers are logged, beside what calls took.",
    )
    breaker: BreakerSettings = Field(
        default_factory=BreakerSettings, description="When a model is left alone."
    )
    cache: CacheSettings = Field(default_factory=CacheSettings, description="Answers kept.")
