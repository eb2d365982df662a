"""Chat over OpenAI's chat completions: what is sent, and what is made of the answer."""

import base64
import json
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import pytest
from openai.types.chat import ChatCompletion
from openai.types.chat.completion_create_params import CompletionCreateParams
from pydantic import BaseModel, Field, TypeAdapter

from kor_core import errors
from kor_core.adapters.completion import count_in, sum_in, usage_of
from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIProvider
from kor_core.adapters.schemas import strict_form, unwrapped, wire_schema
from kor_core.adapters.vendors import COMPATIBLE, OPENAI, CompatibleVendor
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.messages import (
    Image,
    Message,
    Text,
    ToolCall,
    ToolResult,
    assistant,
    system,
    tool_result,
    user,
)
from kor_core.llm.response import Usage
from kor_core.llm.structured import Schema
from kor_core.llm.tools import Tool
from kor_core.redaction import is_table
from kor_core.settings import NetworkSettings
from kor_core.testing import Upstream, faults
from kor_core.testing.replies import Reply
from kor_core.testing.replies import ToolCall as Called

REQUESTS: TypeAdapter[Any] = TypeAdapter(CompletionCreateParams)
T = TypeVar("T")
PNG = b"\x89PNG\r\n"


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class City(BaseModel):
    name: str
    people: int = 0


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


def model_of(
    upstream: Upstream, name: str = "gpt-4o", vendor: CompatibleVendor = OPENAI, **config: Any
) -> BaseLLMModel:
    provider = OpenAIProvider(Transport(NetworkSettings()), vendor)
    return provider.create_model(name, {"base_url": upstream.openai_url, **config})


def sent_to(upstream: Upstream) -> dict[str, Any]:
    """Return the latest body, which the official SDK's own types must know every part of."""
    body: dict[str, Any] = upstream.requests[-1].json

    assert body == plain(REQUESTS.validate_python(body))

    return body


def plain(value: Any) -> Any:
    """Return what the SDK's types made of JSON, as JSON: their lists are validated as read."""
    if is_table(value):
        return {name: plain(item) for name, item in value.items()}
    if value is None or isinstance(value, str | int | float):
        return value
    return [plain(item) for item in value]


def body_with(choice: dict[str, Any], **more: Any) -> faults.Body:
    return faults.Body(json.dumps({"model": "gpt-4o", "choices": [choice], **more}))


def message_with(message: dict[str, Any], finish: str | None = "stop") -> faults.Body:
    return body_with({"index": 0, "message": message, "finish_reason": finish})


# --- what is sent ---------------------------------------------------------------------------


async def test_a_conversation_is_sent_as_openai_writes_it(upstream: Upstream) -> None:
    call = ToolCall("call_1", "add", {"a": 1, "b": 2})
    messages = [
        system("Be brief."),
        user("What is ", "1 + 2?"),
        assistant("I add.", call),
        tool_result(call, 3),
        assistant(call),
        tool_result(call, "no", is_error=True),
    ]

    await model_of(upstream).achat(messages, tools=[add])

    function = {"name": "add", "arguments": '{"a": 1, "b": 2}'}
    calls = [{"id": "call_1", "type": "function", "function": function}]
    expected = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 1 + 2?"},
        {"role": "assistant", "content": "I add.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "3"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "no"},
    ]
    assert expected == sent_to(upstream)["messages"]


async def test_each_result_of_a_tool_becomes_a_message_of_its_own(upstream: Upstream) -> None:
    results = (ToolResult("a", "1"), ToolResult("b", "2"))
    messages = [Message("tool", results), Message("user", (*results, Text("Go on.")))]

    await model_of(upstream).achat(messages)

    told = [
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
    ]
    expected = [*told, *told, {"role": "user", "content": "Go on."}]
    assert expected == sent_to(upstream)["messages"]


