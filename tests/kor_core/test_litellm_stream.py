"""Streams through litellm: read off the wire, never cut in silence, closed early."""

import asyncio
import gc
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

import pytest

from kor_core import errors
from kor_core.adapters.litellm import LiteLLMProvider
from kor_core.adapters.litellm_answers import AnyEvents
from kor_core.adapters.network import Transport
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.messages import ToolCall
from kor_core.llm.response import Delta, Usage
from kor_core.llm.streams import StreamedAnswer
from kor_core.settings import NetworkSettings
from kor_core.testing import Upstream, faults
from kor_core.testing.answers import Answer, Exchange, Framing, Part
from kor_core.testing.replies import Reply
from kor_core.testing.replies import ToolCall as Called
from kor_core.testing.waiting import await_until, wait_until

# litellm's import takes seconds, which no test is to reckon with.
pytestmark = pytest.mark.usefixtures("litellm_ready")

needs_litellm = pytest.mark.skipif(
    find_spec("litellm") is None, reason="litellm cannot be installed beside this openai"
)


class Row(NamedTuple):
    """One vendor, and what its wire can tell."""

    model: str
    url: str
    usage: Usage | None

    def __str__(self) -> str:
        return self.model


ALL_TOLD = Usage(9, 4, 3, 2)
ROWS = [
    Row("claude-3-opus", "url", Usage(9, 4, 3, None)),
    Row("gemini-2.5-pro", "gemini_url", ALL_TOLD),
    Row("ollama/llama3", "url", ALL_TOLD),
    Row("gpt-4o", "openai_url", ALL_TOLD),
    Row("groq/llama-3.3-70b-versatile", "openai_url", ALL_TOLD),
    # Asked for no count, which litellm says Mistral does not know; the fake tells none then.
    Row("mistral-large", "openai_url", None),
]
each_vendor = pytest.mark.parametrize("row", ROWS, ids=str)


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@dataclass(frozen=True)
class Raw(faults.Fault):
    """A stream of our own, written as it stands."""

    events: tuple[dict[str, Any], ...]

    def answer(self, exchange: Exchange) -> Answer:
        headers = (("content-type", "text/event-stream"), *exchange.headers)
        parts = tuple(Part(f"data: {json.dumps(event)}\n\n".encode()) for event in self.events)
        return Answer(200, headers, parts, framing="chunked")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


def model_of(row: Row, upstream: Upstream, **config: Any) -> BaseLLMModel:
    provider = LiteLLMProvider(Transport(NetworkSettings()))
    base = {"base_url": getattr(upstream, row.url), "api_key": "sk-mine"}
    return provider.create_model(row.model, {**base, **config})


# --- what comes -----------------------------------------------------------------------------


@needs_litellm
@each_vendor
async def test_a_stream_gives_the_text_in_pieces_and_then_the_whole(
    row: Row, upstream: Upstream, capfd: pytest.CaptureFixture[str]
) -> None:
    upstream.reply(
        Reply(
            "one two three",
            input_tokens=9,
            output_tokens=4,
            cached_tokens=3,
            reasoning_tokens=2,
        )
    )

    async with model_of(row, upstream).astream("Count.") as stream:
        texts = [delta.text async for delta in stream]

    assert ["one ", "two ", "three"] == texts
    found = stream.response
    assert ("one two three", "stop", row.usage) == (found.text, found.finish_reason, found.usage)
    assert (found.model_id or "").startswith(row.model.rpartition("/")[2])
    assert found.request_id
    assert not found.emulated
    assert ("", "") == capfd.readouterr()


@needs_litellm
@each_vendor
async def test_parallel_tool_calls_are_streamed(row: Row, upstream: Upstream) -> None:
    calls = (Called("add", {"a": 1}, "call_0"), Called("add", {"a": 2}, "call_1"))
    upstream.reply(Reply("I add.", calls))

    response = await model_of(row, upstream).astream("Add.", tools=[add]).collect()

    expected = (ToolCall("call_0", "add", {"a": 1}), ToolCall("call_1", "add", {"a": 2}))
    assert ("I add.", expected, "tool_calls") == (
        response.text,
        response.tool_calls,
        response.finish_reason,
    )


