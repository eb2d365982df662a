"""OpenAI's Responses API."""

import re
import time
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from kor_core.testing.replies import Reply, ToolCall
from kor_core.testing.wire.base import (
    FREE_JSON,
    Failure,
    Piece,
    Question,
    Tool,
    ident,
    last_user_text,
    required,
    rows,
    table,
    text_of,
    words,
)
from kor_core.testing.wire.openai_chat import OpenAIFormat

__all__ = ["Responses"]


class Responses(OpenAIFormat):
    """``POST /v1/responses``.

    Source: https://platform.openai.com/docs/api-reference/responses
    """

    name = "openai.responses"
    path = re.compile(r"/responses$")
    content_key = "output"

    def question(self, path: str, query: Mapping[str, str], body: Mapping[str, Any]) -> Question:
        """Read the input, which is a text or a list of messages."""
        del path, query
        given = required(body, "input")
        messages = [{"role": "user", "content": given}] if isinstance(given, str) else rows(given)
        texts = [text_of(message.get("content")) for message in messages]
        return Question(
            model=required(body, "model"),
            text=last_user_text(list(messages)),
            stream=bool(body.get("stream")),
            input_tokens=words(*texts, text_of(body.get("instructions"))),
            schema=_schema(table(table(body.get("text")).get("format"))),
            forced=_forced(body),
            body=body,
        )

    def whole(self, question: Question, reply: Reply, number: int) -> dict[str, Any]:
        """Write a ``response`` that is over."""
        reason = _INCOMPLETE.get(reply.finish_reason)
        return {
            **_head(question, number),
            "status": "incomplete" if reason else "completed",
            "incomplete_details": {"reason": reason} if reason else None,
            "output": _output(reply, number),
            "usage": _usage(question, reply),
        }

    def pieces(self, question: Question, reply: Reply, number: int) -> Iterator[Piece]:
        """Write the events, each named and numbered."""
        steps = count()
        for name, fields, delta in self._events(question, reply, number):
            payload = {"type": name, "sequence_number": next(steps), **fields}
            yield Piece(payload, event=name, delta=delta)

    def _events(
        self, question: Question, reply: Reply, number: int
    ) -> Iterator[tuple[str, dict[str, Any], bool]]:
        begun: dict[str, Any] = {
            **_head(question, number),
            "status": "in_progress",
            "output": [],
            "usage": None,
        }
        yield "response.created", {"response": begun}, False
        yield "response.in_progress", {"response": begun}, False
        for index, item in enumerate(_output(reply, number)):
            place = {"output_index": index, "item_id": item["id"]}
            open_item = {**item, **_EMPTIED[item["type"]]}
            added = {"output_index": index, "item": open_item}
            yield "response.output_item.added", added, False
            yield from _EVENTS_OF[item["type"]](item, place, reply)
            yield "response.output_item.done", {"output_index": index, "item": item}, False
        whole = self.whole(question, reply, number)
        yield f"response.{whole['status']}", {"response": whole}, False

    def error_piece(self, failure: Failure, number: int) -> Piece:
        """Write the ``error`` event."""
        error = self.error(failure, number)["error"]
        payload = {"type": "error", **{n: error[n] for n in ("code", "message", "param")}}
        return Piece({**payload, "sequence_number": 0}, event="error")


_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}

_EMPTIED: dict[str, dict[str, Any]] = {
    "message": {"status": "in_progress", "content": []},
    "function_call": {"status": "in_progress", "arguments": ""},
}


def _head(question: Question, number: int) -> dict[str, Any]:
    asked = question.body
    return {
        "id": ident("resp_", number),
        "object": "response",
        "created_at": int(time.time()),
        "model": question.model,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "metadata": {},
        "parallel_tool_calls": True,
        "previous_response_id": asked.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": asked.get("store", True),
        "temperature": asked.get("temperature", 1.0),
        "text": asked.get("text", {"format": {"type": "text"}}),
        "tool_choice": asked.get("tool_choice", "auto"),
        "tools": asked.get("tools", []),
        "top_p": asked.get("top_p", 1.0),
        "truncation": "disabled",
        "user": None,
    }


def _output(reply: Reply, number: int) -> list[dict[str, Any]]:
    calls = [_call(call, number, index) for index, call in enumerate(reply.tool_calls)]
    return calls if calls and not reply.text else [_message(reply.text, number), *calls]


def _message(text: str, number: int) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {
        "id": ident("msg_", number),
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }


def _call(call: ToolCall, number: int, index: int) -> dict[str, Any]:
    return {
        "id": ident(f"fc_{index}", number),
        "type": "function_call",
        "status": "completed",
        "call_id": call.id or ident(f"call_{index}", number),
        "name": call.name,
        "arguments": call.as_text,
    }


def _message_events(
    item: dict[str, Any], place: dict[str, Any], reply: Reply
) -> Iterator[tuple[str, dict[str, Any], bool]]:
    part = item["content"][0]
    place = {**place, "content_index": 0}
    yield "response.content_part.added", {**place, "part": {**part, "text": ""}}, False
    for text in reply.pieces:
        yield "response.output_text.delta", {**place, "delta": text, "logprobs": []}, True
    yield "response.output_text.done", {**place, "text": part["text"], "logprobs": []}, False
    yield "response.content_part.done", {**place, "part": part}, False


def _call_events(
    item: dict[str, Any], place: dict[str, Any], _: Reply
) -> Iterator[tuple[str, dict[str, Any], bool]]:
    name = "response.function_call_arguments"
    text: str = item["arguments"]
    half = len(text) // 2
    for part in (text[:half], text[half:]):
        yield f"{name}.delta", {**place, "delta": part}, True
    yield f"{name}.done", {**place, "name": item["name"], "arguments": text}, False


_EVENTS_OF = {"message": _message_events, "function_call": _call_events}


def _usage(question: Question, reply: Reply) -> dict[str, Any]:
    taken, given = reply.tokens(question.input_tokens)
    return {
        "input_tokens": taken,
        "input_tokens_details": {
            "cached_tokens": reply.cached_tokens,
            "cache_write_tokens": 0,
        },
        "output_tokens": given,
        "output_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
        "total_tokens": taken + given,
    }


def _schema(text_format: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if text_format.get("type") == "json_object":
        return FREE_JSON
    return table(text_format["schema"]) if text_format.get("type") == "json_schema" else None


def _forced(body: Mapping[str, Any]) -> Tool | None:
    tools = [Tool(t.get("name", ""), table(t.get("parameters"))) for t in rows(body.get("tools"))]
    choice = body.get("tool_choice")
    if choice == "required":
        return next(iter(tools), None)
    wanted = table(choice).get("name")
    return next((tool for tool in tools if tool.name == wanted), None)
