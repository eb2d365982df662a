"""What a call costs: KOR on openai beside the SDK under it and other libraries, over loopback.

    tox -e bench -- benchmarks/calls.py

The server is `kor_core.testing.Upstream` in a process of its own, and takes its share of each
figure; the row with aiohttp and json shows about how much. Peers take turns in shuffled order, and
each figure is the median of several rounds. The factor is beside `AsyncOpenAI` as it comes. The
processor's time is that of the client alone, and steadier than the clock where others use the
machine too. Read the ratios; the rest is this machine's.
"""

import asyncio
import importlib
import json
import logging
import multiprocessing
import os
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from kor_containers import create_container
from kor_core.testing import ALWAYS, Reply, Upstream

ROUNDS = 5
CALLS = 20  # of each peer in each round
CHUNKS = 50
CONCURRENT = (1, 10, 50)
AT_ONCE = 100  # calls of each peer in each round, shared by so many tasks

TEXT = "Why is the sky blue?"
MESSAGES = [{"role": "user", "content": TEXT}]
MODEL = "gpt-4o"

Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Peer:
    chat: Call
    stream: Call


# --- the server ---------------------------------------------------------------------------


def serve(told: Any) -> None:
    with Upstream(keep=1) as upstream:
        upstream.reply(Reply(deltas=("word ",) * CHUNKS), times=ALWAYS)
        told.send(upstream.url)
        told.recv()  # until the parent is done


# --- the peers ----------------------------------------------------------------------------


@asynccontextmanager
async def floor(url: str) -> AsyncIterator[Peer]:
    aiohttp = importlib.import_module("aiohttp")
    body = {"model": MODEL, "messages": MESSAGES}
    async with aiohttp.ClientSession() as session:

        async def chat() -> object:
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                return json.loads(await response.read())["choices"][0]["message"]["content"]

        async def stream() -> object:
            asked = {**body, "stream": True}
            texts = []
            async with session.post(f"{url}/v1/chat/completions", json=asked) as response:
                async for line in response.content:
                    if line.startswith(b"data: {"):
                        choices = json.loads(line[6:])["choices"]
                        texts += [each["delta"].get("content") or "" for each in choices]
            return "".join(texts)

        yield Peer(chat, stream)


@asynccontextmanager
async def kor(url: str) -> AsyncIterator[Peer]:
    app = create_container(
        {
            "llm": {
                "default": {"provider": "openai", "model": MODEL},
                "providers": {"openai": {"api_key": "sk-none", "base_url": f"{url}/v1"}},
            }
        }
    )
    async with app.kernel() as kernel:
        model = kernel.model_selector.get_model()

        async def chat() -> object:
            return (await model.achat(TEXT)).text

        async def stream() -> object:
            async with model.astream(TEXT) as deltas:
                return "".join([delta.text async for delta in deltas])

        yield Peer(chat, stream)


@asynccontextmanager
async def under_kor(url: str) -> AsyncIterator[Peer]:
    """The SDK on the connections that KOR gives it: what KOR's own share is added to."""
    sdk = importlib.import_module("kor_core.adapters.openai_sdk").SDK()
    llm = {"default": {"provider": "openai", "model": MODEL}}
    async with create_container({"llm": llm}) as app:
        config = {"api_key": "sk-none", "base_url": f"{url}/v1"}
        yield _of_openai(sdk.client(app.network.transport(), config))


@asynccontextmanager
async def bare(url: str, **more: Any) -> AsyncIterator[Peer]:
    openai = importlib.import_module("openai")
    async with openai.AsyncOpenAI(
        api_key="sk-none", base_url=f"{url}/v1", max_retries=0, **more
    ) as client:
        yield _of_openai(client)


def _of_openai(client: Any) -> Peer:
    ask = client.chat.completions.create

    async def chat() -> object:
        answer = await ask(model=MODEL, messages=MESSAGES)
        return answer.choices[0].message.content

    async def stream() -> object:
        chunks = await ask(model=MODEL, messages=MESSAGES, stream=True)
        texts = [chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices]
        return "".join(texts)

    return Peer(chat, stream)


@asynccontextmanager
async def litellm_alone(url: str) -> AsyncIterator[Peer]:
    litellm = importlib.import_module("litellm")
    asked = {
        "model": f"openai/{MODEL}",
        "messages": MESSAGES,
        "api_key": "sk-none",
        "api_base": f"{url}/v1",
        "max_retries": 0,
    }
    yield _of_litellm(lambda **more: litellm.acompletion(**asked, **more))


@asynccontextmanager
async def litellm_router(url: str) -> AsyncIterator[Peer]:
    litellm = importlib.import_module("litellm")
    where = {"model": f"openai/{MODEL}", "api_key": "sk-none", "api_base": f"{url}/v1"}
    router = litellm.Router(
        model_list=[{"model_name": "front", "litellm_params": where}], num_retries=0
    )
    yield _of_litellm(lambda **more: router.acompletion(model="front", messages=MESSAGES, **more))


