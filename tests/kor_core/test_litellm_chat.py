"""Chat through litellm: asked in each vendor's format, and answered as the wire says."""

import asyncio
import gc
import json
import socket
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from logging import LogRecord, getLogger
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from kor_core import errors
from kor_core.adapters import litellm_anthropic, litellm_gemini
from kor_core.adapters.litellm import LiteLLMProvider
from kor_core.adapters.litellm_answers import response_of
from kor_core.adapters.litellm_sdk import SDK, _is_others, _load_headers
from kor_core.adapters.litellm_vendors import VENDORS
from kor_core.adapters.loading import load
from kor_core.adapters.network import Transport
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.messages import Image, ToolCall, assistant, system, tool_result, user
from kor_core.llm.response import Usage
from kor_core.llm.toolbox import run_tools
from kor_core.settings import NetworkSettings
from kor_core.testing import Upstream, faults
from kor_core.testing.replies import Reply
from kor_core.testing.replies import ToolCall as Called
from kor_core.testing.waiting import wait_until

# litellm's import takes seconds, which no test is to reckon with.
pytestmark = pytest.mark.usefixtures("litellm_ready")

needs_litellm = pytest.mark.skipif(
    find_spec("litellm") is None, reason="litellm cannot be installed beside this openai"
)

PNG = b"\x89PNG\r\n"
CALLED = sorted(name for name, vendor in VENDORS.items() if vendor.reached)


class Row(NamedTuple):
    """One vendor, and what its wire can tell."""

    model: str
    url: str
    usage: Usage
    finish: str = "stop"

    def __str__(self) -> str:
        return self.model


