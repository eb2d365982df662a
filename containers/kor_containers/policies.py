"""What surrounds every call: a binding for each policy; tenants share them."""

from typing import Any

from dependency_injector.providers import Dependency

from kor_containers.container import KorContainer
from kor_containers.providers import Object, Singleton
from kor_core.adapters.state import state_for
from kor_core.adapters.structlog import CallLog
from kor_core.llm.pipeline import Policies
from kor_core.llm.policies.breaker import Breakers
from kor_core.llm.policies.cache import ResponseCache
from kor_core.llm.policies.concurrency import Concurrency
from kor_core.llm.policies.latency import Latencies
from kor_core.llm.policies.ledger import Sink
from kor_core.llm.policies.limits import Meter
from kor_core.llm.policies.retrier import Retrier
from kor_core.llm.policies.state import StateBackend
from kor_core.settings import Settings

__all__ = ["PolicyContainer"]


def _state(operator: Settings) -> StateBackend:
    return state_for(operator.state)


def _retrier(operator: Settings) -> Retrier:
    return Retrier(operator.llm.policies.retries)


def _breakers(operator: Settings) -> Breakers:
    chosen = operator.llm.policies.breaker
    return Breakers(failures=chosen.failures, window=chosen.window, open_for=chosen.cooldown)


def _concurrency(operator: Settings) -> Concurrency:
    llm = operator.llm
    limits = {
        **{f"provider {name}": table.concurrency for name, table in llm.providers.items()},
        **{f"model {name}": table.concurrency for name, table in llm.models.items()},
    }
    return Concurrency({name: limit for name, limit in limits.items() if limit is not None})


def _cache(operator: Settings) -> ResponseCache[Any] | None:
    chosen = operator.llm.policies.cache
    if not chosen.entries:
        return None
    return ResponseCache(chosen.entries, chosen.ttl, coalesce=chosen.coalesce)


def _meter(operator: Settings, state: StateBackend) -> Meter | None:
    return Meter(operator, state) if _is_limited(operator) else None


def _is_limited(operator: Settings) -> bool:
    tables = (*operator.llm.providers.values(), *operator.llm.models.values())
    rates = (getattr(table, f"{unit}_per_minute") for table in tables for unit in _UNITS)
    return bool(operator.llm.budgets) or any(rate is not None for rate in rates)


_UNITS = ("requests", "tokens")


def _pipeline(operator: Settings, **policies: Any) -> Policies:
    chosen = operator.llm.policies
    return Policies(
        **policies,
        content_filter_fallback=chosen.content_filter_fallback,
        log_content=chosen.log_content,
    )


class PolicyContainer(KorContainer):
    """Builds the policies that the operator's ``[llm.policies]``, limits and budgets describe.

    They know no credential and no purpose, so tenants share them; what they count and remember
    is kept apart by tenant.
    """

    operator = Dependency(instance_of=Settings)

    log = Singleton(CallLog)
    sink: Object[Sink | None] = Object(None)
    state = Singleton(_state, operator)
    cache = Singleton(_cache, operator)
    meter = Singleton(_meter, operator, state)
    breakers = Singleton(_breakers, operator)
    retrier = Singleton(_retrier, operator)
    concurrency = Singleton(_concurrency, operator)
    latencies = Singleton(Latencies)
    pipeline = Singleton(
        _pipeline,
        operator,
        observer=log,
        sink=sink,
        cache=cache,
        meter=meter,
        breakers=breakers,
        retrier=retrier,
        concurrency=concurrency,
        latencies=latencies,
    )
