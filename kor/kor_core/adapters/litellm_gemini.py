"""Reads what Gemini generates, whole and streamed, and trusts nothing in it.

Source: https://ai.google.dev/api/generate-content
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kor_core.adapters.attempt import SenselessAnswerError
from kor_core.adapters.completion import count_in, refuse_error, sum_in, text_in, why_empty
from kor_core.llm.messages import ToolCall
from kor_core.llm.response import Delta, LLMResponse, ToolCallPiece, Usage
from kor_core.llm.streams import arguments_of
from kor_core.redaction import is_sequence, is_table

__all__ = ["Contents", "response_of"]

_Json = Mapping[str, Any]

# Why an answer ended, in the words of chat completions.
_FINISHES: Final = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(
        (
            "BLOCKLIST",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_SAFETY",
            "PROHIBITED_CONTENT",
            "RECITATION",
            "SAFETY",
            "SPII",
        ),
        "content_filter",
    ),
}

# Gemini wants its signature of a call back with the call. There is no place for it in a
# conversation; litellm takes it from the end of the call's id, after this.
_SIGNED: Final = "__thought__"


def response_of(answer: _Json) -> LLMResponse:
    """Return the answer in the first candidate.

    Raises:
        SenselessAnswerError: it holds an error, or makes no sense; or the prompt or the answer
            was blocked, which its code says.
        InvalidToolCallError: the arguments of a tool call are no JSON object.
        ProviderError: the answer is empty.
    """
    candidate = _candidate_in(answer)
    if candidate is None:
        raise SenselessAnswerError("it holds no candidates")
    parts = _parts_of(candidate)
    text = "".join(map(_text_of, parts))
    calls = tuple(_call(index, call) for index, call in enumerate(_calls_in(parts)))
    finish = _finish_of(candidate, called=bool(calls))
    if not text and not calls:
        raise _why_empty(finish)
    return LLMResponse(
        text,
        calls,
        _usage_of(answer.get("usageMetadata")),
        finish_reason=finish or None,
        model_id=text_in(answer, "modelVersion") or None,
        request_id=text_in(answer, "responseId") or None,
        raw=answer,
    )


def _candidate_in(answer: _Json) -> _Json | None:
    refuse_error(answer)
    if reason := text_in(answer.get("promptFeedback"), "blockReason"):
        raise SenselessAnswerError(f"the prompt was blocked: {reason}", code="content_filter")
    candidates = answer.get("candidates")
    first = candidates[0] if is_sequence(candidates) and candidates else None
    return first if is_table(first) else None


def _parts_of(candidate: _Json) -> list[_Json]:
    """Return the parts of an answer, without those that are the model's thoughts."""
    content = candidate.get("content")
    parts = content.get("parts") if is_table(content) else None
    found = parts if is_sequence(parts) else ()
    return [part for part in found if is_table(part) and not part.get("thought")]


def _text_of(part: _Json) -> str:
    return text_in(part, "text")


def _calls_in(parts: list[_Json]) -> Iterator[_Json]:
    """Give the parts that are tool calls."""
    for part in parts:
        if is_table(call := part.get("functionCall")):
            if not text_in(call, "name"):
                raise SenselessAnswerError("its tool call names no function")
            yield part


def _call(index: int, part: _Json) -> ToolCall:
    name, given = text_in(part["functionCall"], "name"), part["functionCall"].get("args", {})
    arguments = dict(given) if is_table(given) else arguments_of(name, json.dumps(given))
    return ToolCall(_ident(index, part), name, arguments)


def _ident(index: int, part: _Json) -> str:
    ident = text_in(part["functionCall"], "id") or f"call_{index}"
    signature = text_in(part, "thoughtSignature")
    return f"{ident}{_SIGNED}{signature}" if signature else ident


def _finish_of(candidate: _Json, *, called: bool) -> str:
    reason = text_in(candidate, "finishReason")
    finish = _FINISHES.get(reason, reason.lower())
    return "tool_calls" if called and finish == "stop" else finish


def _why_empty(finish: str) -> Exception:
    if finish in {"", "stop", "length", "content_filter"}:
        return why_empty(finish, "")
    return SenselessAnswerError(f"it is empty, because of {finish}")


def _usage_of(usage: object) -> Usage | None:
    """Return what a call took; Gemini counts the thoughts beside the answer."""
    found = Usage(
        count_in(usage, "promptTokenCount"),
        sum_in(usage, "candidatesTokenCount", "thoughtsTokenCount"),
        count_in(usage, "cachedContentTokenCount"),
        count_in(usage, "thoughtsTokenCount"),
    )
    return None if found == Usage() else found


class Contents:
    """Makes deltas of the events of one answer.

    >>> part = {"content": {"parts": [{"text": "Hi"}]}}
    >>> [delta.text for delta in Contents().deltas({"candidates": [part]})]
    ['Hi']
    """

    def __init__(self) -> None:
        self._said = False
        self._calls = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes: Gemini's streams have no last word."""
        return False

    def deltas(self, event: _Json) -> Iterator[Delta]:
        """Give what an event brings.

        Raises:
            SenselessAnswerError: it holds an error, or makes no sense; or the prompt or the
                answer was blocked, which its code says.
            ProviderError: the answer ends, and is empty.
        """
        candidate = _candidate_in(event)
        about = Delta(
            usage=_usage_of(event.get("usageMetadata")),
            model_id=text_in(event, "modelVersion") or None,
            request_id=text_in(event, "responseId") or None,
        )
        if about != Delta():
            yield about
        if candidate is not None:
            yield from self._of(candidate)

    def _of(self, candidate: _Json) -> Iterator[Delta]:
        parts = _parts_of(candidate)
        text = "".join(map(_text_of, parts))
        pieces = tuple(map(self._piece, _calls_in(parts)))
        self._said = self._said or bool(text or pieces)
        finish = _finish_of(candidate, called=bool(self._calls))
        if finish and not self._said:
            raise _why_empty(finish)
        if text or pieces or finish:
            yield Delta(text, pieces, finish or None)

    def _piece(self, part: _Json) -> ToolCallPiece:
        """Return a whole call: Gemini does not send them in pieces."""
        index, self._calls = self._calls, self._calls + 1
        call = part["functionCall"]
        arguments = json.dumps(call.get("args", {}), ensure_ascii=False)
        return ToolCallPiece(index, _ident(index, part), text_in(call, "name"), arguments)
