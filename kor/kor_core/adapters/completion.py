"""Reads a chat completion, OpenAI's or litellm's, and trusts nothing in it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kor_core.adapters.attempt import SenselessAnswerError
from kor_core.errors import ProviderError
from kor_core.llm.messages import ToolCall
from kor_core.llm.response import LLMResponse, Usage
from kor_core.llm.streams import arguments_of
from kor_core.llm.surrogates import without_halves
from kor_core.redaction import is_sequence, is_table

__all__ = [
    "LARGEST_ANSWER",
    "LARGEST_VECTORS",
    "count_in",
    "index_of",
    "joined",
    "no_text",
    "parsed",
    "refuse_error",
    "refuse_many",
    "response_of",
    "sum_in",
    "text_in",
    "usage_of",
    "why_empty",
]


# No answer takes more: a number above it is a server's mistake, or a lie.
_MOST_TOKENS: Final = 1_000_000_000


LARGEST_VECTORS: Final = 64 << 20
LARGEST_ANSWER: Final = 8 << 20

# What is parsed is parsed at once, and nothing else runs meanwhile. An answer of 10,000 tokens
# with their alternatives fits, and so does one of 2,048 vectors of 3,072 numbers; some seconds'
# worth of empty lists or of escapes do not. Counting takes a millisecond.
_COUNTED_FROM: Final = 1 << 18
_MOST_PARTS: Final = {b"[": 1 << 17, b"{": 1 << 17, b",": 1 << 20, b"\\": 1 << 19}
_MOST_PARTS_OF_VECTORS: Final = {b"[": 1 << 17, b"{": 1 << 17, b",": 8 << 20, b"\\": 1 << 19}

_MOST_CALLS: Final = 4096


def parsed(content: bytes, largest: int = LARGEST_ANSWER) -> Mapping[str, Any]:
    """Return the JSON object in a body.

    Args:
        content: the body.
        largest: how many bytes it may have.

    Raises:
        SenselessAnswerError: it is a page for people, broken JSON, no object, or too large.
    """
    if len(content) >= _COUNTED_FROM:
        _refuse_large(content, largest)
    try:
        answer = json.loads(_text_of(content) if _may_hold_halves(content) else content)
    except (ValueError, RecursionError):
        is_page = content.lstrip()[:1] == b"<"
        what = "an HTML page" if is_page else "no valid JSON" if content.strip() else "empty"
        raise SenselessAnswerError(f"the body is {what}") from None
    if not is_table(answer):
        raise SenselessAnswerError("the body is JSON, but no object")
    return answer


def _may_hold_halves(content: bytes) -> bool:
    return b"\\u" in content or b"\xed" in content


def _text_of(content: bytes) -> str:
    return without_halves(content.decode("utf-8", "surrogatepass").removeprefix("\ufeff"))


def _refuse_large(content: bytes, largest: int) -> None:
    if len(content) > largest:
        raise SenselessAnswerError("the body is larger than an answer can be")
    most_parts = _MOST_PARTS if largest <= LARGEST_ANSWER else _MOST_PARTS_OF_VECTORS
    if any(content.count(sign) >= most for sign, most in most_parts.items()):
        raise SenselessAnswerError("the body has more parts than an answer can have")


def response_of(answer: Mapping[str, Any]) -> LLMResponse:
    """Return the answer in the first choice.

    Raises:
        SenselessAnswerError: there is no choice, or an error in its place; or the provider
            or the model declined, which its code says.
        InvalidToolCallError: the arguments of a tool call are no JSON object.
        ProviderError: the answer is empty.
    """
    refuse_error(answer)
    choice = _first_choice(answer)
    message = choice.get("message")
    if not is_table(message):
        raise SenselessAnswerError("its choice holds no message")
    text = joined(message.get("content"))
    calls = tuple(_calls_in(message))
    finish = text_in(choice, "finish_reason")
    if not text and not calls:
        raise why_empty(finish, text_in(message, "refusal"))
    return LLMResponse(
        text,
        calls,
        usage_of(answer.get("usage")),
        finish_reason=finish or None,
        model_id=text_in(answer, "model") or None,
        raw=answer,
    )


def no_text() -> ProviderError:
    """Return the error for an answer of tool calls, where a text was asked for."""
    return ProviderError("The answer holds tool calls and no text. Ask with achat() instead.")


def refuse_error(answer: Mapping[str, Any]) -> None:
    """Refuse an answer that holds an error, whatever its status.

    Raises:
        SenselessAnswerError: it does; the words of it are read off the exchange.
    """
    if answer.get("error"):
        raise SenselessAnswerError("it holds an error")


def _first_choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = answer.get("choices")
    first = choices[0] if is_sequence(choices) and choices else None
    if not is_table(first):
        raise SenselessAnswerError("it holds no choices")
    return first


def joined(content: object) -> str:
    """Return the text of a message's content; some servers make parts of it."""
    if isinstance(content, str):
        return content
    parts = content if is_sequence(content) else ()
    return "".join(text_in(part, "text") for part in parts)


