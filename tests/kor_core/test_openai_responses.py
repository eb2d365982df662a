"""OpenAI's Responses API: the same surface as chat completions, by ``api = "responses"``."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.responses import Response
from openai.types.responses.response_create_params import ResponseCreateParams
from pydantic import BaseModel, TypeAdapter

from kor_core import errors
from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIProvider
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
from kor_core.llm.tools import Tool
from kor_core.settings import NetworkSettings
from kor_core.testing import Upstream, faults
from kor_core.testing.replies import Reply
from kor_core.testing.replies import ToolCall as Called

REQUESTS: TypeAdapter[Any] = TypeAdapter(ResponseCreateParams)
PNG = b"\x89PNG\r\n"


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class City(BaseModel):
    name: str


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture
def model(upstream: Upstream) -> BaseLLMModel:
    return model_of(upstream)


def model_of(upstream: Upstream, **config: Any) -> BaseLLMModel:
    provider = OpenAIProvider(Transport(NetworkSettings()))
    settings = {"base_url": upstream.openai_url, "api": "responses", **config}
    return provider.create_model("gpt-4o", settings)


def sent_to(upstream: Upstream) -> dict[str, Any]:
    """Return the latest body, which the official SDK's own types must take."""
    received = upstream.requests[-1]
    body: dict[str, Any] = received.json

    assert "/v1/responses" == received.path
    assert body.keys() == REQUESTS.validate_python(body).keys()

    return body


def output_of(*items: Any, **more: Any) -> faults.Body:
    return faults.Body(json.dumps({"output": items, **more}))


def message_of(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": parts}


def events_of(*events: dict[str, Any]) -> faults.Body:
    lines = "".join(f"event: x\ndata: {json.dumps(event)}\n\n" for event in events)
    return faults.Body(lines, "text/event-stream")


TEXT = {"type": "response.output_text.delta", "delta": "Hi"}
END = {"type": "response.completed", "response": {"status": "completed"}}


# --- what is sent ---------------------------------------------------------------------------


async def test_a_conversation_is_sent_as_items(upstream: Upstream, model: BaseLLMModel) -> None:
    call = ToolCall("call_1", "add", {"a": 1})
    messages = [
        system("Be brief."),
        user("Add."),
        assistant("I add.", call),
        tool_result(call, 3),
        assistant(call),
        Message("user", (ToolResult("call_1", "4"), Text("Go on."))),
    ]

    await model.achat(messages, tools=[add, Tool("now")])

    called = {
        "type": "function_call",
        "call_id": "call_1",
        "name": "add",
        "arguments": '{"a": 1}',
    }
    expected = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": "I add."},
        called,
        {"type": "function_call_output", "call_id": "call_1", "output": "3"},
        called,
        {"type": "function_call_output", "call_id": "call_1", "output": "4"},
        {"role": "user", "content": "Go on."},
    ]
    body = sent_to(upstream)
    assert expected == body["input"]
    assert [("add", False), ("now", False)] == [(t["name"], t["strict"]) for t in body["tools"]]
    assert "Add two numbers." == body["tools"][0]["description"]


async def test_images_are_sent_by_url_and_as_data(upstream: Upstream, model: BaseLLMModel) -> None:
    far = Image("https://example.com/cat.jpg", detail="low")
    odd = ToolCall("c", "add", {})

    await model.achat(Message("user", (Text("What?"), far, Image(data=PNG), odd)))

    data = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    expected = [
        {"type": "input_text", "text": "What?"},
        {"type": "input_image", "image_url": far.url, "detail": "low"},
        {"type": "input_image", "image_url": data, "detail": "auto"},
    ]
    assert expected == sent_to(upstream)["input"][0]["content"]


async def test_settings_are_sent_by_the_names_of_this_api(upstream: Upstream) -> None:
    model = model_of(upstream, max_tokens=5, verbosity="low")
    extra = {"previous_response_id": "resp_1"}

    await model.achat("Hello!", settings={"temperature": 0.1, "extra": extra})
    first = sent_to(upstream)
    await model.agenerate("Hello!", max_completion_tokens=9, reasoning_effort="low")

    assert {"max_output_tokens": 5, "temperature": 0.1, "text": {"verbosity": "low"}} == {
        name: first[name] for name in ("max_output_tokens", "temperature", "text")
    }
    assert "resp_1" == first["previous_response_id"]
    assert (9, {"effort": "low"}) == tuple(
        sent_to(upstream)[name] for name in ("max_output_tokens", "reasoning")
    )