async def test_images_are_sent_by_url_and_as_data(upstream: Upstream) -> None:
    images = (Image("https://example.com/cat.jpg", detail="low"), Image(data=PNG))

    await model_of(upstream).achat(user("What is this?", *images))

    data = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    expected = [
        {"type": "text", "text": "What is this?"},
        {
            "type": "image_url",
            "image_url": {"url": "https://example.com/cat.jpg", "detail": "low"},
        },
        {"type": "image_url", "image_url": {"url": data}},
    ]
    assert expected == sent_to(upstream)["messages"][0]["content"]


async def test_other_parts_beside_an_image_are_left_to_their_own_places(
    upstream: Upstream,
) -> None:
    call = ToolCall("c", "add", {})
    parts = (Image("https://example.com/cat.jpg"), ToolResult("c", "3"), call)
    upstream.reply("Hi!")

    await model_of(upstream).achat(Message("user", parts))

    sent = upstream.requests[-1].json["messages"]
    assert ["tool", "user"] == [message["role"] for message in sent]
    assert ["image_url"] == [part["type"] for part in sent[1]["content"]]


async def test_tools_are_told_with_their_schemas(upstream: Upstream) -> None:
    await model_of(upstream).achat("Hello!", tools=[add, Tool("now")])

    found = [tool["function"] for tool in sent_to(upstream)["tools"]]
    assert ["add", "now"] == [function["name"] for function in found]
    assert "Add two numbers." == found[0]["description"]
    assert {"a", "b"} == found[0]["parameters"]["properties"].keys()
    assert "description" not in found[1]


async def test_only_the_settings_that_are_set_are_sent(upstream: Upstream) -> None:
    model = model_of(upstream, temperature=0.5, top_p=0.9, timeout=20)
    settings = {"temperature": 0.1, "max_tokens": 9, "stop": ("END",), "seed": 7, "timeout": 10}

    await model.achat("Hello!", settings={**settings, "extra": {"logprobs": True}})

    expected = {
        "temperature": 0.1,
        "top_p": 0.9,
        "max_tokens": 9,
        "stop": ["END"],
        "seed": 7,
        "logprobs": True,
    }
    body = sent_to(upstream)
    assert expected == {n: v for n, v in body.items() if n not in {"model", "messages"}}


@pytest.mark.parametrize(
    ("vendor", "name", "expected"),
    [
        ("openai", "o3-mini", "max_completion_tokens"),
        ("openai", "gpt-5.1", "max_completion_tokens"),
        ("openai", "ft:o4-mini:acme::x1", "max_completion_tokens"),
        ("azure", "gpt-5", "max_completion_tokens"),
        ("openai", "gpt-4o", "max_tokens"),
        ("openai", "gpt-oss-120b", "max_tokens"),
        ("vllm", "o3-clone", "max_tokens"),
    ],
)
async def test_the_longest_answer_is_told_by_the_name_that_the_family_takes(
    vendor: str, name: str, expected: str, upstream: Upstream
) -> None:
    model = model_of(upstream, name, COMPATIBLE.get(vendor, OPENAI), max_tokens=5)

    await model.achat("Hello!", settings={"max_tokens": 9})
    await model.agenerate("Hello!")

    names = {"max_tokens", "max_completion_tokens"}
    sent = [{n: r.json[n] for n in names & r.json.keys()} for r in upstream.requests]
    assert [{expected: 9}, {expected: 5}] == sent


@pytest.mark.parametrize("name", ["messages", "input", "model", "n", "stream"])
async def test_what_the_call_decides_cannot_be_given_as_extra(
    name: str, upstream: Upstream
) -> None:
    model = model_of(upstream)

    with pytest.raises(errors.BadRequestError, match=f"'{name}' is decided by the call") as caught:
        await model.achat("Hello!", settings={"extra": {name: True}})

    assert ("openai", "gpt-4o") == (caught.value.provider, caught.value.model)
    assert not upstream.requests


def test_an_unknown_api_is_refused_with_the_nearest_name(upstream: Upstream) -> None:
    with pytest.raises(errors.ConfigurationError, match="Did you mean 'responses'") as caught:
        model_of(upstream, api="response")

    assert "llm.providers.openai.extra.api" == caught.value.problems[0].key


