"""Reads an answer in whichever vendor's format it comes, told by its shape.

litellm would read it too, but says "stop" where a stream was cut, counts tokens that the vendor
did not count, and loses refusals. So it writes requests only.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from kor_core.adapters import completion, litellm_anthropic, litellm_gemini, responses
from kor_core.adapters.chunks import Chunks
from kor_core.adapters.response_events import ResponseEvents
from kor_core.adapters.streaming import EventReader
from kor_core.llm.response import Delta, LLMResponse, ToolCallPiece

__all__ = ["AnyEvents", "response_of"]

_Json = Mapping[str, Any]

# The tool that litellm makes a vendor call that has tools and no mode for schemas.
_SCHEMAS_TOOL: Final = "json_tool_call"

_OF_GEMINI: Final = frozenset({"candidates", "promptFeedback", "usageMetadata"})


def response_of(answer: _Json) -> LLMResponse:
    """Return an answer.

    Raises:
        SenselessAnswerError: it holds an error, or makes no sense; or the provider or the model
            declined, which its code says.
        InvalidToolCallError: the arguments of a tool call are no JSON object.
        ProviderError: the answer is empty.

    >>> response_of({"type": "message", "content": [{"type": "text", "text": "Hi"}]}).text
    'Hi'
    """
    return _as_text(_reader_of(answer)(answer))


def _reader_of(answer: _Json) -> Callable[[_Json], LLMResponse]:
    if answer.get("type") == "message":
        return litellm_anthropic.response_of
    if _OF_GEMINI & answer.keys():
        return litellm_gemini.response_of
    if answer.get("object") == "response":
        return responses.response_of
    return completion.response_of


def _as_text(response: LLMResponse) -> LLMResponse:
    """Return an answer that came as the arguments of litellm's tool as the text that it is."""
    others = tuple(call for call in response.tool_calls if call.name != _SCHEMAS_TOOL)
    if len(others) == len(response.tool_calls):
        return response
    found = next(call for call in response.tool_calls if call.name == _SCHEMAS_TOOL)
    finish = response.finish_reason if others else "stop"
    return replace(response, text=found.arguments_text, tool_calls=others, finish_reason=finish)


class AnyEvents:
    """Makes deltas of the events of one answer, whose format its first event tells.

    >>> events = AnyEvents()
    >>> [delta.text for delta in events.deltas({"choices": [{"delta": {"content": "Hi"}}]})]
    ['Hi']
    """

    def __init__(self) -> None:
        self._reader: EventReader | None = None
        self._as_text: set[int] = set()
        self._calls = False

    @property
    def is_over(self) -> bool:
        """Whether the last event was the last of the answer."""
        return self._reader is not None and self._reader.is_over

    def deltas(self, event: _Json) -> Iterator[Delta]:
        """Give what an event brings.

        Raises:
            SenselessAnswerError: it holds an error, or makes no sense; or the provider or the
                model declined, which its code says.
            ProviderError: the answer ends, and is empty.
        """
        if self._reader is None:
            self._reader = _events_of(event)
        for delta in self._reader.deltas(event):
            yield self._read(delta)

    def _read(self, delta: Delta) -> Delta:
        """Give the arguments of litellm's tool as the text that they are."""
        self._as_text.update(p.index for p in delta.tool_calls if p.name == _SCHEMAS_TOOL)
        if not self._as_text:
            return delta
        others = tuple(p for p in delta.tool_calls if p.index not in self._as_text)
        self._calls = self._calls or bool(others)
        finish = delta.finish_reason and (delta.finish_reason if self._calls else "stop")
        return replace(
            delta,
            text=delta.text + self._text_in(delta.tool_calls),
            tool_calls=others,
            finish_reason=finish,
        )

    def _text_in(self, pieces: tuple[ToolCallPiece, ...]) -> str:
        return "".join(piece.arguments for piece in pieces if piece.index in self._as_text)


def _events_of(event: _Json) -> EventReader:
    kind = completion.text_in(event, "type")
    if kind.startswith("response."):
        return ResponseEvents()
    if kind:
        return litellm_anthropic.MessageEvents()
    return litellm_gemini.Contents() if _OF_GEMINI & event.keys() else Chunks()
