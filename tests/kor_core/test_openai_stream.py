"""Streams of OpenAI's chat completions: read as they come, never cut in silence, closed early."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParams
from pydantic import TypeAdapter

from kor_core import errors
from kor_core.adapters.chunks import ToolIndexes
from kor_core.adapters.exchange import noted
from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIProvider
from kor_core.adapters.sse import Event, Events
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.messages import ToolCall
from kor_core.llm.request import ChatRequest
from kor_core.llm.response import LLMResponse, Usage
from kor_core.settings import NetworkSettings
from kor_core.testing import Upstream, faults
from kor_core.testing.answers import Answer, Ending, Exchange, Framing, Part
from kor_core.testing.replies import Reply
from kor_core.testing.replies import ToolCall as Called
from kor_core.testing.waiting import wait_until


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture
def model(upstream: Upstream) -> BaseLLMModel:
    return model_of(upstream)


def model_of(upstream: Upstream, **config: Any) -> BaseLLMModel:
    provider = OpenAIProvider(Transport(NetworkSettings()))
    return provider.create_model("gpt-4o", {"base_url": upstream.openai_url, **config})


@dataclass(frozen=True)
class Raw(faults.Fault):
    """A stream of our own, written as it stands."""

    parts: tuple[bytes, ...]
    framing: Framing = "chunked"
    ending: Ending = "complete"
    stop: int | None = None
    between: float = 0.0

    def answer(self, exchange: Exchange) -> Answer:
        headers = (("content-type", "text/event-stream; charset=utf-8"), *exchange.headers)
        parts = tuple(map(Part, self.parts))
        answer = Answer(200, headers, parts, framing=self.framing, ending=self.ending)
        return replace(answer, stop=self.stop, between=self.between)


class Unended(Raw):
    """All of the stream but the chunk that says so."""

    def answer(self, exchange: Exchange) -> Answer:
        whole = super().answer(exchange)
        return replace(whole, stop=len(whole.head) + sum(map(len, map(whole.framed, whole.parts))))


def chunk(
    delta: dict[str, Any] | None, finish: str | None = None, end: str = "\n\n", **more: Any
) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"choices": [choice], **more}
    return f"data: {json.dumps(body, ensure_ascii=False)}{end}".encode()


def said(text: str, end: str = "\n\n") -> bytes:
    return chunk({"content": text}, end=end)


DONE = b"data: [DONE]\n\n"
STOP = chunk({}, "stop")


# --- what comes -----------------------------------------------------------------------------


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
    assert not found.emulated


async def test_a_stream_is_asked_for_with_its_count(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    await model.astream("Hello!").collect()

    body = upstream.requests[-1].json
    assert {"stream": True, "stream_options": {"include_usage": True}} == {
        name: body[name] for name in ("stream", "stream_options")
    }
    known = TypeAdapter(CompletionCreateParams).validate_python(body)
    assert body.keys() == known.keys()


async def test_parallel_tool_calls_come_in_pieces(upstream: Upstream, model: BaseLLMModel) -> None:
    calls = (Called("add", {"a": 1}, "call_1"), Called("add", {"a": 2}, "call_2"))
    upstream.reply(Reply("I add.", calls))

    response = await model.astream("Add.").collect()

    assert "I add." == response.text
    assert (ToolCall("call_1", "add", {"a": 1}), ToolCall("call_2", "add", {"a": 2})) == (
        response.tool_calls
    )
    assert "tool_calls" == response.finish_reason


async def test_malformed_arguments_are_a_typed_error_at_the_end(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    upstream.call_tool("add", "[1")

    with pytest.raises(errors.InvalidToolCallError, match="'add'"):
        await model.astream("Add.").collect()


def test_sync_code_reads_streams_too(upstream: Upstream, model: BaseLLMModel) -> None:
    upstream.reply("one two")

    assert ["one ", "two"] == [delta.text for delta in model.stream("Count.")]


def test_one_model_streams_in_one_event_loop_after_another(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    texts = [asyncio.run(model.astream(text).collect()).text for text in ("one", "two")]

    assert ["one", "two"] == texts
    wait_until(lambda: not upstream.open_connections, 5, "the connections to be closed")


async def test_a_connection_serves_the_next_stream_though_its_end_comes_late(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    upstream.play(faults.Slow(0.01), times=None)

    for _ in range(3):
        await model.astream("Hello!").collect()

    assert 1 == upstream.accepted_connections


async def test_what_follows_the_last_event_is_not_waited_for_long(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    parts = (said("Hi"), STOP, DONE)
    whole = Raw(parts, ending="hang", framing="close")
    upstream.play(whole, replace(whole, parts=(*parts, b": bye\n\n"), between=0.02))

    assert "Hi" == (await model.astream("Hello!").collect()).text
    assert "Hi" == (await model.astream("Hello!").collect()).text


# --- ways to write a stream -----------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"])
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_pieces_may_be_cut_anywhere_and_lines_end_in_any_way(
    end: str, size: int, upstream: Upstream, model: BaseLLMModel
) -> None:
    comment = f": keep-alive{end}".encode()
    events = (comment, said("Hä", end), comment, said("llo €", end), chunk({}, "stop", end))
    body = b"\xef\xbb\xbf" + b"".join(events) + f"data: [DONE]{end}".encode()
    pieces = tuple(body[start : start + size] for start in range(0, len(body), size))
    upstream.play(Raw(pieces))

    assert "Hällo €" == (await model.astream("Hello!").collect()).text


def test_events_have_names_several_lines_and_fields_that_do_not_count() -> None:
    events = Events()

    found = [*events.fed(b"event: a\nid: 7\ndata: 1\ndata:2\nretry\n\nevent: b\n\ndata\n\n")]

    assert [Event("a", b"1\n2"), Event("", b"")] == found
    assert events.are_whole


def test_an_event_in_many_pieces_is_put_together_once() -> None:
    events = Events()

    found = [[*events.fed(piece)] for piece in (b"da", b"ta: ", b"x", b"\r", b"\n", b"\r", b"\n")]

    assert [[], [], [], [], [], [], [Event("", b"x")]] == found


@pytest.mark.parametrize("body", [b"data: x", b"data: x\n", b"data", b": comm", b"data: [DON"])
def test_a_body_that_ends_within_an_event_is_not_whole(body: bytes) -> None:
    events = Events()

    assert [] == [*events.fed(body)]
    assert not events.are_whole


@pytest.mark.parametrize("body", [b"", b"data: x\n\n", b"data: [DONE]", b"data: [DONE]\r", b"\n"])
def test_a_body_that_ends_after_an_event_is_whole(body: bytes) -> None:
    events = Events()
    list(events.fed(body))

    assert events.are_whole


async def test_the_farewell_may_be_missing_after_the_reason_of_the_end(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    upstream.play(
        Raw((said("Hi"), STOP), "close"), Raw((said("Hi"), STOP, b"data: [DONE]"), "close")
    )

    assert "stop" == (await model.astream("Hello!").collect()).finish_reason
    assert "stop" == (await model.astream("Hello!").collect()).finish_reason


async def test_chunks_without_a_choice_of_ours_are_passed_over(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    filters = b'data: {"choices": [], "prompt_filter_results": []}\n\n'
    other = b'data: {"choices": [{"index": 1, "delta": {"content": "no"}}]}\n\n'
    strange = b'data: {"choices": ["?"]}\n\ndata: {"object": "ping"}\n\n'
    upstream.play(Raw((filters, other, strange, chunk(None), said("Hi"), STOP, DONE)))

    response = await model.astream("Hello!").collect()

    assert ("Hi", None) == (response.text, response.usage)


async def test_a_server_that_does_not_stream_answers_in_one_delta(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    upstream.play(faults.Body('{"choices": [{"message": {"content": "Hi there"}}]}'))

    response = await model.astream("Hello!").collect()

    assert "Hi there" == response.text
    assert {"stream"} == response.emulated


# --- tool calls as some servers write them --------------------------------------------------


def test_an_index_may_be_missing_or_the_same_for_all() -> None:
    indexes = ToolIndexes()

    found = [
        indexes.of(None, "a", "add"),
        indexes.of(None, "", ""),
        indexes.of(None, "b", "add"),
        indexes.of(None, "", "now"),
        indexes.of(0, "c", "add"),
        indexes.of(0, "c", ""),
        indexes.of(0, "d", "add"),
    ]

    expected = [(0, True), (0, False), (1, True), (2, True), (3, True), (3, False), (4, True)]
    assert expected == found


async def test_a_tool_call_without_an_id_gets_one(upstream: Upstream, model: BaseLLMModel) -> None:
    begun = {"index": 0, "function": {"name": "add", "arguments": '{"a"'}}
    more = {"index": 0, "function": {"arguments": ": 1}"}}
    upstream.play(
        Raw((chunk({"tool_calls": [begun]}), chunk({"tool_calls": [more]}, "tool_calls"), DONE))
    )

    response = await model.astream("Add.").collect()

    assert (ToolCall("call_0", "add", {"a": 1}),) == response.tool_calls


@pytest.mark.parametrize("call", ["?", {"index": 0, "function": {"arguments": "{}"}}])
async def test_a_tool_call_that_makes_no_sense_is_a_provider_error(
    call: object, upstream: Upstream, model: BaseLLMModel
) -> None:
    upstream.play(Raw((chunk({"tool_calls": [call]}), DONE)))

    with pytest.raises(errors.ProviderError, match="tool call"):
        await model.astream("Add.").collect()


# --- cuts -----------------------------------------------------------------------------------

PIECES = (said("Hä"), said("llo"), STOP, DONE)
ENDS = list(accumulate(map(len, PIECES)))


def expected_at(position: int) -> str | None:
    """Return the text that is there when the body is cut at a byte; None where it is whole."""
    texts = ["Hä", "llo", "", ""]
    partial = "".join(t for t, end in zip(texts, ENDS, strict=True) if end <= position)
    whole = {ENDS[2], *range(ENDS[3] - 2, ENDS[3] + 1)}
    return None if position in whole else partial


@pytest.mark.parametrize("framing", ["close", "chunked"])
async def test_a_stream_cut_at_any_byte_is_interrupted_with_its_text(
    framing: Framing, upstream: Upstream, model: BaseLLMModel
) -> None:
    whole = Raw(PIECES, framing)
    head = await length_of_head(upstream, model, whole)
    sizes = 0 if framing == "close" else sum(len(f"{len(piece):x}\r\n\r\n") for piece in PIECES)
    last = ENDS[-1] + sizes
    found: dict[int, str | None] = {}
    for position in range(last):
        upstream.play(Raw(PIECES, framing, "close", head + position))
        found[position] = await interrupted_at(model)

    if framing == "close":
        assert {position: expected_at(position) for position in found} == found
    else:
        assert ["", "Hä", "Hällo", None] == list(dict.fromkeys(found.values()))
        # Nothing but the end of the body is missing.
        assert [last - 2, last - 1] == [at for at, text in found.items() if text is None]


async def interrupted_at(model: BaseLLMModel) -> str | None:
    """Return the partial text of an interrupted stream; None where it is whole."""
    stream = model.astream("Hello!")
    with suppress(errors.StreamInterruptedError):
        await stream.collect()
        return None
    return stream.text


async def length_of_head(upstream: Upstream, model: BaseLLMModel, whole: Raw) -> int:
    """Return where the body begins: the fewest bytes after which a cut is one of the stream."""
    low, high = 1, 1000
    while low < high:
        middle = (low + high) // 2
        upstream.play(Raw(whole.parts, whole.framing, "close", middle))
        try:
            await interrupted_at(model)
        except errors.LLMConnectionError:
            low = middle + 1
        else:
            high = middle
    return low


@pytest.mark.parametrize("reset", [True, False])
async def test_a_head_that_is_cut_is_a_connection_error(
    reset: bool,  # noqa: FBT001  # how it is cut
    upstream: Upstream,
    model: BaseLLMModel,
) -> None:
    upstream.play(faults.Cut(after_bytes=20, of_response=True, reset=reset))

    with pytest.raises(errors.LLMConnectionError):
        await model.astream("Hello!").collect()


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_a_reader_who_is_busy_when_it_is_cut_gets_all_that_came(
    framing: Framing,
    reset: bool,  # noqa: FBT001  # how it is cut
    upstream: Upstream,
    model: BaseLLMModel,
) -> None:
    said_before = (said("one "), said("two "), said("three "))
    ending: Ending = "reset" if reset else "close"
    upstream.play(Unended(said_before, framing=framing, ending=ending, between=0.02))

    with pytest.raises(errors.StreamInterruptedError) as caught:
        await read_slowly(model)

    assert "one two three " == caught.value.partial


async def test_a_whole_answer_whose_connection_breaks_before_it_is_read_is_an_answer(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    parts = (said("one "), said("two "), said("three"), STOP, DONE)
    upstream.play(Unended(parts, ending="reset", between=0.02))

    assert "one two three" == (await read_slowly(model)).text


async def read_slowly(model: BaseLLMModel) -> LLMResponse:
    async with model.astream("Hello!") as stream:
        async for _ in stream:
            await asyncio.sleep(0.2)  # meanwhile the rest comes, and the connection breaks
    return stream.response


async def test_a_stream_that_never_says_why_it_ended_is_interrupted(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    upstream.play(Raw((said("Hi"), chunk({}, ""), DONE)), Raw((b"",)), faults.Null())

    for expected in ("Hi", "", ""):
        with pytest.raises(errors.StreamInterruptedError) as caught:
            await model.astream("Hello!").collect()

        assert expected == caught.value.partial


# --- errors in the stream -------------------------------------------------------------------


async def test_an_error_before_the_first_delta_is_the_calls(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    upstream.play(faults.ErrorEvent(message="Slow down.", code="rate_limit_exceeded"))

    with pytest.raises(errors.RateLimitError, match="Slow down") as caught:
        await model.astream("Hello!").collect()

    assert "req_000000000000000000000001" == caught.value.request_id


async def test_an_error_after_the_first_delta_interrupts(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    upstream.play(faults.ErrorEvent(after_deltas=1, message="Busy.")).reply("one two")

    with pytest.raises(errors.StreamInterruptedError, match="Busy") as caught:
        await model.astream("Hello!").collect()

    assert "one " == caught.value.partial
    assert isinstance(caught.value.__cause__, errors.ProviderError)


async def test_an_error_status_is_the_calls(upstream: Upstream, model: BaseLLMModel) -> None:
    upstream.fail(401)

    with pytest.raises(errors.AuthenticationError):
        await model.astream("Hello!").collect()


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (faults.Html(), errors.ProviderError, "HTML page"),
        (faults.Body('{"error": {"message": "Busy."}}'), errors.ProviderError, "Busy"),
        (faults.BrokenJson(), errors.ProviderError, "no valid JSON"),
        (faults.Empty(), errors.ProviderError, "empty"),
        (Raw((chunk({}, "length"), DONE)), errors.ProviderError, "max_tokens"),
        (Raw((chunk({}, "content_filter"), DONE)), errors.ContentFilterError, "filter"),
        (
            Raw((chunk({"refusal": "I "}), chunk({"refusal": "won't."}), STOP, DONE)),
            errors.ContentFilterError,
            "I won't",
        ),
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


# --- the count of a stream ------------------------------------------------------------------


async def test_a_server_that_refuses_to_count_is_asked_without(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    upstream.fail(400, message="Unknown parameter: stream_options")

    first = await model.astream("Hello!").collect()
    await model.astream("Hello!").collect()

    assert ("Hello!", None) == (first.text, first.usage)
    counted = ["stream_options" in request.json for request in upstream.requests]
    assert [True, False, False] == counted


async def test_another_refusal_stays_one(upstream: Upstream, model: BaseLLMModel) -> None:
    upstream.fail(400, message="No such thing.").fail(400, message="stream_options").fail(
        400, message="stream_options"
    )

    for _ in range(2):
        with pytest.raises(errors.BadRequestError):
            await model.astream("Hello!").collect()

    assert 3 == len(upstream.requests)


async def test_an_answer_without_a_count_has_no_usage(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    upstream.play(Raw((said("Hi"), STOP, DONE)))

    assert None is (await model.astream("Hello!").collect()).usage


# --- its end --------------------------------------------------------------------------------


async def test_leaving_early_closes_the_connection(upstream: Upstream, model: BaseLLMModel) -> None:
    upstream.play(faults.Slow(0.05)).reply("one two three")

    async with model.astream("Count.") as stream:
        first = await anext(stream)

    assert "one " == first.text
    await upstream.await_disconnect()
    assert {asyncio.current_task()} == asyncio.all_tasks()


async def test_leaving_before_the_first_delta_closes_the_connection(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    upstream.play(faults.Cut(after_deltas=1, hang=True)).reply("one two")
    deltas = model._stream(ChatRequest.of("Count."))

    assert not (await anext(deltas)).text
    await deltas.aclose()

    await upstream.await_disconnect()


def test_a_sync_reader_who_leaves_closes_the_connection_too(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    upstream.play(faults.Slow(0.05)).reply("one two three")

    for _ in model.stream("Count."):
        break

    upstream.wait_for_disconnect()


async def test_a_stream_that_is_not_read_asks_nothing(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    async with model.astream("Hello!"):
        pass

    assert not upstream.requests


async def test_cancelling_the_reader_closes_the_connection(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    upstream.play(faults.Cut(after_deltas=1, hang=True)).reply("one two")
    began = asyncio.Event()

    async def read() -> None:
        async with model.astream("Count.") as stream:
            async for _ in stream:
                began.set()

    reader = asyncio.create_task(read())
    await began.wait()
    reader.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reader
    await upstream.await_disconnect()


async def test_the_timeout_is_that_of_the_whole_stream(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    await model.achat("warm up")
    upstream.play(faults.Cut(after_deltas=1, hang=True)).reply("one two")
    stream = model.astream("Count.", settings={"timeout": 2})

    with pytest.raises(errors.LLMTimeoutError, match="of 2 s") as caught:
        await stream.collect()

    assert ("one ", "openai") == (stream.text, caught.value.provider)
    await upstream.await_disconnect()


async def test_a_stream_within_its_timeout_is_read_to_its_end(upstream: Upstream) -> None:
    upstream.reply("one two")

    assert "one two" == (await model_of(upstream, timeout=60).astream("Count.").collect()).text


async def test_a_timeout_of_the_network_is_that(upstream: Upstream) -> None:
    upstream.play(faults.Cut(after_deltas=1, hang=True)).reply("one two")
    provider = OpenAIProvider(Transport(NetworkSettings(read_timeout=0.2)))
    model = provider.create_model("gpt-4o", {"base_url": upstream.openai_url, "timeout": 60})

    with pytest.raises(errors.LLMTimeoutError, match="did not answer in time"):
        await model.astream("Count.").collect()


SEEN: ContextVar[int] = ContextVar("seen", default=0)


async def test_no_context_variable_passes_between_reader_and_stream(
    upstream: Upstream, model: BaseLLMModel
) -> None:
    upstream.reply("one two three")
    seen: list[int] = []

    async with model.astream("Count.") as stream:
        async for _ in stream:
            assert noted() is not noted()  # nobody watches out here
            seen.append(SEEN.get())
            SEEN.set(seen[-1] + 1)

    assert [0, 1, 2] == seen
