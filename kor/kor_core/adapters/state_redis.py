"""Counts of limits and budgets in a Redis that several processes share, through ``limits``."""

import asyncio
from collections.abc import Awaitable, Sequence
from importlib.util import find_spec
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from kor_core.adapters.loading import load
from kor_core.adapters.loops import PerLoop
from kor_core.errors import ConfigurationError, Problem
from kor_core.llm.policies.outages import Enduring, StateFailure, StateRefusal
from kor_core.llm.policies.state import MOST, WHOLE, Charge, Full
from kor_core.redaction import masked_url, redact
from kor_core.settings import StateSettings

__all__ = ["SDK", "Opened", "RedisState", "redis_state"]

T = TypeVar("T")

# A loop rarely has more calls at once that ask Redis; others wait, within the timeout.
_MOST_CONNECTIONS: Final = 50

# How an answer begins that says what a key holds: nothing that can be added to, at no time.
_NO_COUNT: Final = "NOCOUNT"
_NO_COUNTS: Final = (_NO_COUNT, "WRONGTYPE")

# All or nothing over several counts, which no storage of `limits` does: each of its own
# operations is about one. A script of Redis runs alone; its numbers are exact up to 2**53.
# KEYS: for each charge its key and the one of the window before.
# ARGV: for each charge its amount, limit (or ''), seconds to last, and share of the window before.
# A script that fails is not undone: all that can is found before the first count is changed, and
# `added` of kor_core.llm.policies.state keeps the sums where `incrby` takes them.
_TAKE: Final = f"""
local function count(key) return tonumber(redis.call('get', key) or 0) end
for i = 1, #KEYS do
  if not count(KEYS[i]) then return redis.error_reply('{_NO_COUNT} ' .. KEYS[i]) end
end
for i = 1, #KEYS / 2 do
  local key, amount, limit = KEYS[2 * i - 1], tonumber(ARGV[4 * i - 3]), tonumber(ARGV[4 * i - 2])
  if limit then
    local used, before = count(key), count(KEYS[2 * i])
    local sliding = math.floor(before * tonumber(ARGV[4 * i]) / {WHOLE})
    if used + sliding + amount > limit then return {{i - 1, used, before}} end
  end
end
for i = 1, #KEYS / 2 do
  local key = KEYS[2 * i - 1]
  local used = count(key)
  local sum = math.min(math.max(used + tonumber(ARGV[4 * i - 3]), 0), {MOST})
  redis.call('incrby', key, string.format('%.0f', sum - used))
  if redis.call('ttl', key) < 0 then redis.call('expire', key, ARGV[4 * i - 1]) end
end
return {{}}
"""


def redis_state(settings: StateSettings) -> Enduring:
    """Return the counts in the Redis of ``[state] url``, with the policy for when it is away.

    Nothing is imported or opened yet.

    Args:
        settings: the table, with a ``url``.

    Raises:
        ConfigurationError: what is needed to speak with Redis is not installed.
    """
    remote = RedisState(settings.url or "", prefix=settings.prefix, timeout=settings.timeout)
    return Enduring(remote, on_failure=settings.on_failure, timeout=settings.timeout)


