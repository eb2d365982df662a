"""Limits, budgets and places as calls through whole containers meet them."""

import asyncio
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from kor_containers import TenantKernels, create_container
from kor_core.adapters.state_memory import MemoryState
from kor_core.errors import BudgetExceededError, RateLimitError, StateUnavailableError
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider
from kor_core.llm.policies.bounds import Planned
from kor_core.llm.policies.cache import ResponseCache
from kor_core.llm.policies.retrier import Retrier
from kor_core.llm.response import LLMResponse, Usage
from kor_core.testing import ScriptedProvider, Upstream
from kor_core.testing.waiting import await_until, wait_until

REDIS = shutil.which("redis-server")
PRICES = {"input_price": 1_000_000, "output_price": 1_000_000}  # US$ 1 a token


class Waiting(BaseLLMProvider):
    """Answers when it is told to, and writes down whom it serves, and how many at once."""

    id = "waiting"

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.prompts: list[str] = []
        self.now = self.most = 0

    def create_model(self, model_name: str, config: dict[str, Any]) -> BaseLLMModel:
        provider = self

        class Model(BaseLLMModel):
            async def agenerate(self, prompt: str, **kwargs: Any) -> str:
                provider.prompts.append(prompt)
                provider.now += 1
                provider.most = max(provider.most, provider.now)
                await provider.go.wait()
                await asyncio.sleep(0)
                provider.now -= 1
                return prompt

        return Model(model_name, config)


def limited(*providers: BaseLLMProvider, **llm: Any) -> Any:
    default = {"candidates": [f"{each.id}:m" for each in providers]}
    return create_container({"llm": {"default": default, **llm}}, providers=providers)


# --- places ---


@pytest.mark.parametrize(
    "llm",
    [
        {"providers": {"waiting": {"concurrency": 3}}},
        {"models": {"m": {"concurrency": 3}}},
        {"models": {"waiting:m": {"concurrency": 3}}},
        {"models": {"waiting/m": {"concurrency": 3}, "m": {"concurrency": 9}}},
    ],
)
async def test_no_more_requests_run_at_once_than_there_are_places(llm):
    provider = Waiting()
    with limited(provider, **llm) as app:
        model = app.kernel().model_selector.get_model()
        calls = [asyncio.create_task(model.agenerate(str(each))) for each in range(20)]
        await await_until(lambda: provider.now == 3, 10, "three requests")
        provider.go.set()
        answers = await asyncio.gather(*calls)

    assert [str(each) for each in range(20)] == answers
    assert 3 == provider.most


async def test_a_tenant_with_many_calls_does_not_keep_the_others_waiting():
    provider = Waiting()
    with (
        limited(provider, providers={"waiting": {"concurrency": 1}}) as app,
        TenantKernels(app, {"loud": {}, "quiet": {}}) as tenants,
    ):
        calls = []
        for tenant, count in (("loud", 10), ("quiet", 2)):
            with tenants.use(tenant) as kernel:
                model = kernel.model_selector.get_model()
                calls += [asyncio.create_task(model.agenerate(tenant)) for _ in range(count)]
            await asyncio.sleep(0)
        await await_until(lambda: app.policies.concurrency().gates, 5, "gates")
        gate = app.policies.concurrency().gates["provider waiting"]
        await await_until(lambda: gate.waiting == 11, 10, "the queue")
        provider.go.set()
        await asyncio.gather(*calls)

    assert ["loud", "loud", "quiet", "loud", "quiet"] == provider.prompts[:5]
    assert 1 == gate.free


async def test_a_stream_keeps_its_place_until_it_is_read_or_left():
    provider = ScriptedProvider(["one two", "three"])
    with limited(provider, providers={"scripted": {"concurrency": 1}}) as app:
        model = app.kernel().model_selector.get_model()
        gate = app.policies.concurrency().gates["provider scripted"]
        async with model.astream("x") as stream:
            await anext(stream)
            assert 0 == gate.free

        assert 1 == gate.free
        assert "three" == (await model.astream("x").collect()).text
        assert 1 == gate.free


