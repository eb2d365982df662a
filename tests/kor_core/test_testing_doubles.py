"""The doubles answer their script in order, and a script that runs out fails the test."""

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import BaseModel

from kor_core.errors import KorError, LLMError, RateLimitError, StreamInterruptedError
from kor_core.llm.messages import Image, ToolCall, system, user
from kor_core.llm.response import Embeddings, LLMResponse, ToolCallPiece, Usage
from kor_core.testing import Call, ScriptedModel, ScriptedProvider, ScriptExhaustedError


async def test_texts_and_functions_are_answered_in_order() -> None:
    model = ScriptedModel(["one", lambda prompt: prompt[::-1]])

    answers = [await model.agenerate("abc"), await model.agenerate("abc")]

    assert answers == ["one", "cba"]


@pytest.mark.parametrize("scripted", [ValueError("boom"), ValueError])
async def test_an_exception_is_raised_be_it_an_instance_or_a_class(
    scripted: ValueError | type[ValueError],
) -> None:
    model = ScriptedModel([scripted, "after"])

    with pytest.raises(ValueError):  # noqa: PT011  # the class alone has no message
        await model.agenerate("?")

    assert await model.agenerate("?") == "after"


async def test_running_out_names_how_many_were_scripted_and_is_no_error_of_a_provider() -> None:
    model = ScriptedModel(["one", "two"], model_name="fake")
    await model.agenerate("?")
    await model.agenerate("?")

    with pytest.raises(ScriptExhaustedError) as caught:
        await model.agenerate("?")

    assert (caught.value.model, caught.value.scripted) == ("fake", 2)
    assert str(caught.value) == (
        "The scripted model 'fake' was asked once more than it can answer: "
        "2 responses were scripted. Script one for each call."
    )
    assert isinstance(caught.value, KorError)
    assert not isinstance(caught.value, LLMError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_one_scripted_response_is_called_one() -> None:
    assert "1 response was scripted" in str(ScriptExhaustedError("fake", 1))


def test_calls_hold_prompt_settings_and_model() -> None:
    expected = [Call("Hello!", {"temperature": 0}, "scripted")]
    model = ScriptedModel(["Hi!"])

    model.generate("Hello!", temperature=0)

    assert model.calls == expected
    assert model.prompts == ["Hello!"]


def test_a_call_that_ran_out_is_recorded_too() -> None:
    model = ScriptedModel()

    with pytest.raises(ScriptExhaustedError):
        model.generate("Hello!")

    assert model.prompts == ["Hello!"]


async def test_models_of_one_provider_share_one_script() -> None:
    provider = ScriptedProvider(["one", "two"])
    first = provider.create_model("a", {"temperature": 0.1})
    second = provider.create_model("b", {})

    answers = [await second.agenerate("1"), await first.agenerate("2")]

    assert answers == ["one", "two"]
    assert [call.model for call in provider.calls] == ["b", "a"]
    assert provider.prompts == ["1", "2"] == first.prompts
    assert (first.model_name, first.config) == ("a", {"temperature": 0.1})


def test_a_provider_takes_the_id_it_is_given() -> None:
    assert ScriptedProvider().id == "scripted"
    assert ScriptedProvider([], id="openai").id == "openai"


def test_each_response_is_given_once_however_many_threads_ask() -> None:
    expected = {str(number) for number in range(200)}
    model = ScriptedModel(sorted(expected))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: asyncio.run(model.agenerate("?")), range(200)))

    assert set(answers) == expected


def test_more_can_be_scripted_at_any_time() -> None:
    provider = ScriptedProvider(["one"])
    model = provider.create_model("a", {})

    assert "one" == model.generate("?")
    assert "two" == provider.reply("two", "three").create_model("b", {}).generate("?")
    assert "three" == model.reply("four").generate("?")
    assert "four" == model.generate("?")


def test_under_another_id_a_double_is_still_the_same_one() -> None:
    provider = ScriptedProvider(["one", "two"])
    openai = provider.named("openai")

    answers = [twin.create_model("m", {}).generate("?") for twin in (openai, provider)]

    assert ("scripted", "openai") == (provider.id, openai.id)
    assert ["one", "two"] == answers
    assert provider.calls == openai.calls == [Call("?", {}, "m")] * 2


class City(BaseModel):
    name: str