@needs_litellm
async def test_malformed_arguments_are_a_typed_error_at_the_end(upstream: Upstream) -> None:
    upstream.call_tool("add", "[1")

    with pytest.raises(errors.InvalidToolCallError, match="'add'"):
        await model_of(ROWS[3], upstream).astream("Add.").collect()


@needs_litellm
@each_vendor
def test_one_model_streams_in_one_event_loop_after_another(row: Row, upstream: Upstream) -> None:
    model = model_of(row, upstream)

    texts = [asyncio.run(model.astream(text).collect()).text for text in ("one", "two")]

    assert ["one", "two"] == texts
    wait_until(lambda: not upstream.open_connections, 5, "the connections to be closed")


@needs_litellm
@each_vendor
async def test_a_whole_stream_leaves_its_connection_to_the_next(
    row: Row, upstream: Upstream
) -> None:
    model = model_of(row, upstream)

    for _ in range(3):
        await model.astream("Hello!").collect()

    assert 1 == upstream.accepted_connections


@needs_litellm
@each_vendor
async def test_an_answer_that_comes_at_once_is_one_delta(row: Row, upstream: Upstream) -> None:
    whole = {"choices": [{"message": {"content": "Hi there"}}]}
    upstream.play(faults.Body(json.dumps(whole)))

    response = await model_of(row, upstream).astream("Hello!").collect()

    assert ("Hi there", frozenset({"stream"})) == (response.text, response.emulated)


@needs_litellm
async def test_a_server_that_knows_no_count_is_asked_without(upstream: Upstream) -> None:
    upstream.fail(400, message="Unknown field: stream_options.")
    model = model_of(ROWS[3], upstream)

    for _ in range(2):
        assert "Hello!" == (await model.astream("Hello!").collect()).text

    asked = ["stream_options" in request.json for request in upstream.requests]
    assert [True, False, False] == asked


@needs_litellm
async def test_another_refusal_is_not_asked_again(upstream: Upstream) -> None:
    upstream.fail(400, message="No.")

    with pytest.raises(errors.BadRequestError, match="No"):
        await model_of(ROWS[3], upstream).astream("Hello!").collect()

    assert 1 == len(upstream.requests)


# --- cuts -----------------------------------------------------------------------------------


@needs_litellm
@each_vendor
@pytest.mark.parametrize("framing", ["close", "chunked"])
async def test_a_stream_cut_anywhere_is_whole_or_interrupted_with_its_text(
    framing: Framing, row: Row, upstream: Upstream, capfd: pytest.CaptureFixture[str]
) -> None:
    model = model_of(row, upstream)
    found: list[tuple[str, str | None]] = []
    for position in range(0, 3000, 61):
        upstream.play(faults.Cut(after_bytes=position, framing=framing)).reply("Hä llo wörld")
        found.append(await ended(model))
        if position and found[-1] == ("Hä llo wörld", "stop"):
            break

    texts = [text for text, _ in found]
    assert ["", "Hä ", "Hä llo ", "Hä llo wörld"] == list(dict.fromkeys(texts))
    *cut, last = found
    assert ("Hä llo wörld", "stop") == last
    assert {None} == {finish for _, finish in cut}
    gc.collect()
    assert ("", "") == capfd.readouterr()


async def ended(model: BaseLLMModel) -> tuple[str, str | None]:
    """Return the text that came, and why it ended; None where it was interrupted."""
    stream = model.astream("Hello!")
    with suppress(errors.StreamInterruptedError):
        response = await stream.collect()
        return response.text, response.finish_reason
    return stream.text, None


# --- errors ---------------------------------------------------------------------------------