ALL_TOLD = Usage(9, 4, 3, 2)
ROWS = [
    Row("claude-3-opus", "url", Usage(9, 4, 3, None)),
    Row("claude-sonnet-4-5", "url", Usage(9, 4, 3, None)),
    Row("gemini-2.5-pro", "gemini_url", ALL_TOLD),
    Row("ollama/llama3", "url", ALL_TOLD),
    Row("gpt-4o", "openai_url", ALL_TOLD),
    Row("groq/llama-3.3-70b-versatile", "openai_url", ALL_TOLD),
    Row("mistral-large", "openai_url", ALL_TOLD),
]
each_vendor = pytest.mark.parametrize("row", ROWS, ids=str)


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


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Where something in this process connected to, or asked the address of."""
    found: list[Any] = []
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def connecting(self: socket.socket, address: Any) -> None:
        if self.family == socket.AF_INET:
            found.append(address[1])
        connect(self, address)

    def resolving(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in {"127.0.0.1", None}:
            found.append(host)
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", connecting)
    monkeypatch.setattr(socket, "getaddrinfo", resolving)
    return found


def model_at(name: str, url: str, **config: Any) -> BaseLLMModel:
    provider = LiteLLMProvider(Transport(NetworkSettings()))
    return provider.create_model(name, {"base_url": url, "api_key": "sk-mine", **config})


def model_of(row: Row, upstream: Upstream, **config: Any) -> BaseLLMModel:
    return model_at(row.model, getattr(upstream, row.url), **config)


def claude(upstream: Upstream, **config: Any) -> BaseLLMModel:
    return model_at("claude-3-opus", upstream.url, **config)


def gemini(upstream: Upstream, **config: Any) -> BaseLLMModel:
    return model_at("gemini-2.5-pro", upstream.gemini_url, **config)


def gpt(upstream: Upstream, **config: Any) -> BaseLLMModel:
    return model_at("gpt-4o", upstream.openai_url, **config)


def port_of(upstream: Upstream) -> int:
    return int(upstream.url.rpartition(":")[2])


def body(answer: dict[str, Any]) -> faults.Body:
    return faults.Body(json.dumps(answer))


# --- what is asked --------------------------------------------------------------------------


CALL = ToolCall("call_1", "add", {"a": 1, "b": 2})
CONVERSATION = [system("Be brief."), user("1 + 2?"), assistant("I add.", CALL)]


@needs_litellm
async def test_anthropic_is_asked_in_its_own_format(upstream: Upstream) -> None:
    await claude(upstream).achat([*CONVERSATION, tool_result(CALL, 3)], tools=[add])

    sent = upstream.requests[-1].json
    used = {"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1, "b": 2}}
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": "3"}
    assert [
        {"role": "user", "content": [{"type": "text", "text": "1 + 2?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "I add."}, used]},
        {"role": "user", "content": [result]},
    ] == sent["messages"]
    assert [{"type": "text", "text": "Be brief."}] == sent["system"]
    assert ["add"] == [tool["name"] for tool in sent["tools"]]
    assert "tool_choice" not in sent


@needs_litellm
async def test_anthropic_is_told_again_of_tools_that_were_called(upstream: Upstream) -> None:
    """It refuses a conversation with calls of tools that it is not told of."""
    await claude(upstream).achat([*CONVERSATION, tool_result(CALL, 3)])

    sent = upstream.requests[-1].json
    assert ["add"] == [tool["name"] for tool in sent["tools"]]
    assert {"type": "none"} == sent["tool_choice"]


@needs_litellm
async def test_gemini_is_asked_in_its_own_format(upstream: Upstream) -> None:
    await gemini(upstream).achat([*CONVERSATION, tool_result(CALL, 3)], tools=[add])

    sent = upstream.requests[-1].json
    asked, called, told = sent["contents"]
    assert {"role": "user", "parts": [{"text": "1 + 2?"}]} == asked
    assert ("model", {"text": "I add."}) == (called["role"], called["parts"][0])
    function = called["parts"][1]["function_call"]
    assert ("add", {"a": 1, "b": 2}) == (function["name"], function["args"])
    assert {"content": "3"} == told["parts"][0]["function_response"]["response"]
    assert {"parts": [{"text": "Be brief."}]} == sent["system_instruction"]
    assert "add" == sent["tools"][0]["function_declarations"][0]["name"]


@needs_litellm
@pytest.mark.parametrize("vendor", [name for name in CALLED if name not in {"anthropic", "gemini"}])
async def test_all_others_are_asked_in_openais_format(vendor: str, upstream: Upstream) -> None:
    model = model_at(f"{vendor}/some-model", upstream.openai_url)

    await model.achat([*CONVERSATION, tool_result(CALL, 3)], tools=[add])

    sent = upstream.requests[-1].json
    function = {"name": "add", "arguments": '{"a": 1, "b": 2}'}
    calls = [{"id": "call_1", "type": "function", "function": function}]
    assert [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1 + 2?"},
        {"role": "assistant", "content": "I add.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "3"},
    ] == sent["messages"]
    assert "Add two numbers." == sent["tools"][0]["function"]["description"]


# --- what comes -----------------------------------------------------------------------------


@needs_litellm
@each_vendor
async def test_an_answer_says_what_it_took_and_who_answered(row: Row, upstream: Upstream) -> None:
    upstream.reply(
        Reply("Hi!", input_tokens=9, output_tokens=4, cached_tokens=3, reasoning_tokens=2)
    )

    response = await model_of(row, upstream).achat("Hello!")

    assert ("Hi!", "stop", row.usage) == (response.text, response.finish_reason, response.usage)
    assert (response.model_id or "").startswith(row.model.rpartition("/")[2])
    assert response.request_id
    assert response.raw
    assert not response.emulated


@needs_litellm
@each_vendor
async def test_parallel_tool_calls_come_in_their_order(row: Row, upstream: Upstream) -> None:
    calls = (Called("add", {"a": 1, "b": 2}, "call_0"), Called("add", {"a": 3, "b": 4}, "call_1"))
    upstream.reply(Reply("I add.", calls))

    response = await model_of(row, upstream).achat("Add them.", tools=[add])

    expected = (
        ToolCall("call_0", "add", {"a": 1, "b": 2}),
        ToolCall("call_1", "add", {"a": 3, "b": 4}),
    )
    assert ("I add.", "tool_calls", expected) == (
        response.text,
        response.finish_reason,
        response.tool_calls,
    )


@needs_litellm
@each_vendor
async def test_tools_are_run_until_the_model_answers(row: Row, upstream: Upstream) -> None:
    upstream.call_tool("add", {"a": 1, "b": 2}).reply("It is 3.")

    response = await run_tools(model_of(row, upstream), "What is 1 + 2?", [add])

    assert "It is 3." == response.text
    assert 2 == len(upstream.requests)


@needs_litellm
@pytest.mark.parametrize("vendor", CALLED)
async def test_a_schema_is_held_to_by_each_vendor(vendor: str, upstream: Upstream) -> None:
    """Be it in a mode of its own, by a tool that it must call, or by words of litellm's."""
    by_vendor = {"anthropic": upstream.url, "gemini": upstream.gemini_url}
    model = model_at(f"{vendor}/some-model", by_vendor.get(vendor, upstream.openai_url))
    upstream.reply('{"name": "Paris", "people": 2}')

    response = await model.achat("Which city?", schema=City, strict=True)

    assert (City(name="Paris", people=2), "stop") == (response.parsed, response.finish_reason)
    assert not response.emulated
    assert not response.tool_calls
    assert "City" in str(upstream.requests[-1].json) or "people" in str(upstream.requests[-1].json)