def add(a: int, b: int) -> int:
    return a + b


WANTED = LLMResponse("Let me see.", (ToolCall("c1", "add", {"a": 1, "b": 2}),), usage=Usage(5, 7))


async def test_a_chat_is_recorded_whole_and_answered_natively() -> None:
    model = ScriptedModel([WANTED, "Three."], model_name="fake")
    messages = [system("Be brief."), user("Look:", Image("https://example.com/cat.jpg"))]

    first = await model.achat(messages, tools=[add], settings={"seed": 1, "extra": {"k": 2}})
    second = await model.achat("And?")

    assert WANTED is first
    assert ("Three.", "stop", "fake") == (second.text, second.finish_reason, second.model_id)
    assert (None, frozenset()) == (second.usage, second.emulated)
    call, other = model.calls
    assert tuple(messages) == call.messages
    assert ["add"] == [tool.name for tool in call.tools]
    assert {"seed": 1, "extra": {"k": 2}} == call.settings
    assert "System: Be brief.\n\nUser: Look:\n\nAssistant:" == call.prompt
    assert ("And?", (), {}) == (other.prompt, other.tools, other.settings)


async def test_a_response_answers_a_prompt_with_its_text() -> None:
    assert "Let me see." == await ScriptedModel([WANTED]).agenerate("?")


async def test_a_function_may_answer_a_chat_with_a_response() -> None:
    model = ScriptedModel([lambda prompt: LLMResponse(prompt.upper(), usage=Usage(1, 1))])

    response = await model.achat("abc")

    assert ("ABC", Usage(1, 1)) == (response.text, response.usage)


async def test_a_stream_comes_word_by_word_with_all_the_rest_at_its_end() -> None:
    model = ScriptedModel([WANTED])

    async with model.astream("?") as stream:
        deltas = [delta async for delta in stream]

    assert ["Let ", "me ", "see.", ""] == [delta.text for delta in deltas]
    assert (ToolCallPiece(0, "c1", "add", '{"a": 1, "b": 2}'),) == deltas[-1].tool_calls
    assert "Let me see." == stream.response.text
    assert WANTED.tool_calls == stream.response.tool_calls
    assert (Usage(5, 7), "tool_calls", frozenset()) == (
        stream.response.usage,
        stream.response.finish_reason,
        stream.response.emulated,
    )


async def test_a_scripted_interruption_comes_after_its_partial_text() -> None:
    model = ScriptedModel([StreamInterruptedError("cut", partial="Once upon")])
    stream = model.astream("?")

    words = [(await anext(stream)).text, (await anext(stream)).text]
    with pytest.raises(StreamInterruptedError) as caught:
        await anext(stream)

    assert ["Once ", "upon"] == words
    assert "Once upon" == caught.value.partial


async def test_a_schema_is_answered_as_a_mode_of_its_own() -> None:
    model = ScriptedModel(['{"name": "Paris"}'])

    response = await model.achat("Where?", schema=City, strict=True)

    assert (City(name="Paris"), frozenset()) == (response.parsed, response.emulated)


async def test_embeddings_depend_on_the_text_alone_or_are_scripted() -> None:
    scripted = Embeddings(((1.0,), (2.0,)), usage=Usage(2, 0))
    model = ScriptedModel(["a text", scripted, RateLimitError("slow down"), "the end"])

    made = await model.aembed(["cat", "dog", "cat"])
    text = await model.agenerate("?")
    given = await model.aembed(["cat", "dog"])
    with pytest.raises(RateLimitError):
        await model.aembed("cat")
    unscripted = await model.aembed("cat", settings={"extra": {"dimensions": 3}})

    assert made.vectors[0] == made.vectors[2] == unscripted.vectors[0] != made.vectors[1]
    assert ("a text", scripted.vectors, Usage(2, 0)) == (text, given.vectors, given.usage)
    assert ("cat", "dog", "cat") == model.calls[0].texts
    assert {"extra": {"dimensions": 3}} == model.calls[-1].settings
    assert ["?"] == model.prompts


async def test_vectors_where_a_text_is_asked_for_are_a_mistake_of_the_script() -> None:
    with pytest.raises(KorError, match="vectors and was asked for a text"):
        await ScriptedModel([Embeddings(((1.0,),))]).achat("?")
