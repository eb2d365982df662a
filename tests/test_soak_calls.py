"""Fifty thousand calls, a third of them faulty: each ends in time, and nothing piles up."""

import asyncio
import gc
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from kor_containers import create_container
from kor_core.errors import LLMError
from kor_core.llm.events import unobserved
from kor_core.llm.policies.retrier import Retrier
from kor_core.testing import Upstream
from kor_core.testing.faults import (
    BrokenJson,
    Close,
    Cut,
    Empty,
    ErrorEvent,
    Fault,
    Hang,
    Html,
    Null,
    Reset,
    Status,
)
from kor_core.testing.waiting import await_until

FAULTS: tuple[Fault, ...] = (
    *(Status(status) for status in (400, 401, 403, 404, 408, 429, 500, 503)),
    Status(429, retry_after_ms=10),
    Status(429, code="insufficient_quota"),
    *(Close(), Reset(), Hang(), BrokenJson(), Empty(), ErrorEvent(), Html(), Null()),
    *(Cut(), Cut(after_deltas=1), Cut(reset=True)),
)
SHARE = 0.3
DEADLINE = 1.0
AT_ONCE = 20
# What a call may take beyond its deadline: the machine is shared, and a tick may be long.
SLACK = 8.0


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_every_call_ends_in_an_answer_or_a_typed_error_in_time_and_memory_is_flat(
    rounds: Callable[[int], int],
) -> None:
    chance = random.Random(6)
    outcomes: Counter[str] = Counter()
    threads = set(threading.enumerate())
    with Upstream(keep=100) as upstream, create_container(_settings(upstream)) as app:
        app.policies.retrier.override(Retrier(1, base=0.001))
        app.policies.log.override(unobserved)  # pytest would keep each record
        model = app.kernel().model_selector.get_model()
        calls = rounds(50_000)
        await _play(model, upstream, chance, outcomes, calls // 2)
        before = _objects()
        await _play(model, upstream, chance, outcomes, calls // 2)
        grown = _objects() - before

        gates = app.policies.concurrency().gates.values()
        assert all(gate.free == gate.limit for gate in gates)
    await await_until(lambda: len(asyncio.all_tasks()) == 1, 10, "tasks to end")

    assert calls // 2 * 2 == sum(outcomes.values())
    assert outcomes["answered"] > calls // 5, outcomes
    assert len(outcomes) > 3, outcomes
    # One object of each twentieth call would be a leak: what is kept is bounded.
    assert grown < 2000 + calls // 20
    await asyncio.get_running_loop().shutdown_default_executor()
    assert set(threading.enumerate()) <= threads


def _settings(upstream: Upstream) -> dict[str, Any]:
    llm = {
        "default": {"candidates": ["openai:gpt-4o", "openai:gpt-4"], "timeout": DEADLINE},
        "providers": {
            "openai": {
                "base_url": upstream.openai_url,
                "api_key": "sk-of-nobody",
                "concurrency": AT_ONCE // 2,
                "requests_per_minute": 10_000_000,
            }
        },
        # Of circuits, so that faults go on to reach the calls.
        "policies": {"breaker": {"failures": 200, "window": 1, "cooldown": 0.02}},
    }
    return {"llm": llm, "network": {"trust_env": False}}


async def _play(
    model: Any, upstream: Upstream, chance: random.Random, outcomes: Counter[str], calls: int
) -> None:
    left = iter(range(calls))

    async def worker() -> None:
        for _ in left:
            # Not more than are played: whoever meets an open circuit plays none.
            if chance.random() < SHARE and upstream.unplayed < AT_ONCE:
                upstream.play(chance.choice(FAULTS))
            began = time.monotonic()
            outcome = await _one(model, chance)
            assert time.monotonic() - began < DEADLINE + SLACK
            outcomes[outcome] += 1
            await asyncio.sleep(0.02 if outcome == "left alone" else 0)

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


async def _one(model: Any, chance: random.Random) -> str:
    """Make one call; return how it ended."""
    kinds = (_chatted, _chatted, _streamed, _left)
    try:
        return await chance.choice(kinds)(model)
    except LLMError as error:
        if all(each.error for each in error.attempts):
            return type(error).__name__ if error.attempts else "left alone"
        raise


async def _chatted(model: Any) -> str:
    response = await model.achat("Count to three!")
    return str(response.attempts[-1].outcome)


async def _streamed(model: Any) -> str:
    response = await model.astream("Count to three!").collect()
    return str(response.attempts[-1].outcome)


async def _left(model: Any) -> str:
    async with model.astream("Count to three!") as stream:
        async for _ in stream:
            break
    return "left"


def _objects() -> int:
    """Return how many objects there are; memory itself breathes with the allocator."""
    gc.collect()
    return len(gc.get_objects())
