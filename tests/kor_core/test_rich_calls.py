"""Chat, streams and vectors through the lasting handle: fallbacks, one deadline, all on record."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import BaseModel

from kor_core.errors import (
    AllModelsFailedError,
    ConfigurationError,
    InvalidAnswerError,
    InvalidToolCallError,
    LLMTimeoutError,
    ModelNotFoundError,
    ProviderError,
    StreamInterruptedError,
)
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider
from kor_core.llm.catalogue import Catalogue
from kor_core.llm.messages import user
from kor_core.llm.registry import LLMRegistry
from kor_core.llm.response import Delta, Embeddings, LLMResponse, ToolCallPiece, Usage
from kor_core.settings import settings_from
from kor_core.testing import ScriptedProvider

GONE = ModelNotFoundError("gone", status=404, request_id="r1")


class City(BaseModel):
    name: str


def front(*providers, **more):
    """A handle that asks the model ``m`` of each provider in turn."""
    first, *others = (f"{provider.id}:m" for provider in providers)
    default = {"model": first, "fallbacks": others, **more}
    settings = settings_from({"llm": {"default": default}})
    return LLMRegistry(settings, Catalogue(providers)).get_model()


def scripted(name, *responses):
    return ScriptedProvider(responses, id=name)


class Own(BaseLLMProvider):
    """Serves one model of a class."""

    def __init__(self, kind, name="own"):
        self.id = name
        self.kind = kind

    def create_model(self, model_name, config):
        return self.kind(model_name, config)


class Model(BaseLLMModel):
    capabilities = frozenset({"tools"})

    async def agenerate(self, prompt, **kwargs):
        raise NotImplementedError


async def chat(model):
    return await model.achat("?")


async def stream(model):
    return await model.astream("?").collect()


async def embed(model):
    return await model.aembed("?")


VECTORS = Embeddings(((1.0,),), usage=Usage(3, 0), request_id="r2")
ANSWER = LLMResponse("Hi!", usage=Usage(3, 4), request_id="r2")

asking = pytest.mark.parametrize(
    ("ask", "answer"), [(chat, ANSWER), (stream, ANSWER), (embed, VECTORS)]
)


@asking
async def test_where_a_model_fails_the_next_is_asked_and_both_are_on_record(ask, answer):
    model = front(scripted("a", GONE), scripted("b", answer))

    response = await ask(model)

    first, second = response.attempts
    assert ("a:m", "failed", "ModelNotFoundError", 404, "r1") == (
        *(first.model, first.outcome, first.error, first.status, first.request_id),
    )
    assert ("b:m", "answered", None, answer.usage, "r2") == (
        *(second.model, second.outcome, second.error, second.usage, second.request_id),
    )
    assert first.duration >= 0 <= second.duration
    assert answer.request_id == response.request_id


@asking
async def test_one_models_error_is_its_own_with_the_attempt_on_record(ask, answer):
    with pytest.raises(ModelNotFoundError) as caught:
        await ask(front(scripted("a", GONE, answer)))

    assert ["ModelNotFoundError"] == [attempt.error for attempt in caught.value.attempts]


@asking
async def test_when_all_fail_their_errors_come_as_one_with_every_attempt(ask, answer):
    with pytest.raises(AllModelsFailedError) as caught:
        await ask(front(scripted("a", GONE), scripted("b", ProviderError("broken"))))

    assert [ModelNotFoundError, ProviderError] == [type(e) for e in caught.value.exceptions]
    assert ["a:m", "b:m"] == [attempt.model for attempt in caught.value.attempts]


class Cut(Model):
    async def _stream(self, request):
        yield Delta("Hel")
        raise ProviderError("broken")


async def test_after_its_first_delta_a_stream_never_goes_to_another_model():
    other = scripted("b", "Hello!")
    model = front(Own(Cut), other)

    with pytest.raises(StreamInterruptedError, match="broken") as caught:
        await stream(model)

    error = caught.value
    assert ("Hel", "own", "m") == (error.partial, error.provider, error.model)
    assert ["own:m"] == [attempt.model for attempt in error.attempts]
    assert [] == other.calls


class Raising(Model):
    async def _stream(self, request):
        yield Delta("Hel")
        raise ValueError(self.model_name)


async def test_whatever_a_models_stream_raises_is_an_interruption_with_the_attempts():
    with pytest.raises(StreamInterruptedError, match="ValueError") as caught:
        await stream(front(Own(Raising)))

    assert "Hel" == caught.value.partial
    assert 1 == len(caught.value.attempts)


class Hanging(Model):
    closed = 0

    async def _chat(self, request):
        return await self.hang()

    async def _embed(self, texts, settings):
        return await self.hang()

    async def _stream(self, request):
        try:
            yield Delta("Hel")
            await self.hang()
        finally:
            type(self).closed += 1

    async def hang(self):
        await asyncio.Event().wait()


@asking
async def test_the_deadline_is_that_of_all_attempts_together(ask, answer):
    with pytest.raises(LLMTimeoutError) as caught:
        await ask(front(scripted("a", GONE), Own(Hanging), scripted("c", answer), timeout=1))

    assert ["a:m", "own:m"] == [attempt.model for attempt in caught.value.attempts]
    assert None is caught.value.__cause__


async def test_a_deadline_of_the_call_goes_before_the_configured_one_and_closes_the_stream():
    before = Hanging.closed
    model = front(Own(Hanging), timeout=60)
    texts = []

    async def read():
        async with model.astream("?", settings={"timeout": 0.2}) as deltas:
            async for delta in deltas:
                texts.append(delta.text)  # noqa: PERF401  # it never ends

    with pytest.raises(LLMTimeoutError):
        await read()

    assert (["Hel"], before + 1) == (texts, Hanging.closed)


@asking
async def test_cancellation_passes_through(ask, answer):
    task = asyncio.create_task(ask(front(Own(Hanging), scripted("b", answer))))
    await asyncio.sleep(0.05)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_leaving_a_stream_early_closes_the_models():
    before = Hanging.closed

    async with front(Own(Hanging)).astream("?") as deltas:
        await anext(deltas)

    assert before + 1 == Hanging.closed


class Malformed(Model):
    async def _stream(self, request):
        yield Delta(tool_calls=(ToolCallPiece(0, "c1", "look", "{"),))
        yield Delta(finish_reason="tool_calls")


def look() -> str:
    return ""


async def test_what_makes_no_sense_names_who_said_it():
    with pytest.raises(InvalidAnswerError) as of_answer:
        await front(scripted("a", *["no JSON"] * 3)).aparse("?", City)
    with pytest.raises(InvalidToolCallError) as of_call:
        await front(Own(Malformed)).astream("?", tools=[look]).collect()

    assert ("a", "m") == (of_answer.value.provider, of_answer.value.model)
    assert ("own", "m") == (of_call.value.provider, of_call.value.model)
    assert {"InvalidAnswerError"} == {each.error for each in of_answer.value.attempts}
    assert ["InvalidToolCallError"] == [each.error for each in of_call.value.attempts]


async def test_unknown_settings_are_refused_before_any_call_with_the_nearest_name():
    provider = scripted("a", "Hi!")
    model = front(provider)
    wrong = {"temprature": 1}

    with pytest.raises(ConfigurationError, match="Did you mean 'temperature'"):
        await model.achat("?", settings=wrong)
    with pytest.raises(ConfigurationError, match="Did you mean 'temperature'"):
        await model.astream("?", settings=wrong).collect()
    with pytest.raises(ConfigurationError, match="Did you mean 'temperature'"):
        await model.aparse("?", City, settings=wrong)
    with pytest.raises(ConfigurationError, match="Did you mean 'temperature'"):
        await model.aembed("?", settings=wrong)
    with pytest.raises(ConfigurationError, match="Did you mean 'temperature'"):
        await model.agenerate("?", temprature=1)

    assert [] == provider.calls


@pytest.mark.parametrize("kind", [str, None])
async def test_an_override_that_returns_nonsense_is_the_providers_error(kind):
    class Odd(Model):
        async def achat(self, messages, **kwargs):
            return kind and kind()

        async def aembed(self, texts, **kwargs):
            return kind and kind()

    model = front(Own(Odd))

    with pytest.raises(ProviderError, match=r"achat\(\) returned"):
        await model.achat("?")
    with pytest.raises(ProviderError, match=r"aembed\(\) returned"):
        await model.aembed("?")


# --- sync ---------------------------------------------------------------------------------------


def everything(model):
    return (
        model.generate("?"),
        model.chat([user("?")]).text,
        "".join(delta.text for delta in model.stream("?")),
        model.parse("?", City),
        model.embed("?").vectors,
    )


SAID = ("one", "two", "three four", '{"name": "Paris"}', Embeddings(((1.0,),)))
SAME = ("one", "two", "three four", City(name="Paris"), ((1.0,),))


def test_every_sync_twin_works_in_a_script():
    assert SAME == everything(front(scripted("a", *SAID)))


async def test_every_sync_twin_works_inside_a_running_loop():
    assert SAME == everything(front(scripted("a", *SAID)))


def test_every_sync_twin_works_in_threads():
    models = [front(scripted("a", *SAID)) for _ in range(20)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(everything, models))

    assert [SAME] * 20 == found
