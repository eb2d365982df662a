"""What choosing a model costs, what the policies around a call cost, and a primary that is dead.

    tox -e bench -- benchmarks/selection.py

The first two parts need no network: the model answers at once, in memory. In the last part the
primary refuses connections and the second model is `kor_core.testing.Upstream`, in a process of
its own. Cases take turns, and the best round counts where nothing is waited for, the median where
something is. The processor's time is that of the client alone.
"""

import asyncio
import importlib
import logging
import multiprocessing
import os
import socket
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from dependency_injector import providers

from kor_containers import create_container
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider
from kor_core.llm.request import ChatRequest
from kor_core.llm.response import LLMResponse, Usage
from kor_core.testing import ALWAYS, Upstream

ROUNDS = 9
TEXT = "Why is the sky blue?"
MESSAGES = [{"role": "user", "content": TEXT}]

Call = Callable[[], Awaitable[object]]


class Instant(BaseLLMModel):
    """Answers at once."""

    async def agenerate(self, prompt: str, **kwargs: Any) -> str:
        del kwargs
        return prompt

    async def _chat(self, request: ChatRequest) -> LLMResponse:
        del request
        return LLMResponse("Yes.", usage=Usage(10, 5), finish_reason="stop")


class InstantProvider(BaseLLMProvider):
    id = "instant"

    def create_model(self, model_name: str, config: dict[str, Any]) -> BaseLLMModel:
        return Instant(model_name, config)


def table(title: str, unit: str, figures: dict[str, float], yardstick: str) -> None:
    print(f"\n| {title} | {unit} | × |\n|---|---|---|")
    for name, figure in figures.items():
        print(f"| {name} | {figure:,.2f} | {figure / figures[yardstick]:.2f} |")


# --- choosing -----------------------------------------------------------------------------


def selecting() -> None:
    llm = {"default": {"model": "instant:m"}, "purposes": {"coding": {"model": "instant:m"}}}
    app = create_container({"llm": llm}, providers=[InstantProvider()])
    selector, single = app.kernel().model_selector, providers.Singleton(dict)
    safe = providers.ThreadSafeSingleton(dict)
    yardstick = "dependency-injector Singleton"
    works: dict[str, Callable[[], object]] = {
        yardstick: single,
        "dependency-injector ThreadSafeSingleton": safe,
        "selector.get_model('coding')": partial(selector.get_model, "coding"),
        "selector.get_model()": selector.get_model,
    }
    best = dict.fromkeys(works, float("inf"))
    for _ in range(ROUNDS):
        for name, work in works.items():
            start = time.perf_counter()
            for _ in range(20_000):
                work()
            best[name] = min(best[name], (time.perf_counter() - start) / 20_000 * 1e9)
    table("a hit (goal: at most 2×)", "ns", best, yardstick)


# --- policies on and off ------------------------------------------------------------------

LIMITED = {
    "providers": {"instant": {"requests_per_minute": 10**9, "concurrency": 100}},
    "models": {"instant:m": {"tokens_per_minute": 10**9, "input_price": 1, "output_price": 2}},
    "budgets": {"all": {"amount": 10**6, "per": "day"}},
}


async def policies() -> None:
    def model(**more: Any) -> BaseLLMModel:
        app = create_container(
            {"llm": {"default": {"model": "instant:m"}, **more}}, providers=[InstantProvider()]
        )
        return app.kernel().model_selector.get_model()

    usual, limited = model(), model(**LIMITED)
    timed = model(default={"model": "instant:m", "timeout": 60})
    fallbacks = model(default={"model": "instant:m", "fallbacks": ["instant:n", "instant:o"]})
    cases: dict[str, Call] = {
        "the provider's own model": lambda: usual.inner.achat(TEXT),  # type: ignore[attr-defined]  # a handle, which has it
        "the handle: ledger, breaker, retrier, latency": lambda: usual.achat(TEXT),
        "the same with a deadline": lambda: timed.achat(TEXT),
        "the same of three candidates": lambda: fallbacks.achat(TEXT),
        "the same with limits, a budget and gates": lambda: limited.achat(TEXT),
    }
    best = dict.fromkeys(cases, float("inf"))
    for _ in range(10 * ROUNDS):
        for name, case in cases.items():
            start = time.perf_counter()
            for _ in range(50):
                await case()
            best[name] = min(best[name], (time.perf_counter() - start) / 50 * 1e6)
    table("one call in memory", "µs", best, "the provider's own model")
    added = (best[name] - best["the provider's own model"] for name in list(cases)[1:])
    print("added: " + ", ".join(f"{each:.0f}" for each in added) + " µs")


# --- a dead primary -----------------------------------------------------------------------