@needs_litellm
@each_vendor
async def test_an_error_before_the_first_delta_is_the_calls(row: Row, upstream: Upstream) -> None:
    upstream.play(faults.ErrorEvent(status=429, message="Slow down, please."))

    with pytest.raises(errors.LLMError, match="Slow down, please") as caught:
        await model_of(row, upstream).astream("Hello!").collect()

    assert not isinstance(caught.value, errors.StreamInterruptedError)
    assert ("litellm", row.model) == (caught.value.provider, caught.value.model)


@needs_litellm
@each_vendor
async def test_an_error_after_the_first_delta_interrupts_and_leaves_nothing_open(
    row: Row, upstream: Upstream, capfd: pytest.CaptureFixture[str]
) -> None:
    words = "Busy with sk-planted-config."
    upstream.play(faults.ErrorEvent(after_deltas=1, message=words)).reply("one two")
    model = model_of(row, upstream, api_key="sk-planted-config")

    with pytest.raises(errors.StreamInterruptedError, match="Busy") as caught:
        await model.astream("Hello!").collect()

    assert "one " == caught.value.partial
    assert "sk-planted" not in f"{caught.value!r} {caught.value.__cause__!r}"
    gc.collect()
    assert ("", "") == capfd.readouterr()


@needs_litellm
@each_vendor
async def test_an_error_status_is_the_calls_and_asked_once(
    row: Row, upstream: Upstream, capfd: pytest.CaptureFixture[str]
) -> None:
    upstream.fail(401)

    with pytest.raises(errors.AuthenticationError):
        await model_of(row, upstream).astream("Hello!").collect()

    assert 1 == len(upstream.requests)
    assert ("", "") == capfd.readouterr()


@needs_litellm
@each_vendor
async def test_an_answer_that_its_filter_emptied_is_a_content_filter_error(
    row: Row, upstream: Upstream
) -> None:
    upstream.reply(Reply("", finish="content_filter"))

    with pytest.raises(errors.ContentFilterError):
        await model_of(row, upstream).astream("Tell me.").collect()


# --- leaving --------------------------------------------------------------------------------


@needs_litellm
@each_vendor
async def test_leaving_early_closes_the_upstream(row: Row, upstream: Upstream) -> None:
    upstream.play(faults.Slow(0.05)).reply("one two three four five six seven eight nine ten")

    async with model_of(row, upstream).astream("Count.") as stream:
        async for delta in stream:
            assert "one " == delta.text
            break

    await upstream.await_disconnect()


@needs_litellm
@each_vendor
async def test_cancelling_the_reader_closes_the_upstream(row: Row, upstream: Upstream) -> None:
    upstream.play(faults.Cut(1, hang=True)).reply("one two three")
    stream = model_of(row, upstream).astream("Count.")
    assert "one " == (await anext(stream)).text
    reading = asyncio.create_task(stream.collect())
    await asyncio.sleep(0)  # it reads

    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    await upstream.await_disconnect()


@needs_litellm
@each_vendor
async def test_the_deadline_is_that_of_the_whole_stream(row: Row, upstream: Upstream) -> None:
    model = model_of(row, upstream)
    await model.achat("warm up")
    upstream.play(faults.Cut(1, hang=True)).reply("one two three")
    stream = model.astream("Count.", settings={"timeout": 3})

    with pytest.raises(errors.LLMTimeoutError, match="of 3 s"):
        await stream.collect()

    assert "one " == stream.text
    await upstream.await_disconnect()


@needs_litellm
@each_vendor
async def test_no_task_is_left(row: Row, upstream: Upstream) -> None:
    model = model_of(row, upstream)
    upstream.play(faults.Cut(1)).reply("one two three")

    with suppress(errors.StreamInterruptedError):
        await model.astream("Count.").collect()
    await model.astream("Count.").collect()

    # litellm starts one that times the call, and ends in the next turn of the loop.
    await await_until(lambda: len(asyncio.all_tasks()) == 1, 30, "the tasks to end")


# --- formats, event by event ----------------------------------------------------------------


