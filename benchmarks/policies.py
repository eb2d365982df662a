"""What the policies of a call cost while nothing fails: each alone, and all together.

    tox -e bench -- benchmarks/policies.py

Each figure is the best of several rounds, in microseconds a call; an empty call on the same loop
is subtracted from those that await. The goal is 30 µs for all together.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal

from kor_core.errors import ProviderError
from kor_core.llm.policies.breaker import Breakers, Guard
from kor_core.llm.policies.cache import ResponseCache, request_key
from kor_core.llm.policies.circuit import CircuitKey
from kor_core.llm.policies.concurrency import Concurrency
from kor_core.llm.policies.latency import Latencies
from kor_core.llm.policies.ledger import Ledger, Sinks
from kor_core.llm.policies.retrier import Retrier
from kor_core.llm.policies.strategies import (
    Option,
    Turns,
    cheapest,
    fastest,
    ordered,
    preferred,
    round_robin,
)
from kor_core.llm.response import LLMResponse, Usage

ROUNDS = 7
CALLS = 5_000

KEY = CircuitKey("acme", "openai", "gpt-4o", "fingerprint")
REQUEST = {
    "messages": [
        {"role": "system", "content": "You are a helpful assistant." * 10},
        {"role": "user", "content": "What is the weather like in Bern? " * 20},
    ],
    "temperature": 0.2,
    "max_tokens": 500,
}
RESPONSE = LLMResponse("It is sunny.", usage=Usage(10, 5), model_id="gpt-4o", request_id="r")
USAGE = Usage(10, 5)
FAILED = ProviderError("It failed.", retryable=True)
OPTIONS = [
    Option("openai:gpt-4o", Decimal("2.5"), 128_000, 0.4),
    Option("litellm:claude-3-opus", Decimal(15), 200_000, 0.9),
    Option("groq:llama-3.3-70b", Decimal("0.6"), 128_000, 0.1),
]

breakers = Breakers()
concurrency = Concurrency({"openai": 20, "openai:gpt-4o": 10})
unlimited = Concurrency({})
latencies = Latencies()
retrier = Retrier()
turns = Turns()
sinks = Sinks([lambda record: latencies.note(record.model, record.duration)])
cache = ResponseCache[LLMResponse]()
together = ResponseCache[LLMResponse](coalesce=True)
for each in (cache, together):
    each.put("hit", RESPONSE)


async def answer() -> LLMResponse:
    return RESPONSE


# --- each alone ---


async def nothing() -> None:
    pass


async def breaker() -> None:
    guard = breakers.admit(KEY)
    assert guard is not None
    with guard:
        pass


async def limits() -> None:
    async with concurrency.place(("openai:gpt-4o", "openai"), "acme"):
        pass


async def no_limits() -> None:
    async with unlimited.place(("openai:gpt-4o", "openai"), "acme"):
        pass


async def ledger() -> None:
    with Ledger(sinks).attempt("openai:gpt-4o") as entry:
        entry.note(usage=USAGE)


async def key() -> None:
    request_key("acme", "openai:gpt-4o", REQUEST)


async def cache_hit() -> None:
    await cache.through("hit", answer)


def missing(cache: ResponseCache[LLMResponse]) -> Callable[[], Awaitable[object]]:
    numbers = iter(range(10**9))
    return lambda: cache.through(str(next(numbers)), answer)


async def strategy(choose: Callable[[], object]) -> None:
    choose()


async def open_breaker() -> None:
    assert breakers.admit(OPEN) is None


OPEN = KEY._replace(model="dead")
for _ in range(5):
    Guard(breakers, OPEN).failed(FAILED)


# --- all together, in the order of a call ---


async def everything() -> None:
    chosen = ordered(OPTIONS)[0]
    book = Ledger(sinks)
    guard = breakers.admit(KEY)
    assert guard is not None
    with guard:
        async with concurrency.place(("openai:gpt-4o", "openai"), "acme"):
            with book.attempt(chosen.reference) as entry:
                await answer()
                entry.note(usage=USAGE)


def through_the_cache() -> Callable[[], Awaitable[object]]:
    numbers = iter(range(10**9))

    async def call() -> LLMResponse:
        await everything()
        return RESPONSE

    async def run() -> None:
        request = {**REQUEST, "seed": next(numbers)}
        await together.through(request_key("acme", "openai:gpt-4o", request), call)

    return run


CASES: dict[str, Callable[[], Awaitable[object]]] = {
    "breaker, closed": breaker,
    "breaker, open": open_breaker,
    "concurrency, two limits": limits,
    "concurrency, no limits": no_limits,
    "ledger, one attempt, latency as sink": ledger,
    "retrier, after a failure": lambda: strategy(lambda: retrier.wait_before(FAILED, 1, None)),
    "strategy ordered": lambda: strategy(lambda: ordered(OPTIONS)),
    "strategy cheapest": lambda: strategy(lambda: cheapest(OPTIONS)),
    "strategy fastest": lambda: strategy(lambda: fastest(OPTIONS)),
    "strategy round_robin": lambda: strategy(lambda: round_robin(OPTIONS, turns)),
    "affinity": lambda: strategy(lambda: preferred("conversation", OPTIONS)),
    "cache: key of a request": key,
    "cache: hit": cache_hit,
    "cache: miss": missing(cache),
    "cache: miss, coalescing": missing(together),
    "ALL, without cache": everything,
    "ALL, with cache, coalescing, a miss": through_the_cache(),
}


async def seconds(case: Callable[[], Awaitable[object]]) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        await case()
    return (time.perf_counter() - start) / CALLS


async def main() -> None:
    best = dict.fromkeys(["", *CASES], float("inf"))
    for _ in range(ROUNDS):
        for name, case in {"": nothing, **CASES}.items():
            best[name] = min(best[name], await seconds(case))
    for name in CASES:
        print(f"{name:40} {(best[name] - best['']) * 1e6:6.2f} µs")


if __name__ == "__main__":
    asyncio.run(main())
