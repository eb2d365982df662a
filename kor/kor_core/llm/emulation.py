"""What KOR does in the place of a model that has nothing but ``agenerate``, or refuses to do."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from functools import partial
from types import FunctionType
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

from kor_core.errors import CapabilityNotSupportedError
from kor_core.llm.deadline import too_late, within
from kor_core.llm.generation import UNSET, GenerationSettings
from kor_core.llm.profile import ModelProfile
from kor_core.llm.request import ChatRequest
from kor_core.llm.response import Delta, LLMResponse, ToolCallPiece
from kor_core.llm.structured import with_one_repair
from kor_core.llm.transcript import as_prompt, is_plain

__all__ = [
    "Generating",
    "answered",
    "as_deltas",
    "chat",
    "keywords",
    "refuse",
    "refuse_missing",
    "taken_by",
]


class Generating(Protocol):
    """What is needed of a model here."""

    model_name: str

    def agenerate(self, prompt: str, **kwargs: Any) -> Awaitable[str]:
        """Answer one prompt."""
        ...


_WORDS: Final = {
    "tools": "calls no tools",
    "vision": "takes no images",
    "embeddings": "makes no embeddings",
    "json_schema": "has no mode for schemas, and strict=True wants no emulation",
}


def refuse(model_name: str, capability: str) -> CapabilityNotSupportedError:
    """Return the error for a model that cannot do something."""
    return CapabilityNotSupportedError(
        f"It {_WORDS.get(capability, f'lacks {capability}')}, which is known without asking it. "
        "Ask another model.",
        capability=capability,
        model=model_name,
    )


def refuse_missing(model_name: str, profile: ModelProfile, needs: Iterable[str]) -> None:
    """Refuse what a model is known not to be able to do.

    Raises:
        CapabilityNotSupportedError: it lacks one of the needs.
    """
    for need in sorted(needs):
        if profile.supports(need) is False:
            raise refuse(model_name, need)


async def chat(model: Generating, request: ChatRequest) -> LLMResponse:
    """Answer by ``agenerate``: several messages become one prompt.

    Settings of the call reach ``agenerate`` where it takes them by name.
    """
    emulated: set[str] = set() if is_plain(request.messages) else {"messages"}
    settings = keywords(request.settings)
    taken = taken_by(model.agenerate, settings)
    if len(taken) < len(settings):
        emulated.add("settings")
    prompt, seconds = as_prompt(request.messages), request.settings.timeout
    if seconds is None:
        text = await model.agenerate(prompt, **taken)
    else:
        late = partial(too_late, seconds, model=model.model_name)
        async with within(asyncio.timeout(seconds), late):
            text = await model.agenerate(prompt, **taken)
    return LLMResponse(text, emulated=frozenset(emulated))


def keywords(settings: GenerationSettings) -> dict[str, Any]:
    """Return the settings of one attempt as keyword arguments of ``agenerate``."""
    if settings is UNSET:
        return {}
    given = settings.without_timeout().given()
    return {**given, "extra": settings.extra} if settings.extra else given


def taken_by(function: Callable[..., Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return those settings that a function takes by name.

    >>> async def agenerate(prompt: str, temperature: float = 1) -> str:
    ...     return prompt
    >>> taken_by(agenerate, {"temperature": 0, "seed": 1})
    {'temperature': 0}
    """
    if not settings:
        return settings
    names = _names_taken(function)
    if names is None:
        return settings
    return {name: value for name, value in settings.items() if name in names}


def _names_taken(function: Callable[..., Any]) -> frozenset[str] | None:
    """Return the names that a function takes; None where it takes any."""
    plain = function.__func__ if inspect.ismethod(function) else function
    if not isinstance(plain, FunctionType):  # an object, whose signature may change
        return _names_read(function)
    if plain not in _KNOWN:
        _KNOWN[plain] = _names_read(plain)
    return _KNOWN[plain]


def _names_read(function: Callable[..., Any]) -> frozenset[str] | None:
    parameters = inspect.signature(function).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    return None if takes_any else frozenset(parameters)


# To read a signature takes longer than all else of a call.
_KNOWN: Final[WeakKeyDictionary[FunctionType, frozenset[str] | None]] = WeakKeyDictionary()


async def as_deltas(response: LLMResponse) -> AsyncGenerator[Delta]:
    """Stream an answer that came whole: one delta, then done."""
    calls = tuple(
        ToolCallPiece(index, call.id, call.name, call.arguments_text)
        for index, call in enumerate(response.tool_calls)
    )
    yield Delta(
        response.text,
        calls,
        finish_reason=response.finish_reason or ("tool_calls" if calls else "stop"),
        usage=response.usage,
        model_id=response.model_id,
        request_id=response.request_id,
        emulated=response.emulated | {"stream"},
    )


async def answered(
    request: ChatRequest,
    ask: Callable[[ChatRequest], Awaitable[LLMResponse]],
    *,
    native: bool,
) -> LLMResponse:
    """Ask for an answer, checked against the schema where there is one.

    Args:
        request: what is asked.
        ask: asks the model.
        native: whether the model has a mode of its own for schemas.
    """
    schema = request.schema
    if schema is None:
        return await ask(request)
    if not native:
        plain = request.without_schema
        return await with_one_repair(
            schema, request.messages, lambda messages: ask(plain.of_messages(messages))
        )
    response = await ask(request)
    if response.tool_calls:  # the answer comes after their results
        return response
    return response.with_parsed(schema.parsed(response.text))