@needs_litellm
@each_vendor
async def test_what_is_no_object_is_asked_for_within_one(row: Row, upstream: Upstream) -> None:
    upstream.reply('{"answer": [{"name": "Paris"}]}')

    response = await model_of(row, upstream).achat("Which cities?", schema=list[City])

    assert [City(name="Paris")] == response.parsed
    assert '[{"name": "Paris"}]' == response.text


@needs_litellm
async def test_tools_beside_a_schema_are_called_first(upstream: Upstream) -> None:
    calls = (Called("json_tool_call", {"name": "?"}, "a"), Called("add", {"a": 1}, "b"))
    upstream.reply(Reply(tool_calls=calls))

    response = await claude(upstream).achat("Which city?", tools=[add], schema=City)

    assert ((ToolCall("b", "add", {"a": 1}),), "tool_calls") == (
        response.tool_calls,
        response.finish_reason,
    )


@needs_litellm
async def test_geminis_signature_of_a_call_goes_back_with_the_call(upstream: Upstream) -> None:
    function = dict[str, Any](name="now", args={})
    call = dict[str, Any](functionCall=function, thoughtSignature="c2lnbmVk")
    candidate: dict[str, Any] = {"content": {"parts": [{"text": "Hm.", "thought": True}, call]}}
    upstream.play(body({"candidates": [candidate | {"finishReason": "STOP"}]}))
    model = model_at("gemini-3-pro-preview", upstream.gemini_url)

    response = await model.achat("How late?", tools=[{"name": "now"}])
    result = tool_result(response.tool_calls[0], "noon")
    await model.achat(["How late?", response.message, result], tools=[{"name": "now"}])

    assert ("", "tool_calls") == (response.text, response.finish_reason)
    sent = str(upstream.requests[-1].json["contents"][1])
    assert "'thoughtSignature': 'c2lnbmVk'" in sent
    assert "__thought__" not in sent


# --- images ---------------------------------------------------------------------------------


@needs_litellm
@pytest.mark.parametrize("vendor", CALLED)
async def test_an_image_reaches_each_vendor_or_is_refused(
    vendor: str, upstream: Upstream, connected: list[Any]
) -> None:
    by_vendor = {"anthropic": upstream.url, "gemini": upstream.gemini_url}
    model = model_at(f"{vendor}/some-model", by_vendor.get(vendor, upstream.openai_url))
    asked = user("What is this?", Image(data=PNG))

    if "vision" in VENDORS[vendor].lacks:
        with pytest.raises(errors.CapabilityNotSupportedError, match="takes no images"):
            await model.achat(asked)
    else:
        await model.achat(asked)

        assert "iVBORw0K" in str(upstream.requests[-1].json)
    assert {port_of(upstream)} >= set(connected)


@needs_litellm
@pytest.mark.parametrize("vendor", [n for n in CALLED if not VENDORS[n].lacks and n != "gemini"])
async def test_a_link_to_an_image_is_passed_on_and_fetched_by_nobody_here(
    vendor: str, upstream: Upstream, connected: list[Any]
) -> None:
    url = upstream.url if vendor == "anthropic" else upstream.openai_url
    model = model_at(f"{vendor}/some-model", url)

    await model.achat(user("What is this?", Image("https://images.invalid/cat.png")))

    assert "https://images.invalid/cat.png" in str(upstream.requests[-1].json)
    assert {port_of(upstream)} == set(connected)


@needs_litellm
@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("gemini/x", "https://images.invalid/cat.png"),
        ("claude-3-opus", "http://images.invalid/cat.png"),
        ("azure_ai/claude-sonnet-4-5", "http://images.invalid/cat.png"),
    ],
)
async def test_a_link_that_litellm_would_download_is_refused(
    name: str, link: str, upstream: Upstream, connected: list[Any]
) -> None:
    model = model_at(name, upstream.url)

    with pytest.raises(errors.BadRequestError, match=r"Image\(data=…\)") as caught:
        await model.achat(user("What is this?", Image(link)))

    assert ("litellm", name) == (caught.value.provider, caught.value.model)
    assert not connected


