"""A model with nothing but ``agenerate``: richer calls are visibly emulated, or refused unasked."""

import asyncio
import gc
import weakref

import pytest

from kor_core.errors import CapabilityNotSupportedError, LLMTimeoutError
from kor_core.llm import emulation
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider
from kor_core.llm.catalogue import Catalogue
from kor_core.llm.echo import EchoProvider
from kor_core.llm.messages import Image, ToolCall, assistant, system, tool_result, user
from kor_core.llm.registry import LLMRegistry
from kor_core.llm.response import Embeddings, LLMResponse
from kor_core.settings import settings_from
from kor_core.testing import ScriptedProvider


class Plain(BaseLLMModel):
    """Takes a prompt and no keyword arguments at all."""

    def __init__(self, model_name, config):
        super().__init__(model_name, config)
        self.prompts = []

    async def agenerate(self, prompt):
        self.prompts.append(prompt)
        return "Answer."


class Choosy(Plain):
    async def agenerate(self, prompt, temperature=None):
        self.prompts.append((prompt, temperature))
        return "Answer."


class Open(Plain):
    async def agenerate(self, prompt, **kwargs):
        self.prompts.append((prompt, kwargs))
        return "Answer."


class PlainProvider(BaseLLMProvider):
    """Serves one model, so that a test can look at what reached it."""

    id = "plain"

    def __init__(self, model):
        self.model = model

    def create_model(self, model_name, config):
        return self.model


LOOKING = {"llm": {"purposes": {"looking": {"model": "scripted:eye"}}}}


def through_a_handle(model):
    providers = [PlainProvider(model), ScriptedProvider(), EchoProvider()]
    return LLMRegistry(settings_from(LOOKING), Catalogue(providers)).get_model("plain:m")


@pytest.fixture(params=["itself", "handle"])
def asked(request):
    """Returns a model to ask, for one whose class is given: itself, or the handle on it."""

    def made(kind=Plain):
        model = kind("m", {})
        return model, (model if request.param == "itself" else through_a_handle(model))

    return made


def look() -> str:
    return ""


CALL = ToolCall("c1", "look", {})
CAT = Image("https://example.com/cat.jpg")


async def test_one_message_is_passed_verbatim_with_no_keyword_arguments(asked):
    model, front = asked(Open)

    response = await front.achat("  Hello! ")

    assert [("  Hello! ", {})] == model.prompts
    assert ("Answer.", frozenset(), ()) == (response.text, response.emulated, response.tool_calls)
    assert (None, None) == (response.usage, response.cost)


async def test_several_messages_become_one_transcript(asked):
    model, front = asked()

    response = await front.achat([system("Be brief."), "Hi!", assistant("Hello."), user("Why?")])

    assert {"messages"} == response.emulated
    assert [
        "System: Be brief.\n\nUser: Hi!\n\nAssistant: Hello.\n\nUser: Why?\n\nAssistant:"
    ] == model.prompts


async def test_a_system_prompt_alone_is_a_transcript_too(asked):
    model, front = asked()

    response = await front.achat(system("Greet."))

    assert ({"messages"}, ["System: Greet.\n\nAssistant:"]) == (response.emulated, model.prompts)


async def test_a_stream_is_one_delta(asked):
    _, front = asked()

    async with front.astream("Hello!") as stream:
        texts = [delta.text async for delta in stream]

    assert (["Answer."], {"stream"}) == (texts, stream.response.emulated)
    assert (None, "stop") == (stream.response.usage, stream.response.finish_reason)


async def test_a_stream_of_several_messages_says_both(asked):
    _, front = asked()

    response = await front.astream([system("Be brief."), "Hi!"]).collect()

    assert {"stream", "messages"} == response.emulated


@pytest.mark.parametrize(
    ("kind", "reached", "emulated"),
    [
        (Plain, "Hello!", {"settings"}),
        (Choosy, ("Hello!", 0.5), {"settings"}),
        (Open, ("Hello!", {"temperature": 0.5, "seed": 1, "extra": {"k": 2}}), frozenset()),
    ],
)
async def test_settings_reach_it_where_it_takes_them_by_name(asked, kind, reached, emulated):
    model, front = asked(kind)
    settings = {"temperature": 0.5, "seed": 1, "extra": {"k": 2}}

    response = await front.achat("Hello!", settings=settings)

    assert ([reached], emulated) == (model.prompts, response.emulated)


