"""OpenAI chat completions, which most other vendors and local servers speak too."""

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from kor_core.testing.replies import Reply, ToolCall
from kor_core.testing.wire.base import (
    FREE_JSON,
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

__all__ = ["ChatCompletions", "OpenAIFormat"]


class OpenAIFormat(WireFormat):
    """What all of OpenAI's endpoints share: the headers and the shape of an error.

    Source: https://platform.openai.com/docs/guides/error-codes
    """

    def headers(self, number: int) -> list[tuple[str, str]]:
        """Return the headers that OpenAI sends with every answer."""
        return [
            ("x-request-id", ident("req_", number)),
            ("openai-processing-ms", "1"),
            ("openai-version", "2020-10-01"),
            ("x-ratelimit-limit-requests", "10000"),
            ("x-ratelimit-remaining-requests", "9999"),
        ]

    def error(self, failure: Failure, number: int) -> dict[str, Any]:
        """Write ``{"error": {message, type, param, code}}``."""
        del number
        kind = _TYPES.get(failure.status, "invalid_request_error")
        return {
            "error": {
                "message": failure.words,
                "type": failure.code if failure.code == "insufficient_quota" else kind,
                "param": None,
                "code": failure.code or _CODES.get(failure.status),
            }
        }


_TYPES = {
    429: "requests",
    500: "server_error",
    502: "server_error",
    503: "service_unavailable_error",
    504: "server_error",
    529: "server_error",
}
_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


class ChatCompletions(OpenAIFormat):
    """``POST /v1/chat/completions``.

    Source: https://platform.openai.com/docs/api-reference/chat
    """

    name = "openai.chat"
    path = re.compile(r"/chat/completions$")
    content_key = "choices"

    def question(self, path: str, query: Mapping[str, str], body: Mapping[str, Any]) -> Question:
        """Read the messages, the schema asked for and the tool forced."""
        del path, query
        messages = rows(required(body, "messages"))
        return Question(
            model=required(body, "model"),
            text=last_user_text(messages),
            stream=bool(body.get("stream")),
            input_tokens=words(*(text_of(message.get("content")) for message in messages)),
            schema=_schema(table(body.get("response_format"))),
            forced=_forced(body),
            body=body,
        )

    def whole(self, question: Question, reply: Reply, number: int) -> dict[str, Any]:
        """Write a ``chat.completion``."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if reply.tool_calls and not reply.text else reply.text,
            "refusal": None,
            "annotations": [],
        }
        if reply.tool_calls:
            message["tool_calls"] = [
                _tool_call(call, number, index) for index, call in enumerate(reply.tool_calls)
            ]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": reply.finish_reason,
        }
        return {
            **_head(question, number, "chat.completion"),
            "choices": [choice],
            "usage": _usage(question, reply),
        }

    def pieces(self, question: Question, reply: Reply, number: int) -> Iterator[Piece]:
        """Write the ``chat.completion.chunk`` events, with usage last where it is asked for."""
        head = _head(question, number, "chat.completion.chunk")
        counted = bool(table(question.body.get("stream_options")).get("include_usage"))
        null_usage: dict[str, Any] = {"usage": None} if counted else {}

        def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return {**head, "choices": [choice], **null_usage}

        yield Piece(chunk({"role": "assistant", "content": "", "refusal": None}))
        for text in reply.pieces:
            yield Piece(chunk({"content": text}), delta=True)
        for index, call in enumerate(reply.tool_calls):
            for part in _call_deltas(call, number, index):
                yield Piece(chunk({"tool_calls": [part]}), delta=True)
        yield Piece(chunk({}, reply.finish_reason))
        if counted:
            yield Piece({**head, "choices": [], "usage": _usage(question, reply)})
        yield Piece("[DONE]")


def _head(question: Question, number: int, kind: str) -> dict[str, Any]:
    return {
        "id": ident("chatcmpl-", number),
        "object": kind,
        "created": int(time.time()),
        "model": question.model,
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
    }


def _tool_call(call: ToolCall, number: int, index: int) -> dict[str, Any]:
    return {
        "id": call.id or ident(f"call_{index}", number),
        "type": "function",
        "function": {"name": call.name, "arguments": call.as_text},
    }


def _call_deltas(call: ToolCall, number: int, index: int) -> Iterator[dict[str, Any]]:
    # The name comes first, the arguments in pieces, as OpenAI sends them.
    whole = _tool_call(call, number, index)
    text: str = whole["function"]["arguments"]
    yield {"index": index, **whole, "function": {"name": call.name, "arguments": ""}}
    half = len(text) // 2
    for part in (text[:half], text[half:]):
        yield {"index": index, "function": {"arguments": part}}


def _usage(question: Question, reply: Reply) -> dict[str, Any]:
    taken, given = reply.tokens(question.input_tokens)
    return {
        "prompt_tokens": taken,
        "completion_tokens": given,
        "total_tokens": taken + given,
        "prompt_tokens_details": {
            "cached_tokens": reply.cached_tokens,
            "cache_write_tokens": 0,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": reply.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _schema(response_format: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if response_format.get("type") == "json_object":
        return FREE_JSON
    if response_format.get("type") == "json_schema":
        return table(table(response_format.get("json_schema")).get("schema"))
    return None


def _forced(body: Mapping[str, Any]) -> Tool | None:
    functions = [table(tool.get("function")) for tool in rows(body.get("tools"))]
    tools = [Tool(f.get("name", ""), table(f.get("parameters"))) for f in functions]
    choice = body.get("tool_choice")
    if choice == "required":
        return next(iter(tools), None)
    wanted = table(table(choice).get("function")).get("name")
    return next((tool for tool in tools if tool.name == wanted), None)