class RedisState:
    """Counts in Redis: one storage of ``limits``, with its connections, for each event loop.

    Args:
        url: ``redis://`` or ``rediss://``; its password is never shown.
        prefix: what all keys begin with.
        timeout: longest wait for Redis, in seconds.

    Raises:
        ConfigurationError: what is needed to speak with Redis is not installed.

    >>> RedisState("redis://:planted@localhost:6379/0", prefix="kor", timeout=0.5)
    <RedisState redis://**********@localhost:6379/0>
    """

    def __init__(self, url: str, *, prefix: str, timeout: float) -> None:
        missing = [name for name in ("limits", "redis") if find_spec(name) is None]
        if missing:
            words = f"Needs {' and '.join(missing)}: pip install 'kor-sdk[redis]'."
            raise ConfigurationError([Problem(words, key="state.url")])
        self._url = url
        self._prefix = prefix
        self._timeout = timeout
        self._sdk: Any = None
        self._opened = PerLoop(self._open, _close)

    async def prepare(self) -> None:
        """Import ``limits`` and ``redis``, beside the event loop."""
        if self._sdk is None:
            self._sdk = await load("redis", SDK)

    async def take(self, charges: Sequence[Charge]) -> Full | None:
        """Add all charges, or none of them where one does not fit.

        Raises:
            StateFailure: Redis cannot be reached, or refuses.
        """
        full = await self._answer(self._take(charges))
        return Full(*map(int, full)) if full else None

    async def _take(self, charges: Sequence[Charge]) -> list[Any]:
        return await (await self._here()).take(charges)

    async def counts(self, keys: Sequence[str]) -> list[int]:
        """Return the counts of these keys.

        Raises:
            StateFailure: Redis cannot be reached, or refuses.
        """
        return await self._answer(self._counts(keys))

    async def _counts(self, keys: Sequence[str]) -> list[int]:
        storage = (await self._here()).storage
        return [*await asyncio.gather(*(storage.get(key) for key in keys))]

    async def _here(self) -> "Opened":
        await self.prepare()
        return await self._opened.current()

    def _open(self) -> "Opened":
        opened: Opened = self._sdk.open(self._url, self._prefix, self._timeout)
        return opened

    async def _answer(self, asked: Awaitable[list[T]]) -> list[T]:
        try:
            return await asked
        # Of redis, of limits, of the network: the policy holds for all of them.
        except Exception as error:  # noqa: BLE001  # see above
            words = redact(f"{type(error).__name__}: {error}", self._secrets())
        # Raised out here: the other error's frames hold the password.
        raise (StateRefusal if any(mark in words for mark in _NO_COUNTS) else StateFailure)(words)

    def _secrets(self) -> list[str]:
        password = urlsplit(self._url).password or ""
        return [self._url, password, unquote(password)]

    def close(self) -> None:
        """Close the connections, without waiting for it."""
        self._opened.close()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._opened.aclose()

    def __str__(self) -> str:
        return f"Redis ({masked_url(self._url)})"

    def __repr__(self) -> str:
        return f"<RedisState {masked_url(self._url)}>"


class Opened(NamedTuple):
    """What one event loop speaks with Redis through.

    Args:
        storage: that of ``limits``.
        script: adds all or nothing.
        pool: the connections.
    """

    storage: Any
    script: Any
    pool: Any

    async def take(self, charges: Sequence[Charge]) -> list[Any]:
        """Run the script; what it returns is empty where all were added."""
        named = self.storage.bridge.prefixed_key
        keys = [named(key) for each in charges for key in (each.key, each.before)]
        numbers = (
            (each.amount, "" if each.limit is None else each.limit, each.lasts, each.share)
            for each in charges
        )
        found: list[Any] = await self.script(keys, [number for each in numbers for number in each])
        return found


async def _close(opened: Opened) -> None:
    await opened.pool.disconnect()


class SDK:
    """``limits`` and the client of Redis that it uses."""

    def __init__(self) -> None:
        from limits.aio.storage import RedisStorage
        from redis.asyncio import BlockingConnectionPool
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        self._storage_class: Final[Any] = RedisStorage
        self._pool_class: Final[Any] = BlockingConnectionPool
        # A charge that may have been added must not be added again.
        self._retry: Final[Any] = Retry(NoBackoff(), 0)

    def open(self, url: str, prefix: str, timeout: float) -> Opened:
        """Return what the running loop uses; the first charge connects."""
        pool = self._pool_class.from_url(
            url,
            max_connections=_MOST_CONNECTIONS,
            timeout=timeout,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=self._retry,
        )
        # Without its address, which it insists on reading another way and shows in errors.
        storage = self._storage_class(
            "async+redis://", implementation="redispy", key_prefix=prefix, connection_pool=pool
        )
        script = storage.bridge.get_connection().register_script(_TAKE)
        return Opened(storage, script, pool)