def _of_litellm(ask: Callable[..., Awaitable[Any]]) -> Peer:
    async def chat() -> object:
        return (await ask()).choices[0].message.content

    async def stream() -> object:
        chunks = await ask(stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    return Peer(chat, stream)


@asynccontextmanager
async def pydantic_ai_direct(url: str) -> AsyncIterator[Peer]:
    direct = importlib.import_module("pydantic_ai.direct")
    messages = importlib.import_module("pydantic_ai.messages")
    models = importlib.import_module("pydantic_ai.models.openai")
    providers = importlib.import_module("pydantic_ai.providers.openai")
    model = models.OpenAIChatModel(
        MODEL, provider=providers.OpenAIProvider(base_url=f"{url}/v1", api_key="sk-none")
    )
    asked = [messages.ModelRequest.user_text_prompt(TEXT)]

    async def chat() -> object:
        return (await direct.model_request(model, asked)).parts[0].content

    async def stream() -> object:
        async with direct.model_request_stream(model, asked) as events:
            async for _ in events:
                pass
            return events.get().parts[0].content

    yield Peer(chat, stream)


@asynccontextmanager
async def langchain(url: str) -> AsyncIterator[Peer]:
    made = importlib.import_module("langchain_openai").ChatOpenAI(
        model=MODEL, api_key="sk-none", base_url=f"{url}/v1", max_retries=0
    )

    async def chat() -> object:
        return (await made.ainvoke(TEXT)).content

    async def stream() -> object:
        return "".join([chunk.content async for chunk in made.astream(TEXT)])

    yield Peer(chat, stream)


@asynccontextmanager
async def any_llm(url: str) -> AsyncIterator[Peer]:
    made = importlib.import_module("any_llm").AnyLLM.create(
        "openai", api_key="sk-none", api_base=f"{url}/v1"
    )

    async def chat() -> object:
        answer = await made.acompletion(model=MODEL, messages=MESSAGES)
        return answer.choices[0].message.content

    async def stream() -> object:
        chunks = await made.acompletion(model=MODEL, messages=MESSAGES, stream=True)
        return "".join(
            [chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices]
        )

    yield Peer(chat, stream)


UNDER = "AsyncOpenAI on KOR's connections"
BARE = "AsyncOpenAI as it comes"
PEERS: dict[str, Callable[[str], Any]] = {
    "aiohttp and json, the floor": floor,
    UNDER: under_kor,
    "KOR on openai": kor,
    BARE: bare,
    "any-llm": any_llm,
    "pydantic-ai direct": pydantic_ai_direct,
    "LangChain": langchain,
    "litellm": litellm_alone,
    "LiteLLM Router": litellm_router,
}


# --- measuring ----------------------------------------------------------------------------


async def microseconds(call: Call, count: int) -> tuple[float, ...]:
    """What one call takes by the clock, and of this process's processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        await call()
    spent = time.perf_counter() - wall, time.process_time() - cpu
    return tuple(each / count * 1e6 for each in spent)


async def rate(call: Call, concurrent: int) -> tuple[float, ...]:
    """Calls a second of so many tasks at once."""

    async def work() -> None:
        for _ in range(AT_ONCE // concurrent):
            await call()

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(concurrent)))
    return (AT_ONCE // concurrent * concurrent / (time.perf_counter() - start),)


async def medians(
    peers: dict[str, Peer], measure: Callable[[Peer], Awaitable[tuple[float, ...]]], rounds: int
) -> dict[str, list[float]]:
    figures: dict[str, list[tuple[float, ...]]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name in random.sample(list(peers), len(peers)):
            await asyncio.sleep(0.05)  # what others left to be done is not this one's
            figures[name].append(await measure(peers[name]))
    return {
        name: [statistics.median(each) for each in zip(*found, strict=True)]
        for name, found in figures.items()
    }


async def opened(stack: AsyncExitStack, url: str) -> dict[str, Peer]:
    """The peers that are installed and answer what they should."""
    peers = {}
    for name, make in PEERS.items():
        try:
            peer = await stack.enter_async_context(make(url))
            said = [await peer.chat(), await peer.stream()]
        except ImportError as error:
            print(f"skipped: {name}, {error}")
            continue
        assert said == ["word " * CHUNKS] * 2, (name, said)
        peers[name] = peer
    return peers


def table(title: str, units: tuple[str, ...], figures: dict[str, list[float]]) -> None:
    print(f"\n| {title} |{''.join(f' {unit} | × |' for unit in units)}")
    print("|---|" + "---|---|" * len(units))
    for name, found in figures.items():
        pairs = zip(found, figures[BARE], strict=True)
        print(f"| {name} |{''.join(f' {one:,.0f} | {one / bare:.2f} |' for one, bare in pairs)}")


async def compare(url: str) -> None:
    async with AsyncExitStack() as stack:
        peers = await opened(stack, url)
        chat = await medians(peers, lambda peer: microseconds(peer.chat, CALLS), ROUNDS)
        table("one call", ("µs", "µs of CPU"), chat)
        stream = await medians(peers, lambda peer: microseconds(peer.stream, CALLS // 3), ROUNDS)
        table(f"a stream of {CHUNKS} chunks", ("µs", "µs of CPU"), stream)
        for concurrent in CONCURRENT:
            rates = await medians(peers, lambda peer, n=concurrent: rate(peer.chat, n), 3)
            table(f"{concurrent} at once", ("calls/s",), rates)


def main() -> None:
    os.environ.update(LITELLM_LOG="ERROR", LANGSMITH_TRACING="false")
    logging.disable()  # of the peers; nobody's log is measured here
    context = multiprocessing.get_context("spawn")
    told, tell = context.Pipe()
    server = context.Process(target=serve, args=(tell,))
    server.start()
    try:
        asyncio.run(compare(told.recv()))
    finally:
        told.send(None)
        server.join(10)


if __name__ == "__main__":
    main()
