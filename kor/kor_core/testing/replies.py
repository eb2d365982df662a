"""What a model says, apart from any vendor's wire format."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from json import JSONEncoder
from typing import Any, Final, Literal

__all__ = ["Finish", "Reply", "ToolCall", "dumped", "vector_of", "words_of"]

Finish = Literal["stop", "length", "tool_calls", "content_filter"]

# Not ASCII only: vendors send UTF-8, and a stream may be cut inside a character.
dumped: Final = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_WORDS: Final = re.compile(r"\S+\s*|\s+")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model wants called.

    Args:
        name: of the tool.
        arguments: by name; or a text that is sent as it is, which need not be valid JSON
            (to the vendors that send an object, such as Gemini, it goes as ``{"text": …}``).
        id: by which the result is matched; made up when empty.
    """

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict[str, Any])
    id: str = ""

    @property
    def as_text(self) -> str:
        """The arguments for the vendors that send a text."""
        return self.arguments if isinstance(self.arguments, str) else dumped(self.arguments)

    @property
    def as_object(self) -> Mapping[str, Any]:
        """The arguments for the vendors that send an object; a text can only be wrapped."""
        return {"text": self.arguments} if isinstance(self.arguments, str) else self.arguments


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of a model, which each wire format writes in its own way.

    Args:
        text: the whole text.
        tool_calls: tools that the model wants called.
        deltas: the pieces in which a stream brings the text; by default one a word. Given
            without ``text``, they are the text.
        finish: why the model stopped; by default ``tool_calls`` where there are any, or ``stop``.
        input_tokens: to report in the usage; by default the words of the request.
        output_tokens: to report in the usage; by default the words of the reply.
        cached_tokens: how many of the input tokens came from the vendor's prompt cache.
        reasoning_tokens: how many of the output tokens were spent on reasoning.
        vectors: what to answer to a request for embeddings, one per text.
        headers: added to the answer, such as ``{"set-cookie": "session=1"}``.

    >>> Reply("Hello there").pieces
    ('Hello ', 'there')
    >>> Reply(deltas=("Hel", "lo")).text
    'Hello'
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    deltas: tuple[str, ...] = field(default=(), kw_only=True)
    finish: Finish | None = field(default=None, kw_only=True)
    input_tokens: int | None = field(default=None, kw_only=True)
    output_tokens: int | None = field(default=None, kw_only=True)
    cached_tokens: int = field(default=0, kw_only=True)
    reasoning_tokens: int = field(default=0, kw_only=True)
    vectors: Sequence[Sequence[float]] | None = field(default=None, kw_only=True)
    headers: Mapping[str, str] = field(default_factory=dict[str, str], kw_only=True)

    def __post_init__(self) -> None:
        if not self.text and self.deltas:
            object.__setattr__(self, "text", "".join(self.deltas))

    @property
    def pieces(self) -> tuple[str, ...]:
        """The pieces in which a stream brings the text."""
        return self.deltas or words_of(self.text)

    @property
    def finish_reason(self) -> Finish:
        """Why the model stopped."""
        return self.finish or ("tool_calls" if self.tool_calls else "stop")

    def tokens(self, asked: int) -> tuple[int, int]:
        """Return the input and output tokens to report.

        Args:
            asked: the words of the request, reported where ``input_tokens`` is not given.
        """
        said = len(self.text.split()) + len(self.tool_calls) + self.reasoning_tokens
        return (
            asked if self.input_tokens is None else self.input_tokens,
            said if self.output_tokens is None else self.output_tokens,
        )


def words_of(text: str) -> tuple[str, ...]:
    """Return the pieces in which a stream brings a text: one a word.

    >>> words_of("Hello there")
    ('Hello ', 'there')
    """
    return tuple(_WORDS.findall(text))


def vector_of(text: str, dimensions: int) -> tuple[float, ...]:
    """Return the embedding that is answered to ``text`` when none is scripted.

    It has length 1 and depends on the text alone, so equal texts are nearest each other.

    Args:
        text: what to embed.
        dimensions: how many numbers.

    >>> vector_of("cat", 3) == vector_of("cat", 3) != vector_of("dog", 3)
    True
    """
    # 4 bytes a number; shake gives as many as are asked for.
    noise = hashlib.shake_128(text.encode()).digest(4 * dimensions)
    raw = [int.from_bytes(noise[i : i + 4], "big") - 2**31 + 0.5 for i in range(0, len(noise), 4)]
    length = math.hypot(*raw)
    return tuple(number / length for number in raw)
