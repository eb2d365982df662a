"""Google's Gemini API: generateContent, its stream, and embeddings."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kor_core.testing.replies import Reply, ToolCall
from kor_core.testing.wire.base import (
    FREE_JSON,
    Failure,
    Piece,
    Question,
    Tool,
    WireFormat,
    ident,
    required,
    rows,
    table,
    text_of,
    words,
)
from kor_core.testing.wire.openai_embeddings import vectors_of

__all__ = ["BatchEmbedContents", "EmbedContent", "GeminiFormat", "GenerateContent"]

_STATUSES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

_FINISHES: Final = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
}


class GeminiFormat(WireFormat):
    """What all of Gemini's endpoints share: the shape of an error.

    Source: https://cloud.google.com/apis/design/errors
    """

    def error(self, failure: Failure, number: int) -> dict[str, Any]:
        """Write ``{"error": {code, message, status}}``, with when to retry in the details."""
        del number
        error: dict[str, Any] = {
            "code": failure.status,
            "message": failure.words,
            "status": _STATUSES.get(failure.status, "UNKNOWN"),
        }
        if failure.retry_after is not None:
            kind = "type.googleapis.com/google.rpc.RetryInfo"
            error["details"] = [{"@type": kind, "retryDelay": f"{failure.retry_after:g}s"}]
        return {"error": error}

    def headers(self, number: int) -> list[tuple[str, str]]:
        """Return what Google's servers add; there is no id of the request among it."""
        del number
        return [("server", "scaffolding on HTTPServer2"), ("server-timing", "gfet4t7; dur=1")]


class GenerateContent(GeminiFormat):
    """``POST /v1beta/models/{model}:generateContent`` and ``:streamGenerateContent``.

    Source: https://ai.google.dev/api/generate-content
    """

    name = "gemini.generate"
    path = re.compile(r"/models/[^:]+:(generateContent|streamGenerateContent)$")
    content_key = "candidates"

    def question(self, path: str, query: Mapping[str, str], body: Mapping[str, Any]) -> Question:
        """Read the contents; model and streaming are in the path."""
        model, method = _named(path)
        contents = rows(required(body, "contents"))
        texts = [text_of(content.get("parts")) for content in contents]
        asked = [t for t, c in zip(texts, contents, strict=True) if c.get("role", "user") == "user"]
        system = table(body.get("system_instruction") or body.get("systemInstruction"))
        return Question(
            model=model,
            text=next((text for text in reversed(asked) if text), ""),
            stream=method == "streamGenerateContent",
            input_tokens=words(*texts, text_of(system.get("parts"))),
            schema=_schema(body),
            forced=_forced(body),
            body={**body, "alt": query.get("alt", "json")},
        )

    def whole(self, question: Question, reply: Reply, number: int) -> dict[str, Any]:
        """Write a ``GenerateContentResponse``."""
        parts = [{"text": reply.text}] if reply.text or not reply.tool_calls else []
        parts += [_function_call(call) for call in reply.tool_calls]
        return _response(question, number, parts, reply, _FINISHES[reply.finish_reason])

    def pieces(self, question: Question, reply: Reply, number: int) -> Iterator[Piece]:
        """Write one response a piece of text, then the calls and why it ended."""
        for text in reply.pieces:
            yield Piece(_response(question, number, [{"text": text}], reply), delta=True)
        for call in reply.tool_calls:
            parts = [_function_call(call)]
            yield Piece(_response(question, number, parts, reply), delta=True)
        finish = _FINISHES[reply.finish_reason]
        yield Piece(_response(question, number, [{"text": ""}], reply, finish))

    def stream_type(self, question: Question) -> str:
        """Return SSE where ``alt=sse`` asks for it, JSON otherwise."""
        return "text/event-stream" if question.body["alt"] == "sse" else "application/json"

    def encoded(self, piece: Piece, index: int, question: Question) -> bytes:
        """Return an SSE event, or the next element of one JSON array."""
        data = piece.data
        if question.body["alt"] == "sse":
            return f"data: {data}\r\n\r\n".encode()
        # The array is closed after the last element, the one that says why it ended.
        last = "finishReason" in data or "error" in table(piece.payload)
        return f"{',' if index else '['}{data}{']' if last else ''}\n".encode()