# --- schemas --------------------------------------------------------------------------------


async def test_a_schema_is_sent_strictly_and_the_answer_is_an_instance(
    upstream: Upstream,
) -> None:
    upstream.reply('{"name": "Paris", "people": 2}')

    found = await model_of(upstream).aparse("Which city?", City, strict=True)

    assert City(name="Paris", people=2) == found
    expected = {
        "name": "City",
        "schema": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
            "additionalProperties": False,
            "required": ["name", "people"],
        },
        "strict": True,
    }
    assert expected == sent_to(upstream)["response_format"]["json_schema"]


async def test_what_is_no_object_is_asked_for_within_one(upstream: Upstream) -> None:
    upstream.reply('{"answer": [{"name": "Paris"}]}', '[{"name": "Rome"}]')
    model = model_of(upstream)

    response = await model.achat("Which cities?", schema=list[City])

    assert [City(name="Paris")] == response.parsed
    assert '[{"name": "Paris"}]' == response.text
    assert not response.emulated
    assert sent_to(upstream)["response_format"]["json_schema"]["strict"]
    assert [City(name="Rome")] == await model.aparse("Which cities?", list[City])


async def test_an_answer_that_does_not_fit_is_a_typed_error(upstream: Upstream) -> None:
    upstream.reply('{"name": 1}')

    with pytest.raises(errors.InvalidAnswerError, match="name"):
        await model_of(upstream).aparse("Which city?", City)


class Page(BaseModel, Generic[T]):
    items: T


class Node(BaseModel):
    text: str = Field(description="What it says.")
    next: "Node | None" = Field(None, description="What follows.")


class Described(BaseModel):
    home: City = Field(description="Where from.")
    twin: Node = Field(description="A chain.")


def test_a_recursive_schema_is_strict_too() -> None:
    written = wire_schema(Schema.of(Node))

    assert written["strict"]
    properties = written["schema"]["properties"]
    assert {"$ref": "#/$defs/Node"} == properties["next"]["anyOf"][0]
    assert "What follows." == properties["next"]["description"]


def test_a_described_reference_becomes_a_copy_since_it_must_stand_alone() -> None:
    properties = wire_schema(Schema.of(Described))["schema"]["properties"]

    assert "Where from." == properties["home"]["description"]
    assert {"name", "people"} == properties["home"]["properties"].keys()
    assert "A chain." == properties["twin"]["description"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "additionalProperties": True},
        {"type": "object", "properties": {"a": {}}},
        {"type": "object", "properties": {"a": True}},
        {"type": "object", "properties": {"a": {"type": "string", "format": "byte"}}},
        {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/gone", "description": "?"}}},
        {"type": "object", "properties": {"a": {"anyOf": "strange"}}},
    ],
)
def test_what_the_strict_form_cannot_say_is_not_brought_into_it(schema: dict[str, Any]) -> None:
    assert None is strict_form(schema)


async def test_a_schema_without_a_strict_form_is_sent_as_it_is(upstream: Upstream) -> None:
    upstream.reply('{"a": 1}')
    schema = TypeAdapter(dict[str, int]).json_schema()

    found = await model_of(upstream).achat("Count.", schema=dict[str, int])

    assert {"a": 1} == found.parsed
    expected = {"name": "dict", "schema": schema, "strict": False}
    assert expected == sent_to(upstream)["response_format"]["json_schema"]


def test_a_choice_of_types_is_written_as_any_of() -> None:
    schema = {"type": "object", "properties": {"a": {"oneOf": [{"type": "null"}]}}}

    found = strict_form(schema)

    assert found is not None
    assert {"a": {"anyOf": [{"type": "null"}]}} == found["properties"]


