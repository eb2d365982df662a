"""Ollama's own API: chat, generate, embed, and what clients ask about its models."""

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from kor_core.testing.replies import Reply, ToolCall
from kor_core.testing.wire.base import (
    FREE_JSON,
    Failure,
    Piece,
    Question,
    WireFormat,
    last_user_text,
    required,
    rows,
    table,
    text_of,
    words,
)
from kor_core.testing.wire.openai_embeddings import vectors_of

__all__ = ["Chat", "Embed", "Generate", "OllamaFormat", "Show"]


class OllamaFormat(WireFormat):
    """What all of Ollama's endpoints share: plain errors, streams of JSON lines.

    Source: https://github.com/ollama/ollama/blob/main/docs/api.md
    """

    def error(self, failure: Failure, number: int) -> dict[str, Any]:
        """Write ``{"error": message}``."""
        del number
        return {"error": failure.words}

    def headers(self, number: int) -> list[tuple[str, str]]:
        """Return none: Ollama names no request."""
        del number
        return []

    def stream_type(self, question: Question) -> str:
        """Return JSON lines."""
        del question
        return "application/x-ndjson"

    def encoded(self, piece: Piece, index: int, question: Question) -> bytes:
        """Return one line."""
        del index, question
        return f"{piece.data}\n".encode()


class _Talking(OllamaFormat):
    """Chat and generate, which differ in where the text stands."""

    @abstractmethod
    def held(self, text: str, calls: tuple[ToolCall, ...] = ()) -> dict[str, Any]:
        """Return the field that holds the text."""

    def whole(self, question: Question, reply: Reply, number: int) -> dict[str, Any]:
        """Write the answer with its statistics."""
        del number
        held = self.held(reply.text, reply.tool_calls)
        return {**_head(question), **held, **_statistics(question, reply)}

    def pieces(self, question: Question, reply: Reply, number: int) -> Iterator[Piece]:
        """Write a line for each piece, then one with the statistics."""
        del number
        for text in reply.pieces:
            yield Piece({**_head(question), **self.held(text), "done": False}, delta=True)
        if reply.tool_calls:
            held = self.held("", reply.tool_calls)
            yield Piece({**_head(question), **held, "done": False}, delta=True)
        yield Piece({**_head(question), **self.held(""), **_statistics(question, reply)})


class Chat(_Talking):
    """``POST /api/chat``, which streams unless told not to."""

    name = "ollama.chat"
    path = re.compile(r"/api/chat$")
    content_key = "message"

    def question(self, path: str, query: Mapping[str, str], body: Mapping[str, Any]) -> Question:
        """Read the messages and the schema asked for."""
        del path, query
        messages = rows(required(body, "messages"))
        return Question(
            model=required(body, "model"),
            text=last_user_text(messages),
            stream=body.get("stream", True),
            input_tokens=words(*(text_of(message.get("content")) for message in messages)),
            schema=_schema(body),
            body=body,
        )

    def held(self, text: str, calls: tuple[ToolCall, ...] = ()) -> dict[str, Any]:
        """Return the message."""
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if calls:
            message["tool_calls"] = [_call(call) for call in calls]
        return {"message": message}


class Generate(_Talking):
    """``POST /api/generate``, which streams unless told not to."""

    name = "ollama.generate"
    path = re.compile(r"/api/generate$")
    content_key = "response"

    def question(self, path: str, query: Mapping[str, str], body: Mapping[str, Any]) -> Question:
        """Read the prompt and the schema asked for."""
        del path, query
        prompt = text_of(body.get("prompt"))
        return Question(
            model=required(body, "model"),
            text=prompt,
            stream=body.get("stream", True),
            input_tokens=words(prompt, text_of(body.get("system"))),
            schema=_schema(body),
            body=body,
        )

    def held(self, text: str, calls: tuple[ToolCall, ...] = ()) -> dict[str, Any]:
        """Return the response; this endpoint calls no tools."""
        del calls
        return {"response": text}


class Embed(OllamaFormat):
    """``POST /api/embed``."""

    name = "ollama.embed"
    path = re.compile(r"/api/embed$")
    content_key = "embeddings"
    makes = "embeddings"

    def question(self, path: str, query: Mapping[str, str], body: Mapping[str, Any]) -> Question:
        """Read one text or several."""
        del path, query
        given = required(body, "input")
        inputs = (given,) if isinstance(given, str) else tuple(map(str, given))
        return Question(required(body, "model"), "", inputs=inputs, body=body)

    def whole(self, question: Question, reply: Reply, number: int) -> dict[str, Any]:
        """Write the embeddings in the order of the texts."""
        del number
        return {
            "model": question.model,
            "embeddings": [list(vector) for vector in vectors_of(question, reply)],
            "total_duration": 1_000_000,
            "load_duration": 1_000,
            "prompt_eval_count": words(*question.inputs),
        }


class Show(OllamaFormat):
    """``POST /api/show``, which litellm asks before it offers tools."""

    name = "ollama.show"
    path = re.compile(r"/api/show$")
    content_key = "details"
    makes = "other"

    def question(self, path: str, query: Mapping[str, str], body: Mapping[str, Any]) -> Question:
        """Read the model's name."""
        del path, query
        return Question(str(body.get("model") or body.get("name") or ""), body=body)

    def whole(self, question: Question, reply: Reply, number: int) -> dict[str, Any]:
        """Write what a model with tools shows."""
        del question, reply, number
        return {
            "template": "{{ .System }} {{ .Prompt }} {{ .Tools }}",
            "details": {"format": "gguf", "family": "llama"},
            "model_info": {"general.architecture": "llama", "llama.context_length": 8192},
            "capabilities": ["completion", "tools"],
        }


def _head(question: Question) -> dict[str, Any]:
    return {"model": question.model, "created_at": "2025-01-01T00:00:00.000000Z"}


def _statistics(question: Question, reply: Reply) -> dict[str, Any]:
    taken, given = reply.tokens(question.input_tokens)
    return {
        "done": True,
        "done_reason": "length" if reply.finish_reason == "length" else "stop",
        "total_duration": 1_000_000,
        "load_duration": 1_000,
        "prompt_eval_count": taken,
        "prompt_eval_duration": 1_000,
        "eval_count": given,
        "eval_duration": 1_000,
    }


def _call(call: ToolCall) -> dict[str, Any]:
    return {"function": {"name": call.name, "arguments": dict(call.as_object)}}


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if body.get("format") == "json":
        return FREE_JSON
    return table(body.get("format")) or None
