"""What models answer: responses, deltas of streams, embeddings, and what they took."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from typing import Any, Literal

from kor_core.llm.messages import Message, Part, Text, ToolCall

__all__ = ["Attempt", "Delta", "Embeddings", "LLMResponse", "Outcome", "ToolCallPiece", "Usage"]

Outcome = Literal["answered", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call took, in tokens; None is unknown, never zero.

    Args:
        input_tokens: of the messages and tools, the cached ones included.
        output_tokens: of the answer, the reasoning included.
        cached_tokens: how many of the input tokens came from the provider's cache.
        reasoning_tokens: how many of the output tokens were reasoning.

    >>> Usage(10, 5) + Usage(1, None)
    Usage(input_tokens=11, output_tokens=None, cached_tokens=None, reasoning_tokens=None)
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def total_tokens(self) -> int | None:
        """Input and output together, or None where one is unknown."""
        return _sum(self.input_tokens, self.output_tokens)

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            *(_sum(getattr(self, each.name), getattr(other, each.name)) for each in fields(self))
        )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to one model, as the ledger of a call records it.

    Args:
        model: the reference of the model that was asked, ``provider:model``.
        outcome: how it ended.
        duration: in seconds.
        error: the name of the error's class, where it failed.
        status: the HTTP status, where there was one.
        request_id: the provider's id of the request.
        usage: what it took; None is unknown.
        cost: in US dollars; None is unknown.
    """

    model: str
    outcome: Outcome
    duration: float
    error: str | None = None
    status: int | None = None
    request_id: str | None = None
    usage: Usage | None = None
    cost: Decimal | None = None


@dataclass(frozen=True, slots=True)
class LLMResponse:
    """An answer.

    Args:
        text: its text; empty where the model only calls tools.
        tool_calls: the tools that the model wants to be called, in its order.
        usage: what the call took, or None where the provider did not say.
        cost: in US dollars, or None where usage or price are unknown.
        finish_reason: ``stop``, ``length``, ``tool_calls``, ``content_filter``, a word of the
            provider's own, or None where it gave none.
        model_id: the model that answered, as the provider names it.
        request_id: the provider's id of the request.
        attempts: every request that the call made, in order; the last one answered.
        emulated: what the model cannot do itself and KOR did in its place: ``messages``,
            ``settings``, ``stream``, ``schema``.
        parsed: the answer as an instance of the schema that was asked for.
        raw: the provider's answer as it came, where the provider keeps it.

    >>> LLMResponse("Hello!").text, LLMResponse("Hello!").usage
    ('Hello!', None)
    """

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage | None = None
    cost: Decimal | None = None
    finish_reason: str | None = None
    model_id: str | None = None
    request_id: str | None = None
    attempts: tuple[Attempt, ...] = ()
    emulated: frozenset[str] = frozenset()
    parsed: Any = None
    raw: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The text, where there is one, and the tool calls."""
        text = (Text(self.text),) if self.text else ()
        return (*text, *self.tool_calls)

    @property
    def message(self) -> Message:
        """The answer as a message, to go on with the conversation.

        >>> LLMResponse("Hello!").message
        Message(role='assistant', parts=(Text(text='Hello!'),))
        """
        return Message("assistant", self.parts)

    def with_parsed(self, parsed: Any) -> "LLMResponse":
        """Return the same answer with an instance of the schema that was asked for."""
        return replace(self, parsed=parsed)

    def with_cost(self, cost: Decimal | None) -> "LLMResponse":
        """Return the same answer with what it cost, in US dollars."""
        return replace(self, cost=cost)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class ToolCallPiece:
    """A piece of a tool call in a stream.

    Args:
        index: which call of the answer it belongs to, from 0.
        id: the call's id; it comes with the first piece.
        name: the tool's name; it comes with the first piece.
        arguments: a piece of the JSON text of the arguments.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed answer.

    Readers of a stream get those with a text or a piece of a tool call. The other fields are
    for providers, who say with the last delta why the answer ended: a stream in which no delta
    has a ``finish_reason`` was interrupted.

    Args:
        text: the next piece of the text.
        tool_calls: the next pieces of tool calls.
        finish_reason: why the answer ended, with its last delta.
        usage: what the call took, once it is known.
        model_id: the model that answers, as the provider names it.
        request_id: the provider's id of the request.
        emulated: what KOR did in the model's place.
    """

    text: str = ""
    tool_calls: tuple[ToolCallPiece, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    model_id: str | None = None
    request_id: str | None = None
    emulated: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of texts.

    Args:
        vectors: one for each text, in the order of the texts.
        usage: what the call took, or None where the provider did not say.
        cost: in US dollars, or None where usage or price are unknown.
        model_id: the model that answered, as the provider names it.
        request_id: the provider's id of the (last) request.
        attempts: every request that the call made, in order.
    """

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage | None = None
    cost: Decimal | None = None
    model_id: str | None = None
    request_id: str | None = None
    attempts: tuple[Attempt, ...] = ()

    def with_cost(self, cost: Decimal | None) -> "Embeddings":
        """Return the same vectors with what they cost, in US dollars."""
        return replace(self, cost=cost)
