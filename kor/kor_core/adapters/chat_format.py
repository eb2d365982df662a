"""Writes messages and tools as OpenAI's chat completions want them, litellm's too."""

from collections.abc import Iterator, Sequence
from typing import Any

from kor_core.adapters.schemas import wire_schema
from kor_core.llm.messages import Image, Message, Text, ToolCall, ToolResult
from kor_core.llm.request import ChatRequest
from kor_core.llm.structured import Schema
from kor_core.llm.tools import Tool

__all__ = ["conversation", "question", "response_format", "tool_list"]

_Json = dict[str, Any]


def question(request: ChatRequest) -> _Json:
    """Return what a request asks, apart from its settings, as part of the body.

    >>> question(ChatRequest.of("Hello!"))
    {'messages': [{'role': 'user', 'content': 'Hello!'}]}
    """
    asked: _Json = {"messages": conversation(request.messages)}
    if request.tools:
        asked["tools"] = tool_list(request.tools)
    if request.schema is not None:
        asked["response_format"] = response_format(request.schema)
    return asked


def conversation(messages: Sequence[Message]) -> list[_Json]:
    """Return the messages; each result of a tool becomes a message of its own.

    Source: https://platform.openai.com/docs/api-reference/chat/create
    """
    return [written for message in messages for written in _messages(message)]


def _messages(message: Message) -> Iterator[_Json]:
    results = message.tool_results
    for result in results:
        yield _result(result)
    if not results or len(results) < len(message.parts):
        yield _said(message)


def _result(result: ToolResult) -> _Json:
    return {"role": "tool", "tool_call_id": result.id, "content": result.content}


def _said(message: Message) -> _Json:
    # A plain text wherever one will do: not every server takes parts.
    content = [*_parts(message)] if message.images else message.text
    written: _Json = {"role": message.role, "content": content}
    if message.tool_calls:
        written["content"] = content or None
        written["tool_calls"] = [_call(call) for call in message.tool_calls]
    return written


def _parts(message: Message) -> Iterator[_Json]:
    for part in message.parts:
        if isinstance(part, Text):
            yield {"type": "text", "text": part.text}
        elif isinstance(part, Image):
            yield {"type": "image_url", "image_url": _image(part)}


def _image(image: Image) -> _Json:
    detail = {"detail": image.detail} if image.detail else {}
    return {"url": image.as_url(), **detail}


def _call(call: ToolCall) -> _Json:
    function = {"name": call.name, "arguments": call.arguments_text}
    return {"id": call.id, "type": "function", "function": function}


def tool_list(tools: Sequence[Tool]) -> list[_Json]:
    """Return the tools as a request tells of them.

    >>> tool_list([Tool("now")])[0]["function"]
    {'name': 'now', 'parameters': {'type': 'object', 'properties': {}}}
    """
    return [{"type": "function", "function": _function(tool)} for tool in tools]


def _function(tool: Tool) -> _Json:
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "parameters": dict(tool.parameters)}


def response_format(schema: Schema) -> _Json:
    """Return the setting that holds the answer to a schema, strictly where that is possible."""
    return {"type": "json_schema", "json_schema": wire_schema(schema)}