async def test_a_schema_goes_beside_what_is_set_of_the_text(upstream: Upstream) -> None:
    upstream.reply('{"name": "Paris"}', '{"answer": [{"name": "Rome"}]}')
    model = model_of(upstream, verbosity="low")

    assert City(name="Paris") == await model.aparse("Which city?", City, strict=True)
    assert [City(name="Rome")] == await model.aparse("Which?", list[City])

    text = sent_to(upstream)["text"]
    assert "low" == text["verbosity"]
    assert ("json_schema", True) == (text["format"]["type"], text["format"]["strict"])


# --- answers --------------------------------------------------------------------------------


async def test_an_answer_says_what_it_took_and_who_answered(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    upstream.reply(
        Reply("Hi!", input_tokens=9, output_tokens=4, cached_tokens=3, reasoning_tokens=2)
    )

    response = await model.achat("Hello!")

    assert ("Hi!", "stop", "gpt-4o") == (
        response.text,
        response.finish_reason,
        response.model_id,
    )
    assert Usage(9, 4, 3, 2) == response.usage
    assert "req_000000000000000000000001" == response.request_id
    assert response.raw is not None
    assert "Hi!" == Response.model_validate(response.raw).output_text


async def test_tool_calls_come_in_their_order(upstream: Upstream, model: BaseLLMModel) -> None:
    calls = (Called("add", {"a": 1}, "call_1"), Called("add", {"a": 2}, "call_2"))
    upstream.reply(Reply("I add.", calls))

    response = await model.achat("Add them.", tools=[add])

    expected = (ToolCall("call_1", "add", {"a": 1}), ToolCall("call_2", "add", {"a": 2}))
    assert expected == response.tool_calls
    assert ("I add.", "tool_calls") == (response.text, response.finish_reason)


@pytest.mark.parametrize(("reason"), ["length", "content_filter"])
async def test_an_incomplete_answer_says_why(
    reason: Any, upstream: Upstream, model: BaseLLMModel
) -> None:
    upstream.play(faults.Finished(reason), faults.Finished(reason))

    assert reason == (await model.achat("Hello!")).finish_reason
    assert reason == (await model.astream("Hello!").collect()).finish_reason


async def test_what_the_server_does_not_say_is_unknown(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    parts = ({"type": "output_text", "text": "H"}, {"type": "output_text", "text": "i"})
    upstream.play(output_of({"type": "reasoning"}, "?", message_of(*parts)))

    response = await model.achat("Hello!")

    assert ("Hi", None, None) == (response.text, response.usage, response.model_id)


async def test_agenerate_wants_a_text(upstream: Upstream, model: BaseLLMModel) -> None:
    upstream.call_tool("add", {})

    with pytest.raises(errors.ProviderError, match=r"achat\(\)"):
        await model.agenerate("Add.")


REFUSAL = {"type": "refusal", "refusal": "I won't."}
CUT = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
FAILED = {"status": "failed", "error": {"code": "rate_limit_exceeded", "message": "Slow down."}}


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (output_of(message_of(REFUSAL)), errors.ContentFilterError, "I won't"),
        (output_of(**FAILED), errors.RateLimitError, "Slow down"),
        (output_of(error={"x": 1}), errors.ProviderError, "holds an error"),
        (output_of(status="in_progress"), errors.ProviderError, "not complete but in_progress"),
        (output_of(**CUT), errors.ProviderError, "max_tokens"),
        (output_of(), errors.ProviderError, "empty"),
        (output_of({"type": "message", "content": 1}), errors.ProviderError, "empty"),
        (output_of({"type": "function_call"}), errors.ProviderError, "names no function"),
        (
            output_of({"type": "function_call", "name": "add", "arguments": "["}),
            errors.InvalidToolCallError,
            "'add'",
        ),
        (faults.Null(), errors.ProviderError, "no output"),
        (faults.Html(), errors.ProviderError, "HTML"),
    ],
)
async def test_an_answer_that_makes_no_sense_is_a_typed_error(
    answer: faults.Fault,
    kind: type[errors.LLMError],
    words: str,
    upstream: Upstream,
    model: BaseLLMModel,
) -> None:
    upstream.play(answer)

    with pytest.raises(kind, match=words):
        await model.achat("Hello!")


# --- streams --------------------------------------------------------------------------------


