"""Where the counts of limits and budgets are kept, as ``[state]`` says."""

from kor_core.adapters.state_memory import MemoryState
from kor_core.adapters.state_redis import redis_state
from kor_core.llm.policies.state import StateBackend
from kor_core.settings import StateSettings

__all__ = ["state_for"]


def state_for(settings: StateSettings) -> StateBackend:
    """Return the counts in Redis where there is a ``url``, else in the memory of this process.

    Nothing is imported or opened before the first count.

    Raises:
        ConfigurationError: there is a ``url``, and the extra ``redis`` is not installed.

    >>> state_for(StateSettings())
    <MemoryState>
    >>> state_for(StateSettings(url="redis://:planted@redis:6379/0"))
    <Enduring <RedisState redis://**********@redis:6379/0>>
    """
    return redis_state(settings) if settings.url else MemoryState()
