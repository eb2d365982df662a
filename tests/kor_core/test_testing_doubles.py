"""The doubles answer their script in order, and a script that runs out fails the test."""

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from kor_core.errors import KorError, LLMError
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
