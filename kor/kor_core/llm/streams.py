"""Streamed answers: read piece by piece, whole at the end, and never cut in silence."""

import json
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from kor_core.errors import (
    InvalidToolCallError,
    KorError,
    LLMError,
    LLMTimeoutError,
    StreamInterruptedError,
)
from kor_core.llm.hiding import proper
from kor_core.llm.messages import ToolCall
from kor_core.llm.response import Delta, LLMResponse, ToolCallPiece, Usage
from kor_core.llm.runner import run
from kor_core.llm.surrogates import without_halves

__all__ = ["ChatStream", "StreamedAnswer", "SyncStream", "arguments_of"]


def arguments_of(tool: str, text: str) -> dict[str, Any]:
    """Return the arguments of a tool call from their JSON text; an empty text means none.

    Raises:
        InvalidToolCallError: it is no JSON object.

    >>> arguments_of("add", '{"a": 1}'), arguments_of("now", "")
    ({'a': 1}, {})
    """
    try:
        found = json.loads(without_halves(text) if "\\u" in text else text or "{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidToolCallError(
            f"The model called {_named(tool)} with arguments that are no JSON object. Ask again.",
            tool=tool,
            arguments=text,
        )
    return found  # pyright: ignore[reportUnknownVariableType]  # the keys of JSON objects are texts


def _named(tool: str) -> str:
    name = proper(tool)
    return "a tool of no proper name" if name is None else f"the tool '{name}'"


@dataclass(slots=True)
class _Call:
    """A tool call as far as it has come; its arguments are joined once, at the end."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])

    def add(self, piece: ToolCallPiece) -> None:
        self.id = self.id or piece.id
        self.name = self.name or piece.name
        self.arguments.append(piece.arguments)


@dataclass(slots=True)
class StreamedAnswer:
    """Puts the deltas of a stream together again."""

    finish_reason: str | None = None
    began: bool = False
    _texts: list[str] = field(default_factory=list[str])
    _calls: dict[int, _Call] = field(default_factory=dict[int, _Call])
    _usage: Usage | None = None
    _model_id: str | None = None
    _request_id: str | None = None
    _emulated: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._texts)

    def add(self, delta: Delta) -> None:
        """Take in the next delta; most have nothing but a text."""
        if delta.text:
            self.began = True
            self._texts.append(delta.text)
        for piece in delta.tool_calls:
            self.began = True
            self._calls.setdefault(piece.index, _Call()).add(piece)
        if delta.usage is not None:
            self._usage = delta.usage
        if delta.model_id is not None:
            self._model_id = delta.model_id
        if delta.request_id is not None:
            self._request_id = delta.request_id
        if delta.emulated:
            self._emulated |= delta.emulated
        if delta.finish_reason:
            self.finish_reason = delta.finish_reason

    def response(self) -> LLMResponse:
        """Return the answer that the deltas make.

        Raises:
            InvalidToolCallError: the arguments of a tool call are no JSON object.
        """
        calls = tuple(
            ToolCall(call.id, call.name, arguments_of(call.name, "".join(call.arguments)))
            for _, call in sorted(self._calls.items())
        )
        return LLMResponse(
            self.text,
            calls,
            self._usage,
            finish_reason=self.finish_reason,
            model_id=self._model_id,
            request_id=self._request_id,
            emulated=self._emulated,
        )


class ChatStream:
    """An answer on its way: an async context manager and an iterator of deltas.

    Leaving the block early closes the connection, so that nothing more is generated. Reading
    to the end gives :attr:`response`, with usage where the provider tells it.

    Args:
        deltas: what the model sends; one of them holds the ``finish_reason``.
        finish: makes the response of the call from that of the model.

    >>> import asyncio
    >>> from kor_core.llm.echo import EchoModel
    >>> async def main() -> None:
    ...     async with EchoModel("any", {}).astream("Hello!") as stream:
    ...         async for delta in stream:
    ...             print(delta.text)
    ...     print(sorted(stream.response.emulated))
    >>> asyncio.run(main())
    Echo: Hello!
    ['stream']
    """

    def __init__(
        self,
        deltas: AsyncGenerator[Delta],
        finish: Callable[[LLMResponse], LLMResponse] = lambda response: response,
    ) -> None:
        self._deltas = deltas
        self._finish = finish
        self._answer = StreamedAnswer()
        self._response: LLMResponse | None = None

    @property
    def text(self) -> str:
        """The text so far."""
        return self._answer.text

    @property
    def response(self) -> LLMResponse:
        """The whole answer, once the stream was read to its end.

        Raises:
            KorError: it was not.
        """
        if self._response is None:
            raise KorError(
                "The stream was not read to its end, so there is no response yet. Read on, or "
                "take `text`, which is what came so far."
            )
        return self._response

    async def collect(self) -> LLMResponse:
        """Read what is left and return the whole answer."""
        async with self:
            async for _ in self:
                pass
        return self.response

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        """Return the next delta that has a text or a piece of a tool call.

        Raises:
            StreamInterruptedError: the stream was cut; ``partial`` is the text so far.
            LLMError: the call failed before the first delta.
        """
        try:
            while True:
                delta = await anext(self._deltas)
                self._answer.add(delta)
                if delta.text or delta.tool_calls:
                    return delta
        except StopAsyncIteration:
            self._end()
            raise
        except (StreamInterruptedError, LLMTimeoutError, InvalidToolCallError):
            raise
        except LLMError as error:
            if not self._answer.began:
                raise
            failure = error
        raise self._interrupted(str(failure.args[0]), failure) from failure

    def _end(self) -> None:
        if self._response is not None:
            return
        if self._answer.finish_reason is None:
            raise self._interrupted("It ended without saying why.") from None
        self._response = self._finish(self._answer.response())

    def _interrupted(self, why: str, error: LLMError | None = None) -> StreamInterruptedError:
        facts = ("provider", "model", "status", "request_id", "retry_after")
        interrupted = StreamInterruptedError(
            f"The stream was interrupted: {why} `partial` holds the text so far; ask again for "
            "the whole.",
            partial=self._answer.text,
            **({name: getattr(error, name) for name in facts} if error else {}),
        )
        interrupted.attempts = error.attempts if error else ()
        return interrupted

    async def aclose(self) -> None:
        """End the stream, and the connection with it."""
        await self._deltas.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        state = "read" if self._response is not None else "open"
        return f"<ChatStream {state}, {len(self._answer.text)} characters>"


class SyncStream:
    """The same from sync code; iterable with and without ``with``.

    >>> from kor_core.llm.echo import EchoModel
    >>> "".join(delta.text for delta in EchoModel("any", {}).stream("Hello!"))
    'Echo: Hello!'
    """

    def __init__(self, stream: ChatStream) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        """The text so far."""
        return self._stream.text

    @property
    def response(self) -> LLMResponse:
        """The whole answer, once the stream was read to its end."""
        return self._stream.response

    def collect(self) -> LLMResponse:
        """Read what is left and return the whole answer."""
        return run(self._stream.collect())

    def __iter__(self) -> Iterator[Delta]:
        try:
            while True:
                delta = run(self._next())
                if delta is None:
                    return
                yield delta
        finally:  # a loop that is left early closes the connection too
            self.close()

    async def _next(self) -> Delta | None:
        # A StopAsyncIteration cannot travel through a future.
        with suppress(StopAsyncIteration):
            return await anext(self._stream)
        return None

    def close(self) -> None:
        """End the stream, and the connection with it."""
        run(self._stream.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Sync{repr(self._stream)[5:]}"