def test_a_schema_is_named_as_openai_takes_names() -> None:
    long = type("X" * 70, (City,), {})

    assert "Page_int" == wire_schema(Schema.of(Page[int]))["name"]
    assert "X" * 64 == wire_schema(Schema.of(long))["name"]
    assert "Answer" == wire_schema(Schema("ß", {"type": "object"}, TypeAdapter(int)))["name"]


@pytest.mark.parametrize("text", ["no JSON", "[1]", '{"other": 1}', '{"answer": 1, "b": 2}'])
def test_what_came_without_the_wrapping_stays(text: str) -> None:
    assert text == unwrapped(Schema.of(list[int]), text)


# --- answers --------------------------------------------------------------------------------


async def test_an_answer_says_what_it_took_and_who_answered(upstream: Upstream) -> None:
    upstream.reply(
        Reply("Hi!", input_tokens=9, output_tokens=4, cached_tokens=3, reasoning_tokens=2)
    )

    response = await model_of(upstream).achat("Hello!")

    assert ("Hi!", "stop", "gpt-4o") == (
        response.text,
        response.finish_reason,
        response.model_id,
    )
    assert Usage(9, 4, 3, 2) == response.usage
    assert "req_000000000000000000000001" == response.request_id
    assert response.raw is not None
    assert "Hi!" == ChatCompletion.model_validate(response.raw).choices[0].message.content


async def test_parallel_tool_calls_come_in_their_order(upstream: Upstream) -> None:
    calls = (Called("add", {"a": 1, "b": 2}, "call_1"), Called("add", {"a": 3, "b": 4}, "call_2"))
    upstream.reply(Reply(tool_calls=calls))

    response = await model_of(upstream).achat("Add them.", tools=[add])

    expected = (
        ToolCall("call_1", "add", {"a": 1, "b": 2}),
        ToolCall("call_2", "add", {"a": 3, "b": 4}),
    )
    assert expected == response.tool_calls
    assert ("", "tool_calls") == (response.text, response.finish_reason)


async def test_a_tool_call_without_an_id_or_with_an_object_is_understood(
    upstream: Upstream,
) -> None:
    calls = [
        {"function": {"name": "now"}},
        {"id": "x", "function": {"name": "add", "arguments": {"a": 1}}},
    ]
    upstream.play(message_with({"content": None, "tool_calls": calls}))

    response = await model_of(upstream).achat("Hello!", tools=[add])

    assert (ToolCall("call_0", "now", {}), ToolCall("x", "add", {"a": 1})) == response.tool_calls


async def test_malformed_arguments_are_a_typed_error(upstream: Upstream) -> None:
    upstream.call_tool("add", '{"a": 1')

    with pytest.raises(errors.InvalidToolCallError, match="'add'") as caught:
        await model_of(upstream).achat("Add.", tools=[add])

    assert ("add", '{"a": 1') == (caught.value.tool, caught.value.arguments)
    assert ("openai", "gpt-4o", 200) == (
        caught.value.provider,
        caught.value.model,
        caught.value.status,
    )


async def test_agenerate_refuses_an_answer_of_tool_calls_and_names_achat(
    upstream: Upstream,
) -> None:
    upstream.call_tool("add", {})

    with pytest.raises(errors.ProviderError, match=r"achat\(\)"):
        await model_of(upstream).agenerate("Add.")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (message_with({"content": None, "refusal": "I won't."}), "I won't"),
        (message_with({"content": ""}, "content_filter"), "content filter"),
    ],
)
async def test_a_refusal_is_a_content_filter_error(
    answer: faults.Body, expected: str, upstream: Upstream
) -> None:
    upstream.play(answer)

    with pytest.raises(errors.ContentFilterError, match=expected):
        await model_of(upstream).achat("Tell me.")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (message_with({"content": ""}), "empty"),
        (message_with({"content": None}, "length"), "max_tokens"),
        (message_with({"content": None}, None), "empty"),
        (body_with({"message": None}), "no message"),
        (faults.Body('{"choices": []}'), "no choices"),
        (faults.Body('{"choices": ["?"]}'), "no choices"),
        (faults.Null(), "no choices"),
        (faults.Html(), "HTML page"),
        (faults.BrokenJson(), "no valid JSON"),
        (faults.Body(""), "empty"),
        (faults.Body("[]"), "no object"),
        (message_with({"tool_calls": [{"function": {}}]}), "names no function"),
        (message_with({"tool_calls": ["?"]}), "names no function"),
        (message_with({"tool_calls": "?"}), "empty"),
    ],
)
async def test_an_answer_that_makes_no_sense_is_a_provider_error(
    answer: faults.Fault, words: str, upstream: Upstream
) -> None:
    upstream.play(answer)

    with pytest.raises(errors.ProviderError, match=words):
        await model_of(upstream).achat("Hello!")


