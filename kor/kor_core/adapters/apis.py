"""The two ways to talk to OpenAI's models, as data: where, what is sent, how it is read."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from kor_core.adapters import chat_format, completion, responses
from kor_core.adapters.chunks import Chunks
from kor_core.adapters.response_events import ResponseEvents
from kor_core.adapters.schemas import unwrapped
from kor_core.adapters.streaming import EventReader
from kor_core.llm.request import ChatRequest
from kor_core.llm.response import LLMResponse
from kor_core.llm.structured import Schema
from kor_core.redaction import is_table

__all__ = ["APIS", "Api", "for_reasoning", "layered", "without_wrapping"]

_Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Api:
    """One way to talk to a model.

    Args:
        path: of the endpoint, after the base URL.
        question: writes what a request asks, apart from its settings.
        settings: writes settings, given by OpenAI's names of chat completions.
        response: reads a whole answer.
        reader: makes what reads the events of one stream.
        streaming: what asks for a stream.
    """

    path: str
    question: Callable[[ChatRequest], _Json]
    settings: Callable[[Mapping[str, Any]], _Json]
    response: Callable[[Mapping[str, Any]], LLMResponse]
    reader: Callable[[], EventReader]
    streaming: Mapping[str, Any]


# Without stream_options, OpenAI does not say what a stream took.
_COUNTED: Final = {"stream": True, "stream_options": {"include_usage": True}}

# Names of chat completions, in the words of the Responses API.
_RENAMED: Final = {
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
}
_WITHIN: Final = {"reasoning_effort": ("reasoning", "effort"), "verbosity": ("text", "verbosity")}


def _for_responses(settings: Mapping[str, Any]) -> _Json:
    written: _Json = {}
    for name, value in settings.items():
        outer, inner = _WITHIN.get(name, ("", ""))
        told = {outer: {inner: value}} if outer else {_RENAMED.get(name, name): value}
        written = layered(written, told)
    return written


def layered(below: Mapping[str, Any], above: Mapping[str, Any]) -> _Json:
    """Return one body over another; tables of one name are joined.

    >>> layered({"text": {"verbosity": "low"}, "seed": 1}, {"text": {"format": {}}, "seed": 2})
    {'text': {'verbosity': 'low', 'format': {}}, 'seed': 2}
    """
    both = {
        name: {**below[name], **value}
        for name, value in above.items()
        if is_table(value) and is_table(below.get(name))
    }
    return {**below, **above, **both}


APIS: Final[Mapping[str, Api]] = {
    "chat": Api(
        "/chat/completions",
        chat_format.question,
        dict,
        completion.response_of,
        Chunks,
        _COUNTED,
    ),
    "responses": Api(
        "/responses",
        responses.question,
        _for_responses,
        responses.response_of,
        ResponseEvents,
        {"stream": True},
    ),
}

# Families that refuse max_tokens in chat completions.
# Source: https://platform.openai.com/docs/guides/reasoning
_REASONING: Final = re.compile(r"(ft:)?(o\d|gpt-[5-9]|codex-)")


def for_reasoning(model_name: str, settings: Mapping[str, Any]) -> _Json:
    """Return settings by the names that the model's family takes.

    >>> for_reasoning("o3-mini", {"max_tokens": 5}), for_reasoning("gpt-4", {"max_tokens": 5})
    ({'max_completion_tokens': 5}, {'max_tokens': 5})
    """
    written = dict(settings)
    if "max_tokens" in written and _REASONING.match(model_name):
        written["max_completion_tokens"] = written.pop("max_tokens")
    return written


def without_wrapping(response: LLMResponse, schema: Schema | None) -> LLMResponse:
    """Return an answer without the object that was put around its schema, where one was."""
    if schema is None or (text := unwrapped(schema, response.text)) == response.text:
        return response
    return replace(response, text=text)
