"""Streams: whole at the end, closed when left, never cut in silence; from async and sync code."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from kor_core.errors import (
    InvalidToolCallError,
    KorError,
    LLMConnectionError,
    LLMError,
    LLMTimeoutError,
    RateLimitError,
    StreamInterruptedError,
)
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.messages import ToolCall
from kor_core.llm.response import Attempt, Delta, LLMResponse, ToolCallPiece, Usage
from kor_core.llm.streams import ChatStream, arguments_of


class Streaming(BaseLLMModel):
    """Gives deltas, raises errors, and notes that it was closed."""

    capabilities = frozenset({"tools"})

    def __init__(self, *steps):
        super().__init__("streaming", {})
        self.steps = steps
        self.opened = self.closed = 0

    async def agenerate(self, prompt, **kwargs):
        raise NotImplementedError

    async def _stream(self, request):
        self.opened += 1
        try:
            for step in self.steps:
                if isinstance(step, BaseException):
                    raise step
                yield step
                await asyncio.sleep(0)
        finally:
            self.closed += 1


HELLO = (Delta("Hel"), Delta("lo"), Delta(finish_reason="stop", usage=Usage(1, 2)))


async def test_deltas_come_one_by_one_and_the_whole_at_the_end():
    steps = (Delta(model_id="m-1", request_id="r"), *HELLO)
    model = Streaming(*steps)

    async with model.astream("?") as stream:
        begun = model.opened
        texts = [delta.text async for delta in stream]

    assert (0, ["Hel", "lo"], 1) == (begun, texts, model.closed)
    assert (
        LLMResponse(
            "Hello", usage=Usage(1, 2), finish_reason="stop", model_id="m-1", request_id="r"
        )
        == stream.response
    )
    assert stream.response is await stream.collect()


async def test_before_the_end_there_is_a_text_so_far_and_no_response():
    async with Streaming(*HELLO).astream("?") as stream:
        await anext(stream)

        assert "Hel" == stream.text
        assert "<ChatStream open, 3 characters>" == repr(stream)
        with pytest.raises(KorError, match="not read to its end"):
            _ = stream.response

    assert "read" in repr(await ended(Streaming(*HELLO).astream("?")))


async def ended(stream):
    await stream.collect()
    return stream


async def test_leaving_early_closes_the_model():
    model = Streaming(*HELLO)

    async with model.astream("?") as stream:
        async for _ in stream:
            break

    assert 1 == model.closed


async def test_an_error_in_the_block_closes_the_model_and_is_raised():
    model = Streaming(*HELLO)

    async def broken():
        async with model.astream("?") as stream:
            await anext(stream)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await broken()

    assert 1 == model.closed


async def test_pieces_of_tool_calls_are_put_together_in_their_order():
    pieces = [
        (ToolCallPiece(1, "c2", "now", ""),),
        (ToolCallPiece(0, "c1", "add", '{"a":'), ToolCallPiece(1, arguments="{}")),
        (ToolCallPiece(0, arguments=" 1}"),),
    ]
    steps = [Delta(tool_calls=each) for each in pieces]

    response = await Streaming(*steps, Delta(finish_reason="tool_calls")).astream("?").collect()

    assert (ToolCall("c1", "add", {"a": 1}), ToolCall("c2", "now", {})) == response.tool_calls


@pytest.mark.parametrize("text", ["{", "[1]", "3", "[" * 100_000])
async def test_arguments_that_are_no_json_object_are_a_typed_error(text):
    piece = Delta(tool_calls=(ToolCallPiece(0, "c1", "add", text),))

    with pytest.raises(InvalidToolCallError, match="'add' with arguments") as caught:
        await Streaming(piece, Delta(finish_reason="tool_calls")).astream("?").collect()

    assert ("add", text, True) == (
        caught.value.tool,
        caught.value.arguments,
        caught.value.retryable,
    )
    with pytest.raises(InvalidToolCallError):
        arguments_of("add", text)


# --- cut ------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [HELLO[:2], HELLO[:1], ()])
async def test_a_stream_that_ends_without_saying_why_was_cut(steps):
    stream = Streaming(*steps).astream("?")

    with pytest.raises(StreamInterruptedError, match="ended without saying why") as caught:
        await stream.collect()

    assert "".join(step.text for step in steps) == caught.value.partial == stream.text
    assert caught.value.retryable
    assert None is caught.value.__context__ or caught.value.__suppress_context__


async def test_a_failure_after_the_first_delta_is_an_interruption_that_keeps_its_facts():
    failure = LLMConnectionError(
        "reset", provider="p", model="m", status=200, request_id="r", retry_after=2.0
    )
    failure.attempts = (Attempt("p:m", "failed", 0.1),)
    stream = Streaming(*HELLO[:2], failure).astream("?")

    with pytest.raises(StreamInterruptedError, match="interrupted: reset") as caught:
        await stream.collect()

    error = caught.value
    assert ("Hello", "p", "m", 200) == (error.partial, error.provider, error.model, error.status)
    assert ("r", 2.0, failure.attempts) == (error.request_id, error.retry_after, error.attempts)
    assert failure is error.__cause__


async def test_a_failure_before_the_first_delta_is_what_it_is():
    failure = RateLimitError("slow down")

    with pytest.raises(RateLimitError) as caught:
        await Streaming(Delta(model_id="m"), failure).astream("?").collect()

    assert failure is caught.value


@pytest.mark.parametrize(
    "failure",
    [LLMTimeoutError("late"), StreamInterruptedError("cut", partial="Hello")],
)
async def test_a_deadline_and_an_interruption_are_what_they_are(failure):
    with pytest.raises(type(failure)) as caught:
        await Streaming(*HELLO[:2], failure).astream("?").collect()

    assert failure is caught.value


async def test_a_stream_that_failed_never_looks_whole_afterwards():
    stream = Streaming(HELLO[0], LLMConnectionError("reset")).astream("?")
    with pytest.raises(StreamInterruptedError):
        await stream.collect()

    with pytest.raises(StreamInterruptedError):
        await stream.collect()
    with pytest.raises(KorError, match="not read to its end"):
        _ = stream.response


async def test_a_stream_that_was_left_never_looks_whole_afterwards():
    async with Streaming(*HELLO).astream("?") as stream:
        await anext(stream)

    with pytest.raises(StreamInterruptedError) as caught:
        await stream.collect()

    assert "Hel" == caught.value.partial


async def test_cancellation_passes_through_and_closes_the_model():
    model = Streaming(HELLO[0], asyncio.CancelledError())

    with pytest.raises(asyncio.CancelledError):
        await model.astream("?").collect()

    assert 1 == model.closed


async def test_the_call_may_finish_the_response():
    async def deltas():
        yield Delta("Hi", finish_reason="stop")

    stream = ChatStream(deltas(), lambda response: response.with_parsed(3))

    assert ("Hi", 3) == ((await stream.collect()).text, stream.response.parsed)


# --- from sync code ---------------------------------------------------------------------------


def read(model):
    return "".join(delta.text for delta in model.stream("?"))


def test_a_sync_stream_is_read_in_a_script():
    model = Streaming(*HELLO)

    assert ("Hello", 1) == (read(model), model.closed)


async def test_a_sync_stream_is_read_inside_a_running_loop():
    assert "Hello" == read(Streaming(*HELLO))


def test_sync_streams_are_read_in_threads_side_by_side():
    with ThreadPoolExecutor(8) as pool:
        texts = set(pool.map(lambda _: read(Streaming(*HELLO)), range(40)))

    assert {"Hello"} == texts


def test_a_sync_stream_left_early_closes_the_model():
    model = Streaming(*HELLO)

    for _ in model.stream("?"):
        break

    assert 1 == model.closed


def test_a_sync_stream_in_a_with_block_has_the_response_after_it():
    model = Streaming(*HELLO)

    with model.stream("?") as stream:
        texts = [delta.text for delta in stream]

    assert (["Hel", "lo"], "Hello", "Hello") == (texts, stream.text, stream.response.text)
    assert "<SyncStream read, 5 characters>" == repr(stream)
    assert "Hello" == Streaming(*HELLO).stream("?").collect().text


def test_a_sync_stream_that_is_cut_says_so():
    with pytest.raises(StreamInterruptedError) as caught:
        read(Streaming(*HELLO[:2]))

    assert "Hello" == caught.value.partial


def test_every_sync_twin_raises_what_its_async_twin_raises():
    with pytest.raises(LLMError, match="slow down"):
        Streaming(RateLimitError("slow down")).stream("?").collect()