async def test_a_stream_gives_the_text_in_pieces_and_then_the_whole(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    upstream.reply(Reply("one two three", input_tokens=4, output_tokens=3, cached_tokens=1))

    async with model.astream("Count.") as stream:
        texts = [delta.text async for delta in stream]

    assert ["one ", "two ", "three"] == texts
    found = stream.response
    assert ("one two three", "stop", "gpt-4o") == (
        found.text,
        found.finish_reason,
        found.model_id,
    )
    assert Usage(4, 3, 1, 0) == found.usage
    assert "req_000000000000000000000001" == found.request_id
    assert sent_to(upstream)["stream"]


async def test_tool_calls_come_in_pieces(upstream: Upstream, model: BaseLLMModel) -> None:
    calls = (Called("add", {"a": 1}, "call_1"), Called("add", {"a": 2}, "call_2"))
    upstream.reply(Reply("I add.", calls))

    response = await model.astream("Add.").collect()

    assert (ToolCall("call_1", "add", {"a": 1}), ToolCall("call_2", "add", {"a": 2})) == (
        response.tool_calls
    )
    assert ("I add.", "tool_calls") == (response.text, response.finish_reason)


async def test_arguments_may_come_at_once(upstream: Upstream, model: BaseLLMModel) -> None:
    item = {"type": "function_call", "call_id": "call_1", "name": "add"}
    done = {"output_index": 1, "item": {**item, "arguments": '{"a": 1}'}}
    upstream.play(
        events_of(
            {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message"}},
            {"type": "response.output_item.added", "output_index": 1, "item": item},
            {"type": "response.output_item.done", **done},
            END,
        )
    )

    response = await model.astream("Add.").collect()

    assert (ToolCall("call_1", "add", {"a": 1}),) == response.tool_calls


async def test_events_of_other_kinds_are_passed_over(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    empty = {"type": "response.output_text.delta"}
    upstream.play(events_of({"type": "response.new"}, empty, {"ping": 1}, TEXT, END, TEXT))

    response = await model.astream("Hello!").collect()

    assert ("Hi", "stop", None) == (response.text, response.finish_reason, response.usage)


async def test_a_connection_serves_the_next_stream_too(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    for _ in range(3):
        await model.astream("Hello!").collect()

    assert 1 == upstream.accepted_connections


@pytest.mark.parametrize("framing", ["close", "chunked"])
async def test_a_cut_stream_is_interrupted_with_its_text(
    framing: Any, upstream: Upstream, model: BaseLLMModel
) -> None:
    upstream.play(faults.Cut(after_deltas=1, framing=framing)).reply("one two")

    with pytest.raises(errors.StreamInterruptedError) as caught:
        await model.astream("Count.").collect()

    assert "one " == caught.value.partial


async def test_leaving_early_closes_the_connection(upstream: Upstream, model: BaseLLMModel) -> None:
    upstream.play(faults.Slow(0.05)).reply("one two three")

    async with model.astream("Count.") as stream:
        await anext(stream)

    await upstream.await_disconnect()


REFUSED = [{"type": "response.refusal.delta", "delta": word} for word in ("I ", "won't.")]
BEGUN = {"type": "response.output_item.added", "item": {"type": "function_call"}}


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (events_of(*REFUSED, END), errors.ContentFilterError, "I won't"),
        (
            events_of({"type": "response.failed", "response": FAILED}),
            errors.RateLimitError,
            "Slow down",
        ),
        (
            events_of({"type": "response.incomplete", "response": CUT}),
            errors.ProviderError,
            "max_tokens",
        ),
        (faults.ErrorEvent(code="rate_limit_exceeded"), errors.RateLimitError, "Too many"),
        (
            events_of({"type": "error", "error": {"message": "Busy."}}),
            errors.ProviderError,
            "Busy",
        ),
        (events_of({"type": "error"}), errors.ProviderError, "holds an error"),
        (events_of({"error": {"message": "Busy."}}), errors.ProviderError, "Busy"),
        (events_of({"type": "response.completed"}), errors.ProviderError, "no response"),
        (events_of(BEGUN), errors.ProviderError, "names no function"),
        (
            events_of({"type": "response.function_call_arguments.delta", "delta": "{"}),
            errors.ProviderError,
            "no tool call",
        ),
        (faults.Empty(), errors.ProviderError, "empty"),
        (events_of(), errors.StreamInterruptedError, "without saying why"),
    ],
)
async def test_a_stream_that_makes_no_sense_is_a_typed_error(
    answer: faults.Fault,
    kind: type[errors.LLMError],
    words: str,
    upstream: Upstream,
    model: BaseLLMModel,
) -> None:
    upstream.play(answer)

    with pytest.raises(kind, match=words):
        await model.astream("Hello!").collect()
