"""What a server answers may repeat the key: no error that an answer causes shows it."""

import json

import pytest
from pydantic import BaseModel, ConfigDict, field_validator

from kor_containers import create_container
from kor_core.adapters.litellm import LiteLLMProvider
from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIProvider
from kor_core.errors import (
    InvalidAnswerError,
    InvalidToolCallError,
    ProviderError,
    StreamInterruptedError,
)
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider
from kor_core.llm.response import Delta, LLMResponse, ToolCallPiece
from kor_core.llm.streams import arguments_of
from kor_core.llm.structured import Schema
from kor_core.settings import NetworkSettings
from kor_core.testing import Upstream, faults

KEY = 'sk-planted"/0123456789'
TOKEN = "tok-planted-0123456789"
NAME = f"evil {KEY}"


class City(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str

    @field_validator("name")
    @classmethod
    def known(cls, name: str) -> str:
        if name != "Paris":
            raise ValueError(name)
        return name


class Repeating(BaseLLMModel):
    """Answers with what it was made to answer, be it an error."""

    capabilities = frozenset({"tools", "json_schema"})

    def __init__(self, answer):
        super().__init__("m", {})
        self.answer = answer

    async def agenerate(self, prompt):
        raise self.answer

    async def _chat(self, request):
        return LLMResponse(self.answer)

    async def _stream(self, request):
        for piece in self.answer:
            if isinstance(piece, Exception):
                raise piece
            yield piece


class RepeatingProvider(BaseLLMProvider):
    id = "p"

    def __init__(self, answer):
        self.answer = answer

    def create_model(self, name, config):
        return Repeating(self.answer)


def answering(answer):
    extra = {"extra_headers": {"Authorization": f"Bearer {TOKEN}"}}
    settings = {
        "llm": {
            "default": {"model": "p:m"},
            "providers": {"p": {"api_key": KEY, "extra": extra}},
            "policies": {"retries": 0},
        }
    }
    app = create_container(settings, providers=[RepeatingProvider(answer)])
    return app.kernel().model_selector.get_model()


def told_by(error):
    """All the words of an error, and of the error behind it."""
    return repr([str(error), error.args, vars(error), vars(error.__cause__ or error)])


def shown_in(told):
    spelled = [secret for key in (KEY, TOKEN) for secret in (key, json.dumps(key)[1:-1])]
    return [secret for secret in spelled if secret in told]


def called(name, arguments):
    piece = ToolCallPiece(0, "c", name, arguments)
    return [Delta(tool_calls=(piece,)), Delta(finish_reason="tool_calls")]


@pytest.mark.parametrize("key", [KEY, TOKEN])
def test_a_streamed_tool_call_that_repeats_the_key_shows_it_nowhere(key):
    model = answering(called(f"evil {key}", f"no JSON: {key}"))

    with pytest.raises(InvalidToolCallError) as caught:
        model.stream("?").collect()

    assert [] == shown_in(told_by(caught.value))
    assert ("evil **********", "no JSON: **********") == (
        caught.value.tool,
        caught.value.arguments,
    )


def test_an_answer_that_does_not_fit_and_repeats_the_key_shows_it_nowhere():
    model = answering(json.dumps({"name": KEY, TOKEN: 1}))

    with pytest.raises(InvalidAnswerError) as caught:
        model.parse("?", City)

    assert [] == shown_in(told_by(caught.value))


def test_the_text_so_far_of_a_cut_stream_shows_no_key():
    model = answering([Delta(f"Your key is {KEY}")])

    with pytest.raises(StreamInterruptedError) as caught:
        model.stream("?").collect()

    assert [] == shown_in(told_by(caught.value))


def test_an_interruption_and_the_failure_behind_it_show_no_key():
    model = answering([Delta(f"Your key is {KEY}"), ProviderError(f"No: {KEY}")])

    with pytest.raises(StreamInterruptedError) as caught:
        model.stream("?").collect()

    assert [] == shown_in(told_by(caught.value))


def test_an_error_of_a_custom_model_its_cause_and_its_notes_show_no_key():
    failure = ProviderError(f"No: {KEY}")
    failure.add_note(f"asked with {KEY}")
    failure.__cause__ = ProviderError(f"No: {TOKEN}")

    with pytest.raises(ProviderError) as caught:
        answering(failure).generate("?")

    assert [] == shown_in(told_by(caught.value))
    assert ["asked with **********"] == caught.value.__notes__


@pytest.mark.parametrize("name", ["add\nroot: FAKE LINE", "x" * 129, "add\x1b[2J"])
def test_the_name_of_a_tool_that_is_no_name_is_not_repeated(name):
    with pytest.raises(InvalidToolCallError) as caught:
        arguments_of(name, "no JSON")

    assert (
        "The model called a tool of no proper name with arguments that are no JSON object. "
        "Ask again."
    ) == caught.value.args[0]
    assert name == caught.value.tool


@pytest.mark.parametrize("name", ["no\nFAKE LINE", "x" * 129, "no\x1b[2J"])
def test_the_name_of_a_field_that_is_no_name_is_not_repeated(name):
    with pytest.raises(InvalidAnswerError) as caught:
        Schema.of(City).parsed(json.dumps({"name": "Paris", name: 1}))

    assert "(of no proper name): Extra inputs are not permitted" == caught.value.problems


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Oslo", "name: Value error, Oslo"),
        ("Os\n lo", "name: Value error, Os lo"),
        ("x" * 600, "name: value_error"),
        ("Oslo\x1b[2J", "name: value_error"),
    ],
)
def test_what_a_validator_says_is_told_on_one_line_where_that_is_short(name, expected):
    with pytest.raises(InvalidAnswerError) as caught:
        Schema.of(City).parsed(json.dumps({"name": name}))

    assert expected == caught.value.problems


def test_of_many_problems_the_first_are_told():
    fields = {"name": "Paris", **{f"f{number}": 1 for number in range(30)}}

    with pytest.raises(InvalidAnswerError) as caught:
        Schema.of(City).parsed(json.dumps(fields))

    told = caught.value.problems.split("; ")
    assert (11, "20 more") == (len(told), told[-1])


@pytest.mark.parametrize(
    ("provider", "name"), [(OpenAIProvider, "m"), (LiteLLMProvider, "openai/m")]
)
@pytest.mark.parametrize("words", [f"m-{TOKEN}\x1b[2J", f"m{' long' * 1000} {TOKEN}"])
async def test_no_name_of_a_model_and_no_reason_shows_the_key(words, provider, name):
    choice = {"message": {"content": "Hi"}, "delta": {"content": "Hi"}, "finish_reason": words}
    body = json.dumps({"model": words, "choices": [choice]})
    vectors = json.dumps({"model": words, "data": [{"index": 0, "embedding": [1.0]}]})
    with Upstream() as upstream:
        config = {"api_key": TOKEN, "base_url": upstream.openai_url}
        model = provider(Transport(NetworkSettings())).create_model(name, config)
        stream = faults.Body(f"data: {body}\n\ndata: [DONE]\n\n", "text/event-stream")
        upstream.play(faults.Body(body), stream, faults.Body(vectors))
        answered = [await model.achat("Hi"), await model.astream("Hi").collect()]
        embedded = await model.aembed("Hi")

    names = [*(each.finish_reason for each in answered)]
    names += [each.model_id for each in (*answered, embedded)]
    assert TOKEN not in repr(answered) + repr(embedded)
    assert {True} == {name.startswith("m") and name.isprintable() for name in names}
    assert 501 >= max(map(len, names))
