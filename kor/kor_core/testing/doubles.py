"""Models and providers for tests that need no network: they answer what a script says."""

from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, Final, Self

from kor_core.errors import KorError, StreamInterruptedError
from kor_core.llm import emulation
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider
from kor_core.llm.generation import GenerationSettings
from kor_core.llm.messages import Message
from kor_core.llm.request import ChatRequest
from kor_core.llm.response import Delta, Embeddings, LLMResponse
from kor_core.llm.tools import Tool
from kor_core.llm.transcript import as_prompt
from kor_core.testing.replies import vector_of, words_of

__all__ = ["Call", "Response", "ScriptExhaustedError", "ScriptedModel", "ScriptedProvider"]

_Failure = BaseException | type[BaseException]
Response = str | LLMResponse | Embeddings | _Failure | Callable[[str], str | LLMResponse]

# Enough to tell texts apart, and short enough to read in a failing test.
_DIMENSIONS: Final = 8


class ScriptExhaustedError(KorError, AssertionError):
    """A double was asked more often than it was scripted for.

    It is no ``LLMError``, so nothing retries it or falls back from it: the test fails.

    Args:
        model: name of the model that was asked.
        scripted: how many responses there were.
    """

    def __init__(self, model: str, scripted: int) -> None:
        super().__init__()
        self.model: Final = model
        self.scripted: Final = scripted

    def __str__(self) -> str:
        scripted = "1 response was" if self.scripted == 1 else f"{self.scripted} responses were"
        return (
            f"The scripted model '{self.model}' was asked once more than it can answer: "
            f"{scripted} scripted. Script one for each call."
        )


@dataclass(frozen=True, slots=True)
class Call:
    """One call that a scripted model got.

    Args:
        prompt: as it arrived; of several messages, the transcript of them.
        settings: those of the call.
        model: the name of the model that was asked.
        messages: of ``achat``, ``astream`` and ``aparse``, as they arrived.
        tools: that the model might call.
        texts: of ``aembed``; ``prompt`` is empty then.
    """

    prompt: str
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    model: str = ""
    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    texts: tuple[str, ...] = ()

    @classmethod
    def chat(cls, request: ChatRequest, model: str) -> "Call":
        """Return the record of a chat."""
        messages, settings = request.messages, _flat(request.settings)
        return cls(as_prompt(messages), settings, model, messages, request.tools)


def _flat(settings: GenerationSettings) -> dict[str, Any]:
    given = settings.given()
    return {**given, "extra": settings.extra} if settings.extra else given


class _Script:
    """Responses that are given out in order, and the calls that took them."""

    def __init__(self, responses: Iterable[Response]) -> None:
        self._waiting = deque(responses)
        self._scripted = len(self._waiting)
        self.calls: list[Call] = []
        self._lock = Lock()

    def add(self, responses: Iterable[Response]) -> None:
        with self._lock:
            before = len(self._waiting)
            self._waiting.extend(responses)
            self._scripted += len(self._waiting) - before

    def play(self, call: Call) -> str | LLMResponse:
        """Record a call for a text, and return or raise what is next."""
        with self._lock:
            self.calls.append(call)
            if not self._waiting:
                raise ScriptExhaustedError(call.model, self._scripted)
            response = self._waiting.popleft()
        return _played(response, call)

    def vectors(self, call: Call) -> Embeddings:
        """Record a call for vectors, and return or raise those that are next, or make some."""
        with self._lock:
            self.calls.append(call)
            scripted = bool(self._waiting) and _is_for_vectors(self._waiting[0])
            response = self._waiting.popleft() if scripted else None
        if isinstance(response, Embeddings):
            return response
        if response is not None:
            _played(response, call)
        return Embeddings(tuple(vector_of(text, _DIMENSIONS) for text in call.texts))


def _is_for_vectors(response: Response) -> bool:
    return isinstance(response, Embeddings | BaseException | type)


def _played(response: Response, call: Call) -> str | LLMResponse:
    if isinstance(response, str | LLMResponse):
        return response
    if isinstance(response, BaseException):
        raise response
    if isinstance(response, type):  # before the callables, because a class is one too
        raise response()
    if isinstance(response, Embeddings):
        raise KorError(
            f"The scripted model '{call.model}' was to answer with vectors and was asked for a "
            "text. Script the responses in the order of the calls."
        )
    return response(call.prompt)