def text_in(table: object, name: str) -> str:
    """Return the text of that name in an object of JSON; empty where there is none.

    >>> text_in({"model": "gpt-4"}, "model"), text_in({"model": None}, "model"), text_in([], "x")
    ('gpt-4', '', '')
    """
    found = table.get(name) if is_table(table) else None
    return found if isinstance(found, str) else ""


def index_of(value: object) -> int | None:
    """Return the index of a tool call; None where it is none.

    Numbers without bounds can be chosen so that a dict finds them all in one place.

    >>> index_of(1), index_of(2**61 - 1), index_of("1")
    (1, None, None)
    """
    # No true or false, which are numbers to Python.
    return value if type(value) is int and 0 <= value < _MOST_CALLS else None


def _calls_in(message: Mapping[str, Any]) -> Iterator[ToolCall]:
    calls = message.get("tool_calls")
    for index, call in enumerate(calls if is_sequence(calls) else ()):
        refuse_many(index)
        function: Any = call.get("function") if is_table(call) else None
        name = text_in(function, "name")
        if not name:
            raise SenselessAnswerError("its tool call names no function")
        arguments = function.get("arguments")
        given = dict(arguments) if is_table(arguments) else arguments_of(name, arguments or "")
        # Some servers give no id, and the result needs one to name.
        yield ToolCall(text_in(call, "id") or f"call_{index}", name, given)


def refuse_many(index: int) -> None:
    """Refuse a tool call where an answer has none any more.

    Args:
        index: how many calls of the answer are before it.

    Raises:
        SenselessAnswerError: they are too many.
    """
    if index >= _MOST_CALLS:
        raise SenselessAnswerError("it calls more tools than an answer can")


def usage_of(usage: object) -> Usage | None:
    """Return what a call took; None where the server does not say.

    >>> usage_of({"prompt_tokens": 3, "completion_tokens": 1}).total_tokens
    4
    """
    found = Usage(
        count_in(usage, "prompt_tokens"),
        count_in(usage, "completion_tokens"),
        count_in(usage, "prompt_tokens_details", "cached_tokens"),
        count_in(usage, "completion_tokens_details", "reasoning_tokens"),
    )
    return None if found == Usage() else found


def count_in(table: object, *names: str) -> int | None:
    """Return a number of tokens, found by its names from the outside in; None where it is none.

    >>> count_in({"details": {"cached": 2}}, "details", "cached"), count_in({"n": -1}, "n")
    (2, None)
    """
    found: Any = table
    for name in names:
        found = found.get(name) if is_table(found) else None
    return found if type(found) is int and 0 <= found <= _MOST_TOKENS else None


def sum_in(table: object, *names: str) -> int | None:
    """Return the sum of several numbers of tokens; None where none is given, or one is none.

    >>> sum_in({"a": 2, "b": None}, "a", "b"), sum_in({"a": 2, "b": -1}, "a", "b"), sum_in({}, "a")
    (2, None, None)
    """
    given = [name for name in names if is_table(table) and table.get(name) is not None]
    counts = [count for name in given if (count := count_in(table, name)) is not None]
    whole = sum(counts)
    return whole if 0 < len(counts) == len(given) and whole <= _MOST_TOKENS else None


def why_empty(finish: str, refusal: str) -> Exception:
    """Return the error for an answer that has neither text nor tool calls.

    Args:
        finish: why it ended, in the words of chat completions.
        refusal: what the model said in place of an answer.
    """
    if refusal or finish == "content_filter":
        words = refusal or "its content filter stopped the answer"
        return SenselessAnswerError(words, code="content_filter")
    if finish == "length":
        return ProviderError(
            "The answer is empty: max_tokens was used up before the first word, perhaps by "
            "reasoning. Raise max_tokens."
        )
    return ProviderError("The answer is empty. Try again.", retryable=True)
