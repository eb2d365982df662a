"""Reads Anthropic's messages, whole and streamed, and trusts nothing in them.

Source: https://docs.anthropic.com/en/api/messages and …/messages-streaming
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from kor_core.adapters.attempt import SenselessAnswerError
from kor_core.adapters.completion import (
    count_in,
    index_of,
    refuse_error,
    sum_in,
    text_in,
    why_empty,
)
from kor_core.llm.messages import ToolCall
from kor_core.llm.response import Delta, LLMResponse, ToolCallPiece, Usage
from kor_core.llm.streams import arguments_of
from kor_core.redaction import is_sequence, is_table

__all__ = ["MessageEvents", "response_of"]

_Json = Mapping[str, Any]

# Why an answer ended, in the words of chat completions.
_FINISHES: Final = {
    "end_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
}

_CACHES: Final = ("cache_read_input_tokens", "cache_creation_input_tokens")


def response_of(answer: _Json) -> LLMResponse:
    """Return the answer in a message.

    Raises:
        SenselessAnswerError: it holds an error, or makes no sense; or the model declined, which
            its code says.
        InvalidToolCallError: the arguments of a tool call are no JSON object.
        ProviderError: the answer is empty.
    """
    refuse_error(answer)
    blocks = answer.get("content")
    if not is_sequence(blocks):
        raise SenselessAnswerError("it holds no content")
    text = "".join(text_in(block, "text") for block in blocks if _is(block, "text"))
    calls = tuple(_call(block) for block in blocks if _is(block, "tool_use"))
    finish = _finish_of(answer)
    if not text and not calls:
        raise why_empty(finish, "")
    return LLMResponse(
        text,
        calls,
        _usage_of(answer.get("usage")),
        finish_reason=finish or None,
        model_id=text_in(answer, "model") or None,
        raw=answer,
    )


def _is(block: object, kind: str) -> bool:
    return text_in(block, "type") == kind


def _call(block: Any) -> ToolCall:
    name, given = _tool_name(block), block.get("input")
    arguments = dict(given) if is_table(given) else arguments_of(name, json.dumps(given))
    return ToolCall(text_in(block, "id"), name, arguments)


def _tool_name(block: object) -> str:
    name = text_in(block, "name")
    if not name:
        raise SenselessAnswerError("its tool call names no tool")
    return name


def _finish_of(table: object) -> str:
    reason = text_in(table, "stop_reason")
    return _FINISHES.get(reason, reason)


def _usage_of(usage: object) -> Usage | None:
    """Return what a call took; Anthropic counts what its cache took part in on its own."""
    fresh = count_in(usage, "input_tokens")
    cached = count_in(usage, _CACHES[0])
    whole = None if fresh is None else sum_in(usage, "input_tokens", *_CACHES)
    found = Usage(whole, count_in(usage, "output_tokens"), cached)
    return None if found == Usage() else found


class MessageEvents:
    """Makes deltas of the events of one answer.

    >>> events = MessageEvents()
    >>> delta = {"type": "text_delta", "text": "Hi"}
    >>> [each.text for each in events.deltas({"type": "content_block_delta", "delta": delta})]
    ['Hi']
    """

    def __init__(self) -> None:
        self._over = False
        self._said = False
        self._usage: dict[str, Any] = {}
        # Which call of the answer a block of its content is.
        self._calls: dict[int | None, int] = {}

    @property
    def is_over(self) -> bool:
        """Whether the last event was the last of the answer."""
        return self._over

    def deltas(self, event: _Json) -> Iterator[Delta]:
        """Give what an event brings.

        Raises:
            SenselessAnswerError: it holds an error, or makes no sense; or the model declined,
                which its code says.
            ProviderError: the answer ends, and is empty.
        """
        refuse_error(event)
        read = _READERS.get(text_in(event, "type"))
        if read is not None:
            yield from read(self, event)

    def start(self, event: _Json) -> Iterator[Delta]:
        """Give who answers."""
        message = event.get("message")
        self._count(message)
        yield Delta(model_id=text_in(message, "model") or None)

    def block(self, event: _Json) -> Iterator[Delta]:
        """Give the beginning of a text or of a tool call."""
        block = event.get("content_block")
        if _is(block, "tool_use"):
            self._said = True
            index = self._calls[index_of(event.get("index"))] = len(self._calls)
            piece = ToolCallPiece(index, text_in(block, "id"), _tool_name(block))
            yield Delta(tool_calls=(piece,))
        elif _is(block, "text"):
            yield from self._text(text_in(block, "text"))

    def piece(self, event: _Json) -> Iterator[Delta]:
        """Give a piece of a text or of the arguments of a tool call."""
        brought = event.get("delta")
        if _is(brought, "text_delta"):
            yield from self._text(text_in(brought, "text"))
        elif _is(brought, "input_json_delta"):
            yield from self._arguments(event.get("index"), text_in(brought, "partial_json"))

    def _text(self, text: str) -> Iterator[Delta]:
        if text:
            self._said = True
            yield Delta(text)

    def _arguments(self, block: object, text: str) -> Iterator[Delta]:
        # Anthropic's own tools, such as its search, have blocks of other kinds.
        index = self._calls.get(index_of(block))
        if index is not None:
            yield Delta(tool_calls=(ToolCallPiece(index, arguments=text),))

    def end(self, event: _Json) -> Iterator[Delta]:
        """Give why the answer ended, and what it took."""
        self._count(event)
        finish = _finish_of(event.get("delta"))
        if not finish:
            return
        if not self._said:
            raise why_empty(finish, "")
        yield Delta(finish_reason=finish, usage=_usage_of(self._usage))

    def stop(self, _event: _Json) -> Iterator[Delta]:
        """Note that nothing more comes."""
        self._over = True
        return iter(())

    def _count(self, table: object) -> None:
        usage = table.get("usage") if is_table(table) else None
        for name, value in usage.items() if is_table(usage) else ():
            if value is not None:
                self._usage[name] = value


# Events of other kinds, such as pings, bring nothing.
_READERS: Final[Mapping[str, Callable[[MessageEvents, _Json], Iterator[Delta]]]] = {
    "message_start": MessageEvents.start,
    "content_block_start": MessageEvents.block,
    "content_block_delta": MessageEvents.piece,
    "message_delta": MessageEvents.end,
    "message_stop": MessageEvents.stop,
}