# --- settings -------------------------------------------------------------------------------


@needs_litellm
async def test_settings_of_a_call_go_over_those_configured(upstream: Upstream) -> None:
    model = gpt(upstream, temperature=0.5, seed=7, extra_body={"a": 1, "b": 1})
    extra = {"top_k": 4, "b": 2, "parallel_tool_calls": None}
    settings = {"temperature": 0.1, "max_tokens": 9, "stop": ("END",), "extra": extra}

    await model.achat("Hello!", settings=settings)
    await model.agenerate("Hello!", max_tokens=9, extra={"b": 2})

    chat, generate = [
        {name: value for name, value in request.json.items() if name not in {"model", "messages"}}
        for request in upstream.requests
    ]
    more = {"seed": 7, "max_tokens": 9, "a": 1, "b": 2}
    assert {**more, "temperature": 0.1, "stop": ["END"], "top_k": 4} == chat
    assert {**more, "temperature": 0.5} == generate


@needs_litellm
async def test_anthropic_gets_the_fields_of_its_own_that_litellm_sends(upstream: Upstream) -> None:
    model = claude(upstream, extra_body={"inference_geo": "us"})

    await model.achat("Hello!", settings={"extra": {"container": "c1", "top_k": 4}})

    sent = upstream.requests[-1].json
    assert ("us", "c1", 4) == (sent["inference_geo"], sent["container"], sent["top_k"])
    assert "extra_body" not in sent
    with pytest.raises(errors.BadRequestError, match="Did you mean 'container'"):
        await model.achat("Hello!", settings={"extra": {"containr": "c1"}})


@needs_litellm
@pytest.mark.parametrize("name", ["messages", "model", "n", "stream", "api_key", "base_url"])
async def test_what_is_not_for_a_call_cannot_be_given_as_extra(
    name: str, upstream: Upstream
) -> None:
    with pytest.raises(errors.BadRequestError, match=f"'{name}' is not for a call") as caught:
        await gpt(upstream).achat("Hello!", settings={"extra": {name: "x"}})

    assert ("litellm", "gpt-4o") == (caught.value.provider, caught.value.model)
    assert not upstream.requests


@needs_litellm
async def test_a_model_of_the_responses_api_is_refused_with_the_cure(upstream: Upstream) -> None:
    with pytest.raises(errors.BadRequestError, match="Use the provider openai") as caught:
        await model_at("openai/o1-pro", upstream.openai_url).achat("Hello!")

    assert "o1-pro" in str(caught.value)
    assert not upstream.requests


# --- refusals, and answers that make no sense -----------------------------------------------


@needs_litellm
@each_vendor
async def test_an_answer_that_its_filter_emptied_is_a_content_filter_error(
    row: Row, upstream: Upstream
) -> None:
    upstream.reply(Reply("", finish="content_filter"))

    with pytest.raises(errors.ContentFilterError):
        await model_of(row, upstream).achat("Tell me.")


@needs_litellm
async def test_a_refusal_keeps_its_words_and_prints_nothing(
    upstream: Upstream, capfd: pytest.CaptureFixture[str]
) -> None:
    message = {"content": None, "refusal": "I won't."}
    upstream.play(body({"choices": [{"message": message, "finish_reason": "stop"}]}))
    strange = {"content": None, "refusal": {"not": "a text"}}
    upstream.play(body({"choices": [{"message": strange, "finish_reason": "stop"}]}))

    with pytest.raises(errors.ContentFilterError, match="I won't"):
        await gpt(upstream).achat("Tell me.")
    with pytest.raises(errors.ProviderError, match="empty"):
        await gpt(upstream).achat("Tell me.")

    assert ("", "") == capfd.readouterr()


@needs_litellm
async def test_a_blocked_prompt_is_a_content_filter_error(upstream: Upstream) -> None:
    upstream.play(body({"promptFeedback": {"blockReason": "SAFETY"}}))

    with pytest.raises(errors.ContentFilterError, match="prompt was blocked: SAFETY"):
        await gemini(upstream).achat("Tell me.")


