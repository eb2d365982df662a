"""The policies around every call of a kernel, as one thing to hand over."""

from dataclasses import dataclass, field
from typing import Any

from kor_core.llm.events import Observer, unobserved
from kor_core.llm.policies.breaker import Breakers
from kor_core.llm.policies.cache import ResponseCache
from kor_core.llm.policies.concurrency import Concurrency
from kor_core.llm.policies.latency import Latencies
from kor_core.llm.policies.ledger import Sink, Sinks
from kor_core.llm.policies.limits import Meter
from kor_core.llm.policies.retrier import Retrier

__all__ = ["Policies"]


@dataclass(frozen=True, slots=True)
class Policies:
    """What surrounds each call, in this order; shared by an application and its tenants.

    trace → cache → fallback → retry → breaker → budget → concurrency → provider

    From the breaker on it is each request's: retries and fallbacks spend too.

    Args:
        observer: is told of each call.
        cache: keeps answers; None keeps none.
        meter: counts limits and budgets; None counts nothing.
        breakers: leave failing models alone.
        retrier: asks the same model again.
        concurrency: how many requests run at once.
        latencies: how fast models have been of late.
        sink: is told of each request.
        content_filter_fallback: whether the next model is asked when one declines the content.
        log_content: whether observers are given prompts and answers.

    >>> Policies().retrier.retries
    2
    """

    observer: Observer = unobserved
    cache: ResponseCache[Any] | None = None
    meter: Meter | None = None
    breakers: Breakers = field(default_factory=Breakers)
    retrier: Retrier = field(default_factory=Retrier)
    concurrency: Concurrency = field(default_factory=lambda: Concurrency({}))
    latencies: Latencies = field(default_factory=Latencies)
    sink: Sink | None = None
    content_filter_fallback: bool = False
    log_content: bool = False

    def __post_init__(self) -> None:
        if self.sink is not None and not isinstance(self.sink, Sinks):
            # A user's code, which must not harm the call that it is told of.
            object.__setattr__(self, "sink", Sinks([self.sink]))