async def test_an_error_with_a_good_status_is_classified_by_its_own_words(
    upstream: Upstream,
) -> None:
    upstream.play(faults.ErrorEvent(message="Slow down.", code="rate_limit_exceeded"))

    with pytest.raises(errors.RateLimitError, match="Slow down"):
        await model_of(upstream).achat("Hello!")


async def test_an_answer_cut_by_its_filter_keeps_what_came(upstream: Upstream) -> None:
    upstream.play(faults.Finished("content_filter"))

    response = await model_of(upstream).achat("Hello!")

    assert ("Hello!", "content_filter") == (response.text, response.finish_reason)


async def test_what_the_server_does_not_say_is_unknown(upstream: Upstream) -> None:
    upstream.play(faults.Body('{"choices": [{"message": {"content": "Hi"}}], "model": 4}'))

    response = await model_of(upstream).achat("Hello!")

    assert (None, None, None) == (response.usage, response.finish_reason, response.model_id)


@pytest.mark.parametrize("number", [True, -1, 1.5, "4", None, {}, 10**9 + 1, 10**400])
def test_what_is_no_count_counts_as_unknown(number: object) -> None:
    assert None is count_in({"n": number}, "n")
    assert None is usage_of({"prompt_tokens": number, "prompt_tokens_details": [number]})


@pytest.mark.parametrize("number", [True, -1, 1.5, "4", 10**9])
def test_a_sum_with_what_is_no_count_is_unknown(number: object) -> None:
    """A part that makes no sense must not make the whole smaller than it was."""
    assert (None, 4) == (sum_in({"a": 1, "b": number}, "a", "b"), sum_in({"a": 4}, "a", "b"))


async def test_a_calls_timeout_goes_over_the_configured_one(upstream: Upstream) -> None:
    upstream.play(faults.Hang(), faults.Hang())
    model = model_of(upstream, timeout=60)

    with pytest.raises(errors.LLMTimeoutError, match=r"0\.05 s"):
        await model.achat("Hello!", settings={"timeout": 0.05})
    with pytest.raises(errors.LLMTimeoutError, match=r"0\.05 s"):
        await model.agenerate("Hello!", timeout=0.05)


async def test_a_key_in_the_extra_of_a_call_shows_in_no_error(upstream: Upstream) -> None:
    upstream.fail(400, message="Bad key sk-planted-in-extra.")

    with pytest.raises(errors.BadRequestError) as caught:
        await model_of(upstream).achat(
            "Hello!", settings={"extra": {"backend_api_key": "sk-planted-in-extra"}}
        )

    assert "sk-planted" not in str(caught.value)


# --- what is known --------------------------------------------------------------------------


def test_a_model_says_what_its_class_can_do_and_its_vendor_cannot(upstream: Upstream) -> None:
    profile = model_of(upstream).profile
    lacking = model_of(upstream, vendor=COMPATIBLE["groq"]).profile

    can = {"tools", "parallel_tools", "vision", "json_schema", "streaming", "embeddings"}
    assert can <= profile.supported
    assert False is lacking.supports("embeddings")
    provider = OpenAIProvider(Transport(NetworkSettings()), COMPATIBLE["groq"])
    assert COMPATIBLE["groq"].profile == provider.profile("any")
    assert True is lacking.supports("tools")