def serve(told: Any) -> None:
    with Upstream(keep=1) as upstream:
        upstream.reply("Yes.", times=ALWAYS)
        told.send(upstream.url)
        told.recv()


@asynccontextmanager
async def kor(dead: str, alive: str) -> AsyncIterator[Call]:
    def at(url: str) -> dict[str, Any]:
        return {"api_key": "sk-none", "base_url": f"{url}/v1"}

    default = {"model": "openai:gpt-4o", "fallbacks": ["groq:llama"]}
    llm = {"default": default, "providers": {"openai": at(dead), "groq": at(alive)}}
    async with create_container({"llm": llm}).kernel() as kernel:
        model = kernel.model_selector.get_model()

        async def call() -> object:
            return (await model.achat(TEXT)).text

        yield call


@asynccontextmanager
async def pydantic_ai(dead: str, alive: str) -> AsyncIterator[Call]:
    direct = importlib.import_module("pydantic_ai.direct")
    messages = importlib.import_module("pydantic_ai.messages")
    models = importlib.import_module("pydantic_ai.models.openai")
    made = importlib.import_module("pydantic_ai.providers.openai")
    openai = importlib.import_module("openai")
    fallback = importlib.import_module("pydantic_ai.models.fallback")

    def at(url: str) -> Any:
        client = openai.AsyncOpenAI(api_key="sk-none", base_url=f"{url}/v1", max_retries=0)
        return models.OpenAIChatModel("gpt-4o", provider=made.OpenAIProvider(openai_client=client))

    # A refused connection is no status, which is all it falls back on unless told otherwise.
    model = fallback.FallbackModel(
        at(dead), at(alive), fallback_on=(openai.APIError, _http_error())
    )
    asked = [messages.ModelRequest.user_text_prompt(TEXT)]

    async def call() -> object:
        return (await direct.model_request(model, asked)).parts[0].content

    yield call


def _http_error() -> Any:
    return importlib.import_module("pydantic_ai.exceptions").ModelAPIError


@asynccontextmanager
async def litellm_router(dead: str, alive: str) -> AsyncIterator[Call]:
    litellm = importlib.import_module("litellm")

    def at(name: str, url: str) -> dict[str, Any]:
        where = {"model": "openai/gpt-4o", "api_key": "sk-none", "api_base": f"{url}/v1"}
        return {"model_name": name, "litellm_params": where}

    router = litellm.Router(
        model_list=[at("first", dead), at("second", alive)],
        fallbacks=[{"first": ["second"]}],
        num_retries=0,
        allowed_fails=0,
        cooldown_time=60,
    )

    async def call() -> object:
        answer = await router.acompletion(model="first", messages=MESSAGES)
        return answer.choices[0].message.content

    yield call


PEERS: dict[str, Callable[[str, str], Any]] = {
    "KOR": kor,
    "pydantic-ai FallbackModel": pydantic_ai,
    "LiteLLM Router": litellm_router,
}


async def failing(alive: str) -> None:
    """The cost of a call once a dead primary is known to be dead, beside one with none."""
    dead = f"http://127.0.0.1:{_refusing_port()}"
    cases: dict[str, Call] = {}
    async with AsyncExitStack() as stack:
        for name, make in PEERS.items():
            try:
                healthy = await stack.enter_async_context(make(alive, alive))
                failing = await stack.enter_async_context(make(dead, alive))
                for _ in range(8):  # opens the breaker, or starts the cooldown
                    assert [await healthy(), await failing()] == ["Yes."] * 2
            except ImportError as error:
                print(f"skipped: {name}, {error}")
                continue
            cases[f"{name}, healthy"], cases[f"{name}, primary dead"] = healthy, failing
        spent: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(ROUNDS):
            for name, case in cases.items():
                await asyncio.sleep(0.05)  # what others left to be done is not this one's
                start = time.process_time()
                for _ in range(10):
                    await case()
                spent[name].append((time.process_time() - start) / 10 * 1e6)
    figures = {name: statistics.median(each) for name, each in spent.items()}
    print("\n| a call over loopback | µs of CPU | beside the same, healthy |\n|---|---|---|")
    for name, figure in figures.items():
        healthy = figures[f"{name.partition(',')[0]}, healthy"]
        print(f"| {name} | {figure:,.0f} | {figure / healthy:.2f} |")


def _refusing_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


def main() -> None:
    os.environ.update(LITELLM_LOG="ERROR")
    logging.disable()
    selecting()
    asyncio.run(policies())
    context = multiprocessing.get_context("spawn")
    told, tell = context.Pipe()
    server = context.Process(target=serve, args=(tell,))
    server.start()
    try:
        asyncio.run(failing(told.recv()))
    finally:
        told.send(None)
        server.join(10)


if __name__ == "__main__":
    main()