@needs_litellm
@each_vendor
@pytest.mark.parametrize(
    "fault", [faults.Null(), faults.Html(), faults.BrokenJson(), faults.Body("[]"), faults.Empty()]
)
async def test_an_answer_that_makes_no_sense_is_a_provider_error(
    fault: faults.Fault, row: Row, upstream: Upstream
) -> None:
    upstream.play(fault)

    with pytest.raises(errors.ProviderError) as caught:
        await model_of(row, upstream).achat("Hello!")

    assert ("litellm", row.model, 200) == (
        caught.value.provider,
        caught.value.model,
        caught.value.status,
    )


@needs_litellm
@each_vendor
async def test_an_error_with_a_good_status_keeps_its_words(row: Row, upstream: Upstream) -> None:
    upstream.play(faults.ErrorEvent(message="The server is sorry."))

    with pytest.raises(errors.ProviderError, match="The server is sorry"):
        await model_of(row, upstream).achat("Hello!")


def anthropics(*blocks: object, **more: Any) -> dict[str, Any]:
    return {"type": "message", "content": list(blocks), **more}


def geminis(*parts: object, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts)}, **more}]}


@pytest.mark.parametrize(
    ("answer", "tool"),
    [
        (anthropics({"type": "tool_use", "id": "a", "name": "add", "input": [1]}), "add"),
        (geminis({"functionCall": {"name": "add", "args": [1]}}), "add"),
        (
            {
                "choices": [
                    {
                        "message": {
                            "tool_calls": [{"function": {"name": "add"} | {"arguments": "["}}]
                        }
                    }
                ]
            },
            "add",
        ),
    ],
)
def test_malformed_arguments_are_a_typed_error(answer: dict[str, Any], tool: str) -> None:
    with pytest.raises(errors.InvalidToolCallError) as caught:
        response_of(answer)

    assert tool == caught.value.tool


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (anthropics({"type": "tool_use"}), "names no tool"),
        (anthropics("?", {"type": "thinking"}), "empty"),
        (anthropics(stop_reason="max_tokens"), "max_tokens"),
        ({"type": "message", "content": "?"}, "no content"),
        (geminis({"functionCall": {}}), "names no function"),
        (geminis(finishReason="MALFORMED_FUNCTION_CALL"), "malformed_function_call"),
        (geminis(finishReason="MAX_TOKENS"), "max_tokens"),
        (geminis("?"), "empty"),
        ({"candidates": [{"content": None}]}, "empty"),
        ({"candidates": []}, "no candidates"),
        ({"usageMetadata": {}}, "no candidates"),
    ],
)
def test_an_answer_without_sense_says_what_it_lacks(answer: dict[str, Any], words: str) -> None:
    with pytest.raises(Exception, match=words):
        response_of(answer)


def test_what_the_server_does_not_say_is_unknown() -> None:
    found = [
        litellm_anthropic.response_of(anthropics({"type": "text", "text": "Hi"})),
        litellm_gemini.response_of(geminis({"text": "Hi"})),
    ]

    assert [("Hi", None, None, None)] * 2 == [
        (each.text, each.usage, each.finish_reason, each.model_id) for each in found
    ]


def test_a_reason_that_is_not_known_stays_as_the_vendor_words_it() -> None:
    paused = anthropics({"type": "text", "text": "Hi"}, stop_reason="pause_turn")
    other = geminis({"text": "Hi"}, finishReason="LANGUAGE")

    assert ("pause_turn", "language") == (
        response_of(paused).finish_reason,
        response_of(other).finish_reason,
    )


def test_an_answer_of_the_responses_api_is_understood_too() -> None:
    content = [{"type": "output_text", "text": "Hi"}]
    answer = {"object": "response", "output": [{"type": "message", "content": content}]}

    assert "Hi" == response_of(answer).text


@needs_litellm
@each_vendor
async def test_agenerate_refuses_an_answer_of_tool_calls_and_names_achat(
    row: Row, upstream: Upstream
) -> None:
    upstream.call_tool("add", {})

    with pytest.raises(errors.ProviderError, match=r"achat\(\)"):
        await model_of(row, upstream).agenerate("Add.")


# --- the call -------------------------------------------------------------------------------


