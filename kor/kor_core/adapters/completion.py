"""Reads the text out of a chat completion, and trusts nothing in it."""

import json
from collections.abc import Mapping
from typing import Any

from kor_core.adapters.attempt import SenselessAnswerError
from kor_core.adapters.shapes import is_sequence, is_table
from kor_core.errors import ProviderError

__all__ = ["parsed", "text_of"]


def parsed(content: bytes) -> Mapping[str, Any]:
    """Return the JSON object in a body.

    Raises:
        SenselessAnswerError: it is a page for people, broken JSON, or no object.
    """
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        is_page = content.lstrip()[:1] == b"<"
        what = "an HTML page" if is_page else "no valid JSON" if content.strip() else "empty"
        raise SenselessAnswerError(f"the body is {what}") from None
    if not is_table(answer):
        raise SenselessAnswerError("the body is JSON, but no object")
    return answer


def text_of(answer: Mapping[str, Any]) -> str:
    """Return the text of the first choice.

    Raises:
        SenselessAnswerError: there is no choice, or an error in its place; or the provider
            or the model declined, which its code says.
        ProviderError: the answer is empty.
    """
    if answer.get("error"):
        raise SenselessAnswerError("it holds an error")
    choice = _first_choice(answer)
    message = choice.get("message")
    if not is_table(message):
        raise SenselessAnswerError("its choice holds no message")
    text = _joined(message.get("content"))
    if not text:
        raise _why_empty(choice.get("finish_reason"), message)
    return text


def _first_choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = answer.get("choices")
    first = choices[0] if is_sequence(choices) and choices else None
    if not is_table(first):
        raise SenselessAnswerError("it holds no choices")
    return first


def _joined(content: object) -> str:
    """Join the parts that some servers make of a text."""
    if isinstance(content, str):
        return content
    parts = content if is_sequence(content) else ()
    return "".join(
        part["text"] for part in parts if is_table(part) and isinstance(part.get("text"), str)
    )


def _why_empty(finish: object, message: Mapping[str, Any]) -> Exception:
    if message.get("refusal") or finish == "content_filter":
        refusal = message.get("refusal") or "its content filter stopped the answer"
        return SenselessAnswerError(str(refusal), code="content_filter")
    if finish == "length":
        return ProviderError(
            "The answer is empty: max_tokens was used up before the first word, perhaps by "
            "reasoning. Raise max_tokens."
        )
    if message.get("tool_calls"):
        return ProviderError("The answer holds tool calls and no text. Ask with achat() instead.")
    return ProviderError("The answer is empty. Try again.", retryable=True)
