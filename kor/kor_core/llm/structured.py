"""Structured output: a schema that an answer must fit, and the answer checked against it."""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import ErrorDetails

from kor_core.errors import InvalidAnswerError
from kor_core.llm.hiding import proper
from kor_core.llm.messages import Message, assistant, user
from kor_core.llm.response import LLMResponse

__all__ = ["Schema", "with_one_repair"]


@dataclass(frozen=True, slots=True)
class Schema:
    """What an answer must look like.

    Args:
        name: of the type.
        json_schema: as JSON Schema.
        number: of the type; two types may check more than their equal JSON Schemas say.
    """

    name: str
    json_schema: Mapping[str, Any] = field(repr=False)
    _adapter: TypeAdapter[Any] = field(repr=False, compare=False)
    number: int = field(default_factory=count().__next__, repr=False, compare=False)

    @classmethod
    def of(cls, wanted: Any) -> "Schema":
        """Return the schema of a pydantic model, a dataclass, or whatever pydantic can check.

        Raises:
            TypeError: pydantic makes no JSON Schema of it.

        >>> from pydantic import BaseModel
        >>> class City(BaseModel):
        ...     name: str
        >>> Schema.of(City).parsed('{"name": "Paris"}')
        City(name='Paris')
        """
        if isinstance(wanted, Mapping):
            raise TypeError(
                "A schema is a class, not a mapping of JSON Schema. Give a pydantic model, a "
                "dataclass or a TypedDict."
            )
        try:
            return wanted if isinstance(wanted, Schema) else _schema_of(wanted)
        # Names that are not defined, and what is no type at all, are no errors of pydantic's own.
        except (PydanticUserError, NameError, TypeError) as error:
            raise TypeError(
                f"{wanted!r:.80} makes no schema: {error}. Give a pydantic model, a dataclass or a "
                "TypedDict."
            ) from error

    def parsed(self, text: str) -> Any:
        """Return an answer as an instance of the type.

        A fence of Markdown around the JSON, which models like to put there, is taken off.

        Raises:
            InvalidAnswerError: the answer does not fit.
        """
        try:
            return self._adapter.validate_json(_unfenced(text))
        except ValidationError as error:
            raise InvalidAnswerError(
                f"The answer is no {self.name}: {_told(error)}. Ask again, or describe the "
                "fields better.",
                text=text,
                problems=_told(error),
            ) from None

    @property
    def instructions(self) -> str:
        """What a model is told that has no mode for schemas."""
        return (
            "Answer with one JSON object and nothing else. It must fit this JSON Schema:\n"
            f"{json.dumps(self.json_schema, ensure_ascii=False)}"
        )


@lru_cache(maxsize=256)
def _schema_of(wanted: Any) -> Schema:
    adapter: TypeAdapter[Any] = TypeAdapter(wanted)
    return Schema(getattr(wanted, "__name__", "Answer"), adapter.json_schema(), adapter)


_FENCE: Final = re.compile(r"\A\s*```[a-zA-Z]*\n(.*?)\n?```\s*\Z", re.DOTALL)


def _unfenced(text: str) -> str:
    found = _FENCE.match(text)
    return found[1] if found else text


_MOST_TOLD: Final = 10
_LONGEST_TOLD: Final = 500  # characters


def _told(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    told = [_line_of(each) for each in found[:_MOST_TOLD]]
    more = [f"{len(found) - _MOST_TOLD} more"] if len(found) > _MOST_TOLD else []
    return "; ".join([*told, *more])


def _line_of(problem: ErrorDetails) -> str:
    """Return a problem on one line; the names of fields may be the answer's own."""
    place = ".".join(map(str, problem["loc"]))
    words = " ".join(problem["msg"].split())
    if len(words) > _LONGEST_TOLD or not words.isprintable():
        words = problem["type"]  # not cut off, for half of a key is found by no mask
    shown = "(of no proper name)" if proper(place) is None else place
    return f"{shown}: {words}" if place else words


async def with_one_repair(
    schema: Schema,
    messages: tuple[Message, ...],
    ask: Callable[[tuple[Message, ...]], Awaitable[LLMResponse]],
) -> LLMResponse:
    """Ask for an answer that fits a schema, in words alone; where it does not fit, ask once more.

    Args:
        schema: what the answer must look like.
        messages: the conversation.
        ask: asks the model.

    Raises:
        InvalidAnswerError: the second answer does not fit either.
    """
    asked = (*messages, user(schema.instructions))
    first = await ask(_merged(asked))
    try:
        return _fitting(first, schema)
    except InvalidAnswerError as error:
        complaint = f"That does not fit: {error.problems}.\n{schema.instructions}"
    second = await ask((*_merged(asked), assistant(first.text), user(complaint)))
    usage = first.usage + second.usage if first.usage and second.usage else None
    cost = None if first.cost is None or second.cost is None else first.cost + second.cost
    attempts = (*first.attempts, *second.attempts)
    return _fitting(replace(second, usage=usage, cost=cost, attempts=attempts), schema)


def _fitting(response: LLMResponse, schema: Schema) -> LLMResponse:
    if response.tool_calls:  # the answer comes after their results
        return replace(response, emulated=response.emulated | {"schema"})
    parsed = schema.parsed(response.text)
    return replace(response, parsed=parsed, emulated=response.emulated | {"schema"})


def _merged(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Join the instructions to the user's last message: two in a row are not taken everywhere."""
    *before, last, instructions = messages
    if last.role != "user":
        return messages
    return (*before, Message("user", (*last.parts, *user("\n\n").parts, *instructions.parts)))
