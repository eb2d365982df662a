"""Models and providers for tests that need no network: they answer what a script says."""

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final, Self

from kor_core.errors import KorError
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider

__all__ = ["Call", "Response", "ScriptExhaustedError", "ScriptedModel", "ScriptedProvider"]

Response = str | BaseException | type[BaseException] | Callable[[str], str]


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
        prompt: as it arrived.
        settings: the keyword arguments of the call.
        model: the name of the model that was asked.
    """

    prompt: str
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    model: str = ""


class _Script:
    """Responses that are given out in order, and the calls that took them."""

    def __init__(self, responses: Iterable[Response]) -> None:
        self.responses = list(responses)
        self.calls: list[Call] = []
        self._lock = Lock()

    def add(self, responses: Iterable[Response]) -> None:
        with self._lock:
            self.responses.extend(responses)

    def play(self, call: Call) -> str:
        with self._lock:
            self.calls.append(call)
            position = len(self.calls)
            if position > len(self.responses):
                raise ScriptExhaustedError(call.model, len(self.responses))
            response = self.responses[position - 1]
        return _played(response, call.prompt)


def _played(response: Response, prompt: str) -> str:
    if isinstance(response, str):
        return response
    if isinstance(response, BaseException):
        raise response
    if isinstance(response, type):  # before the callables, because a class is one too
        raise response()
    return response(prompt)


class ScriptedModel(BaseLLMModel):
    """Answers its responses in order, and records what it was asked.

    Args:
        responses: one per call: a text to answer, an exception to raise, or a function of the
            prompt that returns the text.
        model_name: under which it calls itself.
        config: as a provider would get it.

    >>> model = ScriptedModel(["Hi!", str.upper])
    >>> model.generate("Hello!"), model.generate("Hello!", temperature=0)
    ('Hi!', 'HELLO!')
    >>> model.prompts
    ['Hello!', 'Hello!']
    >>> model.calls[1].settings
    {'temperature': 0}

    Raises:
        ScriptExhaustedError: it is asked more often than it was scripted for.
    """

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
        """The prompts of the calls so far."""
        return [call.prompt for call in self.calls]

    async def agenerate(self, prompt: str, **kwargs: Any) -> str:
        """Answer the next response."""
        return self._script.play(Call(prompt, kwargs, self.model_name))


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
        """The prompts of the calls so far."""
        return [call.prompt for call in self.calls]

    def create_model(self, model_name: str, config: dict[str, Any]) -> ScriptedModel:
        """Make a model on the shared script."""
        model = ScriptedModel(model_name=model_name, config=config)
        model._script = self._script  # noqa: SLF001  # the two are one double
        return model