class EmbedContent(GeminiFormat):
    """``POST /v1beta/models/{model}:embedContent``.

    Source: https://ai.google.dev/api/embeddings
    """

    name = "gemini.embed"
    path = re.compile(r"/models/[^:]+:embedContent$")
    content_key = "embedding"
    makes = "embeddings"

    def question(self, path: str, query: Mapping[str, str], body: Mapping[str, Any]) -> Question:
        """Read the one text."""
        del query
        text = text_of(table(required(body, "content")).get("parts"))
        return Question(model=_named(path)[0], text=text, inputs=(text,), body=body)

    def whole(self, question: Question, reply: Reply, number: int) -> dict[str, Any]:
        """Write the one embedding."""
        del number
        return {"embedding": {"values": list(vectors_of(question, reply)[0])}}


class BatchEmbedContents(GeminiFormat):
    """``POST /v1beta/models/{model}:batchEmbedContents``.

    Source: https://ai.google.dev/api/embeddings
    """

    name = "gemini.batch_embed"
    path = re.compile(r"/models/[^:]+:batchEmbedContents$")
    content_key = "embeddings"
    makes = "embeddings"

    def question(self, path: str, query: Mapping[str, str], body: Mapping[str, Any]) -> Question:
        """Read the texts in order."""
        del query
        requests = rows(required(body, "requests"))
        inputs = tuple(text_of(table(item.get("content")).get("parts")) for item in requests)
        return Question(model=_named(path)[0], inputs=inputs, body=body)

    def whole(self, question: Question, reply: Reply, number: int) -> dict[str, Any]:
        """Write the embeddings in the order of the texts."""
        del number
        vectors = vectors_of(question, reply)
        return {"embeddings": [{"values": list(vector)} for vector in vectors]}


def _named(path: str) -> tuple[str, str]:
    model, _, method = path.rpartition("/models/")[2].partition(":")
    return model, method


def _response(
    question: Question,
    number: int,
    parts: list[dict[str, Any]],
    reply: Reply,
    finish: str | None = None,
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": _usage(question, reply),
        "modelVersion": question.model,
        "responseId": ident("", number),
    }


def _function_call(call: ToolCall) -> dict[str, Any]:
    return {"functionCall": {"name": call.name, "args": dict(call.as_object)}}


def _usage(question: Question, reply: Reply) -> dict[str, Any]:
    taken, given = reply.tokens(question.input_tokens)
    usage: dict[str, Any] = {
        "promptTokenCount": taken,
        "candidatesTokenCount": given - reply.reasoning_tokens,
        "totalTokenCount": taken + given,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": taken}],
    }
    if reply.cached_tokens:
        usage["cachedContentTokenCount"] = reply.cached_tokens
    if reply.reasoning_tokens:
        usage["thoughtsTokenCount"] = reply.reasoning_tokens
    return usage


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    config = table(body.get("generationConfig") or body.get("generation_config"))
    for name in ("responseJsonSchema", "responseSchema", "response_json_schema", "response_schema"):
        if config.get(name):
            return _lowered(table(config[name]))
    json = "application/json" in (config.get("responseMimeType"), config.get("response_mime_type"))
    return FREE_JSON if json else None


def _lowered(schema: Mapping[str, Any]) -> dict[str, Any]:
    # Gemini's own dialect writes the types in capitals.
    return {name: _lowered_value(name, value) for name, value in schema.items()}


def _lowered_value(name: str, value: Any) -> Any:
    if name == "type" and isinstance(value, str):
        return value.lower()
    if isinstance(value, Mapping):
        return _lowered(table(value))
    return [_lowered(row) for row in rows(value)] if name == "anyOf" else value


def _forced(body: Mapping[str, Any]) -> Tool | None:
    config = table(body.get("toolConfig") or body.get("tool_config"))
    calling = table(config.get("functionCallingConfig") or config.get("function_calling_config"))
    if calling.get("mode") != "ANY":
        return None
    allowed = calling.get("allowedFunctionNames") or calling.get("allowed_function_names")
    tools = [tool for row in rows(body.get("tools")) for tool in _declared(row)]
    return next((tool for tool in tools if not allowed or tool.name in allowed), None)


def _declared(row: Mapping[str, Any]) -> Iterator[Tool]:
    for each in rows(row.get("functionDeclarations") or row.get("function_declarations")):
        schema = each.get("parameters") or each.get("parametersJsonSchema")
        yield Tool(each.get("name", ""), _lowered(table(schema)))