class ScriptedModel(BaseLLMModel):
    """Answers its responses in order, and records what it was asked.

    It can do all that a model can: it chats, streams word by word, calls tools, takes images
    and schemas, and makes embeddings.

    Args:
        responses: one per call: a text to answer, an
            :class:`~kor_core.llm.response.LLMResponse` with tool calls or usage, an exception
            to raise, or a function of the prompt that returns a text or a response. A stream
            gives the ``partial`` text of a :class:`~kor_core.errors.StreamInterruptedError`
            before it raises it. A call for embeddings takes the next response if that is an
            ``Embeddings`` or an exception; otherwise each text gets a vector that depends on
            it alone.
        model_name: under which it calls itself.
        config: as a provider would get it.

    >>> model = ScriptedModel(["Hi!", str.upper])
    >>> model.generate("Hello!"), model.chat("Hello!", settings={"temperature": 0}).text
    ('Hi!', 'HELLO!')
    >>> model.prompts
    ['Hello!', 'Hello!']
    >>> model.calls[1].settings
    {'temperature': 0}
    >>> [delta.text for delta in model.reply("one two").stream("Count!")]
    ['one ', 'two']

    Raises:
        ScriptExhaustedError: it is asked more often than it was scripted for.
    """

    capabilities = frozenset({"json_schema", "tools", "vision"})

    def __init__(
        self,
        responses: Iterable[Response] = (),
        *,
        model_name: str = "scripted",
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(model_name, config if config is not None else {})
        self._script = _Script(responses)

    def reply(self, *responses: Response) -> Self:
        """Answer the next calls with these, after what is scripted already."""
        self._script.add(responses)
        return self

    @property
    def calls(self) -> list[Call]:
        """Every call so far; for a model of a :class:`ScriptedProvider`, of all its models."""
        return list(self._script.calls)

    @property
    def prompts(self) -> list[str]:
        """The prompts of the calls so far, those for embeddings aside."""
        return [call.prompt for call in self.calls if not call.texts]

    async def agenerate(self, prompt: str, **kwargs: Any) -> str:
        """Answer the next response, as text."""
        return str(self._script.play(Call(prompt, kwargs, self.model_name)))

    async def _chat(self, request: ChatRequest) -> LLMResponse:
        played = self._script.play(Call.chat(request, self.model_name))
        if isinstance(played, LLMResponse):
            return played
        return LLMResponse(played, finish_reason="stop", model_id=self.model_name)

    async def _stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        try:
            response = await self._chat(request)
        except StreamInterruptedError as error:
            for word in words_of(error.partial):
                yield Delta(word)
            raise
        async for last in emulation.as_deltas(response):
            for word in words_of(response.text):
                yield Delta(word)
            yield replace(last, text="", emulated=response.emulated)

    async def _embed(self, texts: Sequence[str], settings: GenerationSettings) -> Embeddings:
        call = Call("", _flat(settings), self.model_name, texts=tuple(texts))
        return self._script.vectors(call)


class ScriptedProvider(BaseLLMProvider):
    """Makes scripted models that share one script, whatever their names.

    Args:
        responses: as for :class:`ScriptedModel`, in the order in which the models are asked.
        id: under which it is registered; ``id="openai"`` takes the place of the real one.

    >>> provider = ScriptedProvider(["one", "two"])
    >>> provider.create_model("a", {}).generate("?"), provider.create_model("b", {}).generate("?")
    ('one', 'two')
    >>> [(call.model, call.prompt) for call in provider.calls]
    [('a', '?'), ('b', '?')]
    >>> provider.reply("three").create_model("a", {}).generate("?")
    'three'
    """

    def __init__(self, responses: Iterable[Response] = (), id: str = "scripted") -> None:  # noqa: A002  # the provider's own word
        self.id = id
        self._script = _Script(responses)

    def reply(self, *responses: Response) -> Self:
        """Answer the next calls with these, after what is scripted already."""
        self._script.add(responses)
        return self

    def named(self, id: str) -> Self:  # noqa: A002  # the provider's own word
        """Return the same double under another id: the script and the calls are one.

        >>> provider = ScriptedProvider(["one", "two"])
        >>> openai = provider.named("openai")
        >>> openai.create_model("gpt-4o", {}).generate("?"), provider.prompts
        ('one', ['?'])
        """
        twin = copy(self)
        twin.id = id
        return twin

    @property
    def calls(self) -> list[Call]:
        """Every call to any of its models so far."""
        return list(self._script.calls)

    @property
    def prompts(self) -> list[str]:
        """The prompts of the calls so far, those for embeddings aside."""
        return [call.prompt for call in self.calls if not call.texts]

    def create_model(self, model_name: str, config: dict[str, Any]) -> ScriptedModel:
        """Make a model on the shared script."""
        model = ScriptedModel(model_name=model_name, config=config)
        model._script = self._script  # noqa: SLF001  # the two are one double
        return model