def read(*events: dict[str, Any]) -> tuple[str, list[tuple[str, str, str]], str | None]:
    """Return the text, the calls and the end that events make."""
    reader, answer = AnyEvents(), StreamedAnswer()
    assert not reader.is_over
    deltas: list[Delta] = [delta for event in events for delta in reader.deltas(event)]
    for delta in deltas:
        answer.add(delta)
    calls = [(c.id, c.name, "".join(c.arguments)) for _, c in sorted(answer._calls.items())]
    return answer.text, calls, answer.finish_reason


def begun(kind: str, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": 1, "content_block": {"type": kind, **block}}


def piece(kind: str, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 1, "delta": {"type": kind, **delta}}


def ending(reason: str | None) -> dict[str, Any]:
    usage = {"output_tokens": None} if reason else None
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


def test_anthropics_events_of_other_kinds_bring_nothing() -> None:
    found = read(
        {"type": "ping"},
        {"type": "message_start", "message": None},
        begun("thinking"),
        piece("thinking_delta", thinking="Hm."),
        begun("server_tool_use", name="web_search"),
        piece("input_json_delta", partial_json="{}"),
        begun("text", text="H"),
        piece("text_delta", text="i"),
        piece("text_delta", text=""),
        ending(None),
        ending("end_turn"),
        {"type": "message_stop"},
    )

    assert ("Hi", [], "stop") == found


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([begun("tool_use", id="a")], "names no tool"),
        ([{"type": "error", "error": {"message": "no"}}], "error"),
        ([{"type": "ping"}, ending("end_turn")], "empty"),
        ([{"candidates": [{"finishReason": "STOP"}]}], "empty"),
        ([{"candidates": [{"finishReason": "OTHER"}]}], "because of other"),
        ([{"error": {"message": "no"}}], "error"),
    ],
)
def test_events_without_sense_are_errors(events: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(Exception, match=words):
        read(*events)


def part_of_gemini(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts)}, **more}]}


def test_geminis_calls_come_whole_and_its_thoughts_do_not_count() -> None:
    call = {"functionCall": {"name": "add", "args": {"a": 1}}}
    found = read(
        {"usageMetadata": {"promptTokenCount": 1}},
        part_of_gemini({"text": "Hm.", "thought": True}),
        part_of_gemini({"text": "I add."}, call),
        part_of_gemini({**call, "thoughtSignature": "sig"}, finishReason="STOP"),
    )

    calls = [("call_0", "add", '{"a": 1}'), ("call_1__thought__sig", "add", '{"a": 1}')]
    assert ("I add.", calls, "tool_calls") == found


def test_the_tool_that_litellm_forces_for_a_schema_is_the_text() -> None:
    found = read(
        begun("tool_use", id="a", name="json_tool_call"),
        piece("input_json_delta", partial_json='{"a"'),
        piece("input_json_delta", partial_json=": 1}"),
        ending("tool_use"),
    )

    assert ('{"a": 1}', [], "stop") == found


def test_other_tools_beside_it_stay_tools() -> None:
    found = read(
        begun("tool_use", id="a", name="json_tool_call"),
        {**begun("tool_use", id="b", name="add"), "index": 2},
        ending("tool_use"),
    )

    assert ("", [("b", "add", "")], "tool_calls") == found


def test_the_responses_api_streams_too() -> None:
    found = read(
        {"type": "response.output_text.delta", "delta": "Hi"},
        {"type": "response.completed", "response": {"status": "completed"}},
    )

    assert ("Hi", [], "stop") == found


@needs_litellm
async def test_a_stream_of_raw_events_is_read_as_its_shape_tells(upstream: Upstream) -> None:
    upstream.play(Raw((part_of_gemini({"text": "Hi"}, finishReason="MAX_TOKENS"),)))

    response = await model_of(ROWS[3], upstream).astream("Hello!").collect()

    assert ("Hi", "length", None) == (response.text, response.finish_reason, response.usage)