# --- rates ---


def test_tokens_a_minute_count_as_they_were():
    usage = Usage(30, 20)
    provider = ScriptedProvider([LLMResponse("a", usage=usage), LLMResponse("b", usage=usage)])
    with limited(provider, providers={"scripted": {"tokens_per_minute": 70}}) as app:
        model = app.kernel().model_selector.get_model()
        model.chat("Hello!", settings={"max_tokens": 60})
        with pytest.raises(RateLimitError, match="70 tokens a minute") as caught:
            model.chat("Hello!", settings={"max_tokens": 60})
        model.chat("Hello!", settings={"max_tokens": 5})

    assert "llm.providers.scripted.tokens_per_minute" == caught.value.limit
    assert caught.value.retry_after
    assert () == caught.value.attempts


def test_retries_are_requests_and_count():
    with Upstream() as upstream:
        upstream.fail(503, times=2)
        llm = {
            "default": {"model": "openai:gpt-4o"},
            "providers": {
                "openai": {
                    "base_url": upstream.openai_url,
                    "api_key": "sk-of-nobody",
                    "requests_per_minute": 3,
                }
            },
        }
        with create_container({"llm": llm}) as app:
            app.policies.retrier.override(Retrier(base=0))
            model = app.kernel().model_selector.get_model()
            assert "Hello!" == model.chat("Hello!").text
            with pytest.raises(RateLimitError, match="limit of 3 requests a minute is reached"):
                model.chat("Hello!")

        assert 3 == len(upstream.requests)


# --- budgets ---


def spent(
    app: Any, model: str = "scripted:m", tenant: str | None = None, purpose: Any = None
) -> Any:
    provider, name = model.split(":")
    call = Planned(provider, name, 0, None, tenant, purpose)
    return {use.limit: use.used // 10**9 for use in asyncio.run(app.policies.meter().uses(call))}


def test_money_counts_for_each_tenant_purpose_and_model_apart():
    answers = [LLMResponse("x", usage=Usage(3, 2))] * 4
    llm = {
        "default": {"model": "scripted:m"},
        "purposes": {"drafts": {"model": "scripted:m"}, "titles": {"model": "scripted:n"}},
        "models": {"m": PRICES, "n": PRICES},
        "budgets": {
            each: {"amount": 100, "per": "day", "each": each}
            for each in ("tenant", "purpose", "model")
        },
    }
    providers = [ScriptedProvider(answers)]
    with create_container({"llm": llm}, providers=providers) as app:
        with TenantKernels(app, {"acme": {}}) as tenants, tenants.use("acme") as kernel:
            for purpose in ("default", "drafts"):
                kernel.model_selector.get_model(purpose).chat("x", settings={"max_tokens": 9})
        selector = app.kernel().model_selector
        selector.get_model("titles").chat("x")
        selector.get_model(override="scripted:m").chat("x")

        names = ("llm.budgets.tenant", "llm.budgets.purpose", "llm.budgets.model")
        assert dict(zip(names, (10, 5, 15), strict=True)) == spent(
            app, "scripted:m", "acme", "drafts"
        )
        assert dict(zip(names, (10, 5, 5), strict=True)) == spent(app, "scripted:n", None, "titles")


def test_a_call_that_failed_costs_nothing_and_one_that_spends_too_much_is_not_made():
    llm = {
        "models": {"m": PRICES},
        "budgets": {"all": {"amount": 20, "per": "day"}},
        "policies": {"retries": 0},
    }
    provider = ScriptedProvider(
        [RateLimitError("Slow.", status=429), LLMResponse("x", usage=Usage(8, 8))]
    )
    with limited(provider, **llm) as app:
        model = app.kernel().model_selector.get_model()
        with pytest.raises(RateLimitError):
            model.chat("x", settings={"max_tokens": 10})
        assert {"llm.budgets.all": 0} == spent(app)
        model.chat("x", settings={"max_tokens": 10})
        for _ in range(2):  # by the count, and by what is remembered of it
            with pytest.raises(BudgetExceededError, match="US\\$ 4 left"):
                model.chat("x", settings={"max_tokens": 10})

    assert 2 == len(provider.calls)


# --- the cache ---


async def test_the_cache_of_the_configuration_keeps_answers_apart_by_tenant():
    provider = ScriptedProvider(["of acme", "of umbrella"])
    with (
        limited(provider, policies={"cache": {"entries": 5, "coalesce": True}}) as app,
        TenantKernels(app, {"acme": {}, "umbrella": {}}) as tenants,
    ):
        assert isinstance(app.policies.cache(), ResponseCache)
        for _ in range(2):
            for tenant in ("acme", "umbrella"):
                with tenants.use(tenant) as kernel:
                    model = kernel.model_selector.get_model()
                    assert f"of {tenant}" == await model.agenerate("x")

    assert 2 == len(provider.calls)


# --- bindings ---


def test_each_policy_is_a_binding_that_can_be_overridden():
    told: list[Any] = []
    heard: list[Any] = []
    replaced = {"policies.sink": told.append, "policies.log": heard.append}
    with limited(ScriptedProvider(["x"])) as app, app.override(replaced):
        app.kernel().model_selector.get_model().generate("x")

    assert ["scripted:m"] == [each.model for each in told]
    assert ["llm.call.started", "llm.call.finished"] == [each.name for each in heard]


def test_without_limits_there_is_no_meter_and_the_state_is_in_memory():
    with limited(ScriptedProvider()) as app:
        assert app.policies.meter() is None
        assert app.policies.cache() is None
        assert {} == app.policies.concurrency().gates
        assert isinstance(app.policies.state(), MemoryState)


# --- Redis ---


@pytest.fixture
def redis() -> Iterator[Any]:
    assert REDIS
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="kor-redis-") as folder:
        words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen([REDIS, *words], stdout=subprocess.DEVNULL)

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(listens, 60, "redis-server")
        try:
            yield f"redis://127.0.0.1:{port}/0", process
        finally:
            process.kill()
            process.wait()