@needs_litellm
@each_vendor
async def test_a_calls_timeout_goes_over_the_configured_one(row: Row, upstream: Upstream) -> None:
    upstream.play(faults.Hang(), faults.Hang())
    model = model_of(row, upstream, timeout=60)

    with pytest.raises(errors.LLMTimeoutError, match="of 1 s"):
        await model.achat("Hello!", settings={"timeout": 1})
    with pytest.raises(errors.LLMTimeoutError, match="of 1 s"):
        await model.agenerate("Hello!", timeout=1)


@needs_litellm
@each_vendor
async def test_cancelling_a_call_closes_its_request(row: Row, upstream: Upstream) -> None:
    model = model_of(row, upstream)
    await model.achat("warm up")
    upstream.play(faults.Hang())
    asking = asyncio.create_task(model.achat("Hello!"))
    await upstream.await_requests(2)

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    await upstream.await_disconnect()


@needs_litellm
@each_vendor
def test_one_model_answers_in_one_event_loop_after_another(row: Row, upstream: Upstream) -> None:
    model = model_of(row, upstream)

    assert ["one", "two"] == [asyncio.run(model.achat(t)).text for t in ("one", "two")]
    # The server sees it in a thread of its own, a moment later.
    wait_until(lambda: not upstream.open_connections, 30, "the connections to close")


@needs_litellm
@each_vendor
async def test_a_key_shows_in_no_error_whoever_gave_it(row: Row, upstream: Upstream) -> None:
    words = "Bad keys sk-planted-config and sk-planted-extra."
    upstream.fail(400, message=words).play(faults.ErrorEvent(message=words))
    model = model_of(row, upstream, api_key="sk-planted-config")
    field = "container" if row.url == "url" and "claude" in row.model else "backend"
    settings = {"extra": {field: {"api_key": "sk-planted-extra"}}}

    for _ in range(2):
        with pytest.raises(errors.LLMError, match="Bad keys") as caught:
            await model.achat("Hello!", settings=settings)

        assert "sk-planted" not in f"{caught.value!r} {caught.value.__cause__!r}"


@needs_litellm
async def test_a_model_can_be_prepared_without_asking_anybody(upstream: Upstream) -> None:
    await gpt(upstream).aprepare()

    assert not upstream.requests


@needs_litellm
async def test_an_answer_that_no_vendor_gave_is_an_error(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def made_up(**_arguments: Any) -> str:
        return "Hello!"

    sdk: SDK = await load("litellm", SDK)
    monkeypatch.setattr(sdk._litellm, "acompletion", made_up)

    with pytest.raises(errors.LLMError, match="without asking the vendor"):
        await gpt(upstream).achat("Hello!")


# --- litellm's own noise --------------------------------------------------------------------


@needs_litellm
async def test_what_litellm_warns_of_is_not_printed_and_it_fetches_nothing(
    upstream: Upstream, connected: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """It warns of unknown models, and would fetch Anthropic's headers from the network."""
    upstream.reply("{}", "Hi", "Hi")
    await model_at("claude-sonnet-4-5", upstream.url).achat("?", schema=dict[str, int])
    await model_at("together_ai/x", upstream.openai_url).achat("?", tools=[add])
    await model_at("gemini-3-pro-preview", upstream.gemini_url).achat("?", settings={"top_p": 1})
    upstream.fail(500)
    with pytest.raises(errors.ProviderError):
        await gpt(upstream).achat("?")
    gc.collect()

    assert ("", "") == capfd.readouterr()
    assert {port_of(upstream)} == set(connected)


@needs_litellm
async def test_the_applications_own_calls_of_litellm_are_as_loud_as_they_were() -> None:
    await load("litellm", SDK)
    SDK()  # a second one adds nothing
    record = LogRecord("LiteLLM", 30, "x.py", 1, "loud", None, None)

    assert _is_others(record)
    for handler in getLogger("LiteLLM").handlers:
        assert 1 == handler.filters.count(_is_others)


@needs_litellm
async def test_a_litellm_that_knows_no_headers_of_anthropics_serves_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await load("litellm", SDK)
    monkeypatch.setitem(sys.modules, "litellm.anthropic_beta_headers_manager", None)

    _load_headers()


# --- what is known --------------------------------------------------------------------------


def test_what_a_vendor_cannot_be_asked_for_is_known() -> None:
    opus, deepseek = (
        model_at(name, "http://127.0.0.1:9").profile for name in ("claude-3-opus", "deepseek-chat")
    )

    assert (True, True, False) == tuple(
        opus.supports(name) for name in ("vision", "tools", "embeddings")
    )
    assert deepseek.supports("vision") is False
