"""OpenAI's Responses API: what is asked, and the whole answer.

Source: https://platform.openai.com/docs/api-reference/responses
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from kor_core.adapters.attempt import SenselessAnswerError
from kor_core.adapters.completion import count_in, refuse_many, text_in, why_empty
from kor_core.adapters.schemas import wire_schema
from kor_core.llm.messages import Image, Message, Text, ToolCall
from kor_core.llm.request import ChatRequest
from kor_core.llm.response import LLMResponse, Usage
from kor_core.llm.streams import arguments_of
from kor_core.llm.tools import Tool
from kor_core.redaction import is_sequence, is_table

__all__ = [
    "finish_of",
    "input_of",
    "is_call",
    "question",
    "refuse_failed",
    "response_of",
    "tool_name",
    "usage_of",
]

_Json = dict[str, Any]


# --- asking ---------------------------------------------------------------------------------


def question(request: ChatRequest) -> _Json:
    """Return what a request asks, apart from its settings, as part of the body.

    >>> question(ChatRequest.of("Hello!"))
    {'input': [{'role': 'user', 'content': 'Hello!'}]}
    """
    asked: _Json = {"input": input_of(request.messages)}
    if request.tools:
        asked["tools"] = [_tool(tool) for tool in request.tools]
    if request.schema is not None:
        asked["text"] = {"format": {"type": "json_schema", **wire_schema(request.schema)}}
    return asked


def _tool(tool: Tool) -> _Json:
    described = {"description": tool.description} if tool.description else {}
    # Here, and not in chat completions, a schema is strict unless told otherwise.
    strictness = {"parameters": dict(tool.parameters), "strict": False}
    return {"type": "function", "name": tool.name, **described, **strictness}


def input_of(messages: Sequence[Message]) -> list[_Json]:
    """Return the messages; tool calls and results of tools are items of their own."""
    return [item for message in messages for item in _items(message)]


def _items(message: Message) -> Iterator[_Json]:
    for result in message.tool_results:
        yield {"type": "function_call_output", "call_id": result.id, "output": result.content}
    others = len(message.tool_results) + len(message.tool_calls)
    if not others or others < len(message.parts):
        content = [*_parts(message)] if message.images else message.text
        yield {"role": message.role, "content": content}
    for call in message.tool_calls:
        yield {
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments_text,
        }


def _parts(message: Message) -> Iterator[_Json]:
    for part in message.parts:
        if isinstance(part, Text):
            yield {"type": "input_text", "text": part.text}
        elif isinstance(part, Image):
            detail = part.detail or "auto"
            yield {"type": "input_image", "image_url": part.as_url(), "detail": detail}


# --- the answer -----------------------------------------------------------------------------


def response_of(answer: Mapping[str, Any]) -> LLMResponse:
    """Return the answer.

    Raises:
        SenselessAnswerError: there is none, or an error in its place; or the provider or the
            model declined, which its code says.
        InvalidToolCallError: the arguments of a tool call are no JSON object.
        ProviderError: the answer is empty.
    """
    refuse_failed(answer)
    items = answer.get("output")
    if not is_sequence(items):
        raise SenselessAnswerError("it holds no output")
    parts = [part for item in items for part in _content_of(item)]
    text = "".join(text_in(part, "text") for part in parts)
    calls = tuple(_calls_in(items))
    finish = finish_of(answer, called=bool(calls))
    if not text and not calls:
        raise why_empty(finish, "".join(text_in(part, "refusal") for part in parts))
    return LLMResponse(
        text,
        calls,
        usage_of(answer.get("usage")),
        finish_reason=finish,
        model_id=text_in(answer, "model") or None,
        raw=answer,
    )


def refuse_failed(answer: Mapping[str, Any]) -> None:
    """Refuse an answer that failed, or is not there yet.

    Raises:
        SenselessAnswerError: in the vendor's words.
    """
    if error := answer.get("error"):
        words = text_in(error, "message") or "it holds an error"
        raise SenselessAnswerError(words, code=text_in(error, "code"))
    status = text_in(answer, "status") or "completed"
    if status not in _OVER:
        raise SenselessAnswerError(f"it is not complete but {status}")


_OVER: Final = frozenset({"completed", "incomplete"})


def _content_of(item: object) -> list[Any] | tuple[Any, ...]:
    content = item.get("content") if is_table(item) and item.get("type") == "message" else None
    return content if is_sequence(content) else ()


def is_call(item: object) -> bool:
    """Say whether an item of the output is a tool call."""
    return is_table(item) and item.get("type") == "function_call"


def _calls_in(items: Sequence[Any]) -> Iterator[ToolCall]:
    for index, item in enumerate(filter(is_call, items)):
        refuse_many(index)
        yield _call(item)


def _call(item: object) -> ToolCall:
    name = tool_name(item)
    return ToolCall(text_in(item, "call_id"), name, arguments_of(name, text_in(item, "arguments")))


def tool_name(item: object) -> str:
    """Return the name of the tool that is called.

    Raises:
        SenselessAnswerError: it has none.
    """
    name = text_in(item, "name")
    if not name:
        raise SenselessAnswerError("its tool call names no function")
    return name


# What an answer was cut short by, in the words of chat completions.
_CUT: Final = {"max_output_tokens": "length"}


def finish_of(answer: Mapping[str, Any], *, called: bool) -> str:
    """Return why an answer ended, in the words of chat completions.

    >>> finish_of({"incomplete_details": {"reason": "max_output_tokens"}}, called=False)
    'length'
    """
    reason = text_in(answer.get("incomplete_details"), "reason")
    if reason:
        return _CUT.get(reason, reason)
    return "tool_calls" if called else "stop"


def usage_of(usage: object) -> Usage | None:
    """Return what a call took; None where the server does not say."""
    found = Usage(
        count_in(usage, "input_tokens"),
        count_in(usage, "output_tokens"),
        count_in(usage, "input_tokens_details", "cached_tokens"),
        count_in(usage, "output_tokens_details", "reasoning_tokens"),
    )
    return None if found == Usage() else found
