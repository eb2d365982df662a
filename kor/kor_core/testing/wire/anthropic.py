"""Anthropic messages."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kor_core.testing.replies import Reply, ToolCall, dumped
from kor_core.testing.wire.base import (
    Failure,
    Piece,
    Question,
    Tool,
    WireFormat,
    ident,
    last_user_text,
    required,
    rows,
    table,
    text_of,
    words,
)

__all__ = ["Messages"]

_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}

_STOPS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


class Messages(WireFormat):
    """``POST /v1/messages``.

    Source: https://docs.anthropic.com/en/api/messages, …/messages-streaming and …/errors
    """

    name = "anthropic.messages"
    path = re.compile(r"/messages$")
    content_key = "content"

    def question(self, path: str, query: Mapping[str, str], body: Mapping[str, Any]) -> Question:
        """Read the messages and the tool forced; ``max_tokens`` is required here."""
        del path, query
        required(body, "max_tokens")
        messages = rows(required(body, "messages"))
        texts = [text_of(message.get("content")) for message in messages]
        return Question(
            model=required(body, "model"),
            text=last_user_text(messages),
            stream=bool(body.get("stream")),
            input_tokens=words(*texts, text_of(body.get("system"))),
            schema=_schema(body),
            forced=_forced(body),
            body=body,
        )

    def whole(self, question: Question, reply: Reply, number: int) -> dict[str, Any]:
        """Write a ``message``."""
        return {
            "id": ident("msg_", number),
            "type": "message",
            "role": "assistant",
            "model": question.model,
            "content": _blocks(reply, number),
            "stop_reason": _STOPS[reply.finish_reason],
            "stop_sequence": None,
            "usage": _usage(question, reply),
        }

    def pieces(self, question: Question, reply: Reply, number: int) -> Iterator[Piece]:
        """Write ``message_start``, the content blocks, ``message_delta`` and ``message_stop``."""
        whole = self.whole(question, reply, number)
        begun: dict[str, Any] = {
            **whole,
            "content": [],
            "stop_reason": None,
            "usage": {**whole["usage"], "output_tokens": 1},
        }
        yield _event("message_start", message=begun)
        yield _event("ping")
        for index, block in enumerate(whole["content"]):
            yield _event("content_block_start", index=index, content_block=_emptied(block))
            for delta in _deltas(block, reply):
                yield _event("content_block_delta", delta=True, index=index, fields=delta)
            yield _event("content_block_stop", index=index)
        stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        yield _event("message_delta", fields=stop, usage=whole["usage"])
        yield _event("message_stop")

    def error(self, failure: Failure, number: int) -> dict[str, Any]:
        """Write ``{"type": "error", "error": {type, message}}``."""
        kind = failure.code or _TYPES.get(failure.status, "api_error")
        return {
            "type": "error",
            "error": {"type": kind, "message": failure.words},
            "request_id": ident("req_", number),
        }

    def error_piece(self, failure: Failure, number: int) -> Piece:
        """Write the ``error`` event."""
        return Piece(self.error(failure, number), event="error")

    def headers(self, number: int) -> list[tuple[str, str]]:
        """Return the headers that Anthropic sends with every answer."""
        return [
            ("request-id", ident("req_", number)),
            ("anthropic-organization-id", "00000000-0000-0000-0000-000000000000"),
        ]


def _event(
    name: str, *, delta: bool = False, fields: dict[str, Any] | None = None, **more: Any
) -> Piece:
    # `fields` travels under the key `delta`, as Anthropic calls it in two events.
    payload = {"type": name, **more} | ({"delta": fields} if fields is not None else {})
    return Piece(payload, event=name, delta=delta)


def _blocks(reply: Reply, number: int) -> list[dict[str, Any]]:
    text = [{"type": "text", "text": reply.text}] if reply.text else []
    calls = [_tool_use(call, number, index) for index, call in enumerate(reply.tool_calls)]
    return [*text, *calls]


def _tool_use(call: ToolCall, number: int, index: int) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": call.id or ident(f"toolu_{index}", number),
        "name": call.name,
        "input": dict(call.as_object),
    }


def _emptied(block: dict[str, Any]) -> dict[str, Any]:
    return {**block, "text": ""} if block["type"] == "text" else {**block, "input": {}}


def _deltas(block: dict[str, Any], reply: Reply) -> Iterator[dict[str, Any]]:
    if block["type"] == "text":
        yield from ({"type": "text_delta", "text": text} for text in reply.pieces)
        return
    text = dumped(block["input"])
    half = len(text) // 2
    for part in (text[:half], text[half:]):
        yield {"type": "input_json_delta", "partial_json": part}


def _usage(question: Question, reply: Reply) -> dict[str, Any]:
    taken, given = reply.tokens(question.input_tokens)
    return {
        "input_tokens": taken - reply.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": reply.cached_tokens,
        "output_tokens": given,
        "service_tier": "standard",
    }


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    output = table(body.get("output_format")) or table(
        table(body.get("output_config")).get("format")
    )
    return table(output["schema"]) if output.get("type") == "json_schema" else None


def _forced(body: Mapping[str, Any]) -> Tool | None:
    tools = [Tool(t.get("name", ""), table(t.get("input_schema"))) for t in rows(body.get("tools"))]
    choice = table(body.get("tool_choice"))
    if choice.get("type") == "any":
        return next(iter(tools), None)
    return next((tool for tool in tools if tool.name == choice.get("name")), None)
