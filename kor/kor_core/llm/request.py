"""One request as models get it: everything normalised, nothing left to guess."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from kor_core.llm.generation import UNSET, GenerationSettings
from kor_core.llm.messages import Image, Message, Messages, Text, as_messages
from kor_core.llm.structured import Schema
from kor_core.llm.tools import Tool, Toolable, as_tools

__all__ = ["ChatRequest"]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a model is asked.

    Args:
        messages: the conversation so far; at least one.
        tools: those that the model may call.
        settings: of this call; those of the model are in its ``config``.
        schema: what the answer must fit, for models that have a mode for it.

    >>> request = ChatRequest.of("Hello!")
    >>> request.messages[0].text, request.needs
    ('Hello!', frozenset())
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    settings: GenerationSettings = UNSET
    schema: Schema | None = None

    @classmethod
    def of(
        cls,
        messages: Messages,
        tools: Iterable[Toolable] = (),
        settings: GenerationSettings | Mapping[str, Any] | None = None,
        schema: Any = None,
    ) -> "ChatRequest":
        """Return the request for what a caller gave.

        Raises:
            TypeError: something is not of a kind that is accepted.
            ValueError: there is no message, or two tools have one name.
            ConfigurationError: a setting is unknown or wrong.
        """
        return cls(
            as_messages(messages),
            as_tools(tools),
            GenerationSettings.of(settings),
            None if schema is None else Schema.of(schema),
        )

    @property
    def needs(self) -> frozenset[str]:
        """The capabilities that a model must have to answer it."""
        others = [
            part for each in self.messages for part in each.parts if not isinstance(part, Text)
        ]
        if not others and not self.tools:
            return _TEXTS_ALONE
        images = any(isinstance(part, Image) for part in others)
        tools = self.tools or not all(isinstance(part, Image) for part in others)
        asked = {"tools": tools, "vision": images}
        return frozenset(name for name, needed in asked.items() if needed)

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the messages, for estimating how long they are."""
        return tuple(each.text for each in self.messages)

    @property
    def canonical(self) -> tuple[Any, ...]:
        """What decides the answer, as data: equal for equal requests."""
        tools = [(each.name, each.description, each.parameters) for each in self.tools]
        schema = None if self.schema is None else (self.schema.number, self.schema.json_schema)
        return self.messages, tools, self.settings, schema

    @property
    def without_schema(self) -> "ChatRequest":
        """The same request for a model that has no mode for schemas."""
        return replace(self, schema=None)

    @property
    def once(self) -> "ChatRequest":
        """The same request for one attempt; the deadline is kept for all of them."""
        once = self.settings.without_timeout()
        if once is self.settings:
            return self
        return ChatRequest(self.messages, self.tools, once, self.schema)

    def of_messages(self, messages: tuple[Message, ...]) -> "ChatRequest":
        """Return the same request with other messages."""
        return replace(self, messages=messages)

    @property
    def arguments(self) -> dict[str, Any]:
        """What is given besides messages and schema, as keyword arguments of ``achat``."""
        given: dict[str, Any] = {"tools": self.tools} if self.tools else {}
        if self.settings is not UNSET and self.settings != UNSET:
            given["settings"] = self.settings
        return given


_TEXTS_ALONE: Final[frozenset[str]] = frozenset()
