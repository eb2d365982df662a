"""What only the first call has to do is no part of a deadline."""

import asyncio

import pytest

from kor_core.errors import LLMTimeoutError, ProviderError
from kor_core.llm import calls
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider
from kor_core.llm.catalogue import Catalogue
from kor_core.llm.handle import ModelHandle
from kor_core.llm.registry import LLMRegistry
from kor_core.settings import settings_from

WINDOW = 2.0  # seconds: a deadline that a busy machine does not miss once the model is ready


class Slow(BaseLLMModel):
    """Takes its time to get ready, and then to answer."""

    ready = closed = False

    async def aprepare(self):
        if self.model_name == "broken":
            raise RuntimeError("no such package")
        if not self.ready:
            await asyncio.sleep(60 if self.model_name == "never" else 1.5 * WINDOW)
        self.ready = True

    async def aclose(self):
        self.closed = True

    async def agenerate(self, prompt, **kwargs):
        await self.aprepare()
        await asyncio.sleep(5 if prompt == "slow" else 0)
        return prompt


class SlowProvider(BaseLLMProvider):
    id = "slow"

    def create_model(self, model_name, config):
        return Slow(model_name, config)


def handle_of(name: str) -> ModelHandle:
    settings = {"llm": {"policies": {"retries": 0}}}
    return LLMRegistry(settings_from(settings), Catalogue([SlowProvider()])).get_model(name)


async def test_a_deadline_begins_when_the_model_is_ready():
    assert "Hi" == await handle_of("slow:m").agenerate("Hi", timeout=WINDOW)


async def test_the_deadline_of_a_stream_begins_when_the_model_is_ready():
    stream = handle_of("slow:m").astream("Hi", settings={"timeout": WINDOW})

    assert "Hi" == (await stream.collect()).text


async def test_after_that_it_holds():
    with pytest.raises(LLMTimeoutError, match=r"deadline of 0\.2 s"):
        await handle_of("slow:m").agenerate("slow", timeout=0.2)


async def test_a_model_that_is_never_ready_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(calls, "_LONGEST_PREPARATION", 0.05)
    handle = handle_of("slow:never")

    with pytest.raises(LLMTimeoutError, match=r"deadline of 0\.2 s"):
        await handle.agenerate("Hi", timeout=0.2)


async def test_a_handle_releases_what_its_models_hold():
    handle = handle_of("slow:m")

    await handle.aclose()

    assert handle.inner.closed


async def test_whoever_prepares_at_start_up_spares_the_first_caller_the_wait():
    handle = handle_of("slow:m")
    await handle.aprepare()

    assert handle.inner.ready


async def test_what_fails_while_getting_ready_is_the_calls_to_tell():
    with pytest.raises(ProviderError, match="no such package"):
        await handle_of("slow:broken").agenerate("Hi", timeout=5)
