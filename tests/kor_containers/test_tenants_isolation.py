"""The isolation proof: whatever happens in between, no request is made with another's key.

Many tenants with keys, endpoints, models and purposes of their own call at once, from tasks and
from threads, while overlays and the base are reloaded, kernels evicted and calls cancelled. The
upstream records what arrived, and sets a cookie with every answer.
"""

import asyncio
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

import hypothesis
import hypothesis.strategies as st
import pytest

from kor_containers import TenantKernels, create_container
from kor_core.kernel import get_kernel
from kor_core.testing.upstream import Upstream

PURPOSES = ("default", "coding", "fast")
CALLS = 20_000  # with --soak


@dataclass(frozen=True)
class Storm:
    """One plan.

    Args:
        tenants: how many there are.
        max_active: how many may stay alive without being in use.
        tasks: how many run at once.
        in_threads: share of the calls that sync code makes in a thread.
        cancelled: share of the calls that are cancelled.
        reloads: share of the calls before which an overlay or the base is reloaded.
        seed: of everything else.
    """

    tenants: int
    max_active: int
    tasks: int
    in_threads: float
    cancelled: float
    reloads: float
    seed: int


storms = st.builds(
    Storm,
    tenants=st.integers(2, 12),
    max_active=st.integers(0, 6),
    tasks=st.integers(2, 24),
    in_threads=st.floats(0, 0.5),
    cancelled=st.floats(0, 0.3),
    reloads=st.floats(0, 0.3),
    seed=st.integers(0, 2**32),
)


@dataclass
class World:
    """The tenants of a storm, and what they say now."""

    upstreams: list[Upstream]
    tenants: int
    versions: Counter = field(default_factory=Counter)
    bases: int = 0
    made: Counter = field(default_factory=Counter)

    @property
    def names(self):
        return [f"t{number}" for number in range(self.tenants)]

    def base(self):
        """Every other tenant has the operator's endpoint; the operator has a key of its own."""
        operator = {
            "provider": "openai",
            "model": f"model-of-operator-{self.bases}",
            "extra": {"extra_headers": {"X-Operator": "planted"}},
        }
        endpoint = {"base_url": f"{self.upstreams[0].url}/operators/v1", "api_key": "sk-operator"}
        return {"llm": {"default": operator, "providers": {"openai": endpoint}}}

    def overlay(self, name):
        number = int(name[1:])
        openai = {"api_key": f"sk-{name}-{self.versions[name]}"}
        if number % 2:
            upstream = self.upstreams[number % len(self.upstreams)]
            openai["base_url"] = f"{upstream.url}/{name}/v1"
        return {
            "llm": {
                "default": {"model": f"default-of-{name}"},
                "purposes": {p: {"model": f"{p}-of-{name}"} for p in PURPOSES[1:]},
                "providers": {"openai": openai},
            }
        }

    def place(self, name):
        return f"/{name}/" if int(name[1:]) % 2 else "/operators/"


class Player:
    """Plays a storm."""

    def __init__(self, storm, world, tenants, pool):
        self.storm = storm
        self.world = world
        self.tenants = tenants
        self.pool = pool
        self.random = random.Random(storm.seed)

    async def play(self, calls):
        share = -(-calls // self.storm.tasks)
        await asyncio.gather(*(self.work(share) for _ in range(self.storm.tasks)))

    async def work(self, calls):
        for _ in range(calls):
            if self.random.random() < self.storm.reloads:
                await self.disturb()
            name, purpose = self.random.choice(self.world.names), self.random.choice(PURPOSES)
            if self.random.random() < self.storm.in_threads:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self.pool, self.call_in_thread, name, purpose)
            elif self.random.random() < self.storm.cancelled:
                await self.call_cancelled(name, purpose)
            else:
                await self.call(name, purpose)

    async def disturb(self):
        name = self.random.choice(self.world.names)
        match self.random.randrange(4):
            case 0:
                self.tenants.sweep()
            case 1:
                self.world.bases += 1
                self.tenants.reload_base(self.world.base())
            case _:
                self.world.versions[name] += 1
                await self.tenants.reload(name)

    async def call(self, name, purpose):
        async with self.tenants.use(name) as kernel:
            model = kernel.model_selector.get_model(purpose)
            answer = await model.agenerate(f"{name} {purpose}")
            self.check(name, purpose, kernel, answer)

    def call_in_thread(self, name, purpose):
        with self.tenants.use(name) as kernel:
            answer = kernel.model_selector.get_model(purpose).generate(f"{name} {purpose}")
            self.check(name, purpose, kernel, answer)

    async def call_cancelled(self, name, purpose):
        task = asyncio.create_task(self.call(name, purpose))
        await asyncio.sleep(self.random.random() * 0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    def check(self, name, purpose, kernel, answer):
        assert get_kernel() is kernel
        assert name == kernel.tenant
        assert f"{name} {purpose}" == answer
        self.world.made[name] += 1


def foreign(request, world):
    """Return what a request has that is not its tenant's; the tenant is in its prompt."""
    name, purpose = request.text.split()
    wrong = []
    if not request.key.startswith(f"sk-{name}-"):
        wrong.append("key")
    if request.model != f"{purpose}-of-{name}":
        wrong.append("model")
    if world.place(name) not in request.path:
        wrong.append("endpoint")
    if request.cookies:
        wrong.append("cookie")
    if ("x-operator" in request.headers) != (world.place(name) == "/operators/"):
        wrong.append("header")
    return wrong


def play(storm, calls):
    """Return how many calls were made, and every request with something foreign in it."""
    with ExitStack() as stack:
        cookie = {"set-cookie": "session=planted; Path=/"}
        upstreams = [stack.enter_context(Upstream(headers=cookie)) for _ in range(2)]
        world = World(upstreams, storm.tenants)
        app = stack.enter_context(create_container(world.base()))
        tenants = TenantKernels(app, world.overlay, max_active=storm.max_active)
        stack.enter_context(tenants)
        pool = stack.enter_context(ThreadPoolExecutor(8))
        asyncio.run(Player(storm, world, tenants, pool).play(calls))
        requests = [request for upstream in upstreams for request in upstream.requests]
        wrong = [(request, found) for request in requests if (found := foreign(request, world))]
        assert world.made.total() <= len(requests)
        return len(requests), wrong


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_no_request_is_made_with_another_tenants_key_model_endpoint_or_cookie(rounds):
    made = Counter()
    examples = max(4, rounds(40))
    calls = rounds(CALLS) * 3 // 2 // examples + 1  # those that are cancelled early do not arrive

    @hypothesis.settings(
        max_examples=examples,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
        database=None,
    )
    @hypothesis.given(storm=storms)
    def holds(storm):
        count, wrong = play(storm, calls)
        made["requests"] += count
        assert [] == wrong

    holds()

    assert made["requests"] >= rounds(CALLS)


def test_the_proof_sees_a_kernel_that_serves_two_tenants(monkeypatch):
    """With a pool that mixes tenants up the proof fails, so that it can fail."""
    storm = Storm(3, 3, 3, 0, 0, 0, 7)
    monkeypatch.setattr(World, "overlay", lambda self, name: _overlay(self, "t1"))
    monkeypatch.setattr(Player, "check", lambda self, *seen: None)

    _, wrong = play(storm, 30)

    assert {"key", "model", "endpoint", "header"} == {found for _, all_ in wrong for found in all_}


_overlay = World.overlay