@pytest.mark.skipif(REDIS is None, reason="redis-server is not installed")
def test_containers_on_one_redis_spend_one_budget_until_it_goes_away(redis):
    url, process = redis
    settings = {
        "llm": {
            "default": {"model": "scripted:m", "max_tokens": 5},
            "models": {"m": PRICES},
            "budgets": {"all": {"amount": 20, "per": "month"}},
        },
        "state": {"url": url, "timeout": 5, "on_failure": "closed"},
    }
    providers = [ScriptedProvider([LLMResponse("x", usage=Usage(3, 3))] * 9) for _ in range(2)]
    with (
        create_container(settings, providers=providers[:1]) as first,
        create_container(settings, providers=providers[1:]) as second,
    ):
        models = [app.kernel().model_selector.get_model() for app in (first, second)]
        for _ in range(9):
            for model in models:
                with suppress(BudgetExceededError):
                    model.chat("Hello!")
        made = sum(len(provider.calls) for provider in providers)
        process.kill()
        process.wait()
        with pytest.raises(StateUnavailableError) as caught:
            models[0].chat("H")

    assert 2 <= made <= 3  # of 6 dollars each, with room for the 10 that each may take
    assert url in str(caught.value)


def test_a_budget_that_has_no_room_for_any_candidate_is_the_error_of_the_call():
    """Also where there are fallbacks: nobody was asked, and the caller is told until when."""
    settings = {
        "llm": {
            "default": {"model": "openai:gpt-4o", "fallbacks": ["openai:gpt-4o-mini"]},
            "providers": {"openai": {"api_key": "sk-planted"}},
            "budgets": {"all": {"amount": 0, "per": "day"}},
        }
    }
    with create_container(settings) as app, pytest.raises(BudgetExceededError) as caught:
        app.llm.selector().get_model().generate("Hello!")

    assert caught.value.retry_after
    assert () == caught.value.attempts