@pytest.mark.parametrize(
    ("ask", "capability", "words"),
    [
        (lambda m: m.achat("?", tools=[look]), "tools", "calls no tools"),
        (lambda m: m.achat(["?", assistant(CALL)]), "tools", "calls no tools"),
        (lambda m: m.achat(["?", tool_result(CALL, "x")]), "tools", "calls no tools"),
        (lambda m: m.achat(user("?", CAT)), "vision", "takes no images"),
        (lambda m: streamed(m, "?", tools=[look]), "tools", "calls no tools"),
        (lambda m: streamed(m, user("?", CAT)), "vision", "takes no images"),
        (lambda m: m.aembed("?"), "embeddings", "makes no embeddings"),
        (lambda m: m.aembed(["?", "!"]), "embeddings", "makes no embeddings"),
    ],
)
async def test_what_cannot_be_emulated_is_refused_before_any_call(asked, ask, capability, words):
    model, front = asked()

    either = f"{words}|lacks the capability '{capability}'"
    with pytest.raises(CapabilityNotSupportedError, match=either) as caught:
        await ask(front)

    assert ([], capability, "m") == (model.prompts, caught.value.capability, caught.value.model)
    named = "Configured models that can: scripted:eye (looking)." in str(caught.value)
    assert named is (front is not model)


async def streamed(model, *args, **kwargs):
    return await model.astream(*args, **kwargs).collect()


async def test_a_refused_call_is_an_attempt_at_nothing():
    with pytest.raises(CapabilityNotSupportedError) as caught:
        await through_a_handle(Plain("m", {})).achat("?", tools=[look])

    assert () == caught.value.attempts


async def test_a_deadline_holds_for_a_model_that_knows_none():
    class Slow(Plain):
        async def agenerate(self, prompt):
            await asyncio.Event().wait()

    with pytest.raises(LLMTimeoutError, match="within the deadline") as caught:
        await Slow("m", {}).achat("?", settings={"timeout": 0.05})

    assert "m" == caught.value.model
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)


async def test_a_timeout_of_the_models_own_is_its_own():
    class Late(Plain):
        async def agenerate(self, prompt):
            raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await Late("m", {}).achat("?", settings={"timeout": 9})


# --- what a class says it can do ---------------------------------------------------------------


def test_a_class_is_known_by_the_methods_it_brings():
    class Chatting(Plain):
        capabilities = frozenset({"tools"})

        async def _chat(self, request):
            return LLMResponse("Answer.")

    class Own(Plain):
        async def achat(self, messages, **kwargs):
            return LLMResponse("Answer.")

        def astream(self, messages, **kwargs):
            raise NotImplementedError

        async def aembed(self, texts, **kwargs):
            return Embeddings(((1.0,),))

    asked = ("tools", "vision", "json_schema", "streaming", "embeddings")

    assert [False] * 5 == [Plain("m", {}).profile.supports(name) for name in asked]
    assert [True, None, None, False, False] == [
        Chatting("m", {}).profile.supports(name) for name in asked
    ]
    assert [None, None, None, True, True] == [Own("m", {}).profile.supports(n) for n in asked]


async def test_a_tool_call_in_one_delta_keeps_its_arguments():
    class Calling(Plain):
        capabilities = frozenset({"tools"})

        async def _chat(self, request):
            return LLMResponse("", (ToolCall("c1", "look", {"at": "é"}),))

    response = await Calling("m", {}).astream("?", tools=[look]).collect()

    assert (ToolCall("c1", "look", {"at": "é"}),) == response.tool_calls
    assert ("tool_calls", {"stream"}) == (response.finish_reason, response.emulated)


def test_a_capability_without_words_of_its_own_is_named():
    assert "It lacks audio" in str(emulation.refuse("m", "audio"))


class Callable:
    """An object in the place of a function."""

    def __call__(self, prompt, temperature=1):
        return prompt


SETTINGS = {"temperature": 0, "seed": 1}


@pytest.mark.parametrize(
    ("function", "taken"),
    [
        (lambda prompt, seed=0: prompt, {"seed": 1}),
        (lambda prompt, **more: prompt, SETTINGS),
        (Plain("m", {}).agenerate, {}),
        (Callable(), {"temperature": 0}),
    ],
)
def test_what_a_function_takes_is_the_same_whenever_it_is_asked(function, taken):
    assert [taken, taken] == [emulation.taken_by(function, SETTINGS) for _ in range(2)]


def test_what_functions_take_is_forgotten_with_them():
    def agenerate(prompt, seed=0):
        return prompt

    emulation.taken_by(agenerate, SETTINGS)
    known = weakref.ref(agenerate)
    del agenerate
    gc.collect()

    assert known() is None
