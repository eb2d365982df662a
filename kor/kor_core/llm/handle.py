"""The lasting model that callers hold: it asks the candidates and keeps its promises.

Whatever a provider does, a call through a handle ends in an answer or in a typed error, before
its deadline.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kor_core.errors import CapabilityNotSupportedError
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.calls import Call
from kor_core.llm.embedding import as_texts
from kor_core.llm.generation import GenerationSettings, checked_timeout
from kor_core.llm.messages import Messages
from kor_core.llm.profile import ModelProfile
from kor_core.llm.reference import Reference
from kor_core.llm.request import ChatRequest
from kor_core.llm.response import Delta, Embeddings, LLMResponse
from kor_core.llm.streams import ChatStream
from kor_core.llm.target import Target
from kor_core.llm.tools import Toolable
from kor_core.redaction import Config

__all__ = ["ModelHandle", "Target"]

Given = GenerationSettings | Mapping[str, Any] | None


def _nobody(capability: str) -> Sequence[str]:
    del capability
    return ()


class ModelHandle(BaseLLMModel):
    """One reference or purpose with its settings, as a model.

    Args:
        targets: the candidates in the order in which they are asked; at least one.
        capable: returns, for an error to name, which configured models have a capability.
    """

    def __init__(self, *targets: Target, capable: Callable[[str], Sequence[str]] = _nobody) -> None:
        first = targets[0]
        super().__init__(first.reference.model, first.config)
        self._targets = targets
        self._capable = capable

    @property
    def reference(self) -> Reference:
        """The provider and model that are asked first."""
        return self._targets[0].reference

    @property
    def inner(self) -> BaseLLMModel:
        """The object that is asked first, as its provider's ``create_model`` returned it."""
        return self._targets[0].find()

    @property
    def profile(self) -> ModelProfile:
        """What is known of the model that is asked first."""
        return self._targets[0].known()

    async def agenerate(self, prompt: str, **kwargs: Any) -> str:
        """Answer one prompt; where a candidate fails, the next one is asked.

        Args:
            prompt: the user's message, verbatim.
            **kwargs: generation settings for this call, those that the model takes.
                ``timeout`` (seconds) is the deadline of the whole call; by default the
                configured one, or none.

        Raises:
            LLMError: of the class that says what happened; nothing else escapes the provider.
            TypeError: the prompt is no text.
            ConfigurationError: a setting is unknown or wrong.
            AllModelsFailedError: several candidates were asked and failed.
        """
        if not isinstance(prompt, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # users pass anything
            raise TypeError(f"A prompt is a text, not {type(prompt).__name__}.")
        kwargs = Config(kwargs)  # it may hold a key, and a traceback may show this frame
        settings = GenerationSettings.of(kwargs)
        once = settings.without_timeout()
        return await self._call(settings).answer(lambda target: target.generate(prompt, once))

    async def achat(
        self,
        messages: Messages,
        *,
        tools: Iterable[Toolable] = (),
        settings: Given = None,
        schema: Any = None,
        strict: bool = False,
    ) -> LLMResponse:
        """Answer a conversation; where a candidate fails, the next one is asked.

        The arguments are those of :meth:`BaseLLMModel.achat`.

        Raises:
            LLMError: of the class that says what happened; nothing else escapes the provider.
            CapabilityNotSupportedError: no candidate can do this, and none was asked; it names
                configured models that can.
            AllModelsFailedError: several candidates were asked and failed.
        """
        request = ChatRequest.of(messages, tools, settings, schema)
        once = request.once
        call = self._call(request.settings)
        try:
            response = await call.answer(lambda target: target.chat(once, strict=strict))
        except CapabilityNotSupportedError as error:
            raise self._advised(error) from None
        return replace(response, attempts=tuple(call.attempts))

    def astream(
        self, messages: Messages, *, tools: Iterable[Toolable] = (), settings: Given = None
    ) -> ChatStream:
        """Answer piece by piece; where a candidate fails before its first, the next is asked.

        The arguments are those of :meth:`BaseLLMModel.astream`.
        """
        request = ChatRequest.of(messages, tools, settings)
        calls: list[Call] = []
        return ChatStream(
            self._deltas(request, calls),
            lambda response: replace(response, attempts=tuple(calls[0].attempts)),
        )

    async def _deltas(self, request: ChatRequest, calls: list[Call]) -> AsyncGenerator[Delta]:
        once = request.once
        calls.append(call := self._call(request.settings))
        deltas = call.deltas(lambda target: target.stream(once))
        try:
            async for delta in deltas:
                yield delta
        except CapabilityNotSupportedError as error:
            raise self._advised(error) from None
        finally:
            await deltas.aclose()

    async def aembed(self, texts: str | Sequence[str], *, settings: Given = None) -> Embeddings:
        """Make vectors; where a candidate fails, the next one is asked.

        The arguments are those of :meth:`BaseLLMModel.aembed`.
        """
        given, chosen = as_texts(texts), GenerationSettings.of(settings)
        once = chosen.without_timeout()
        call = self._call(chosen)
        try:
            found = await call.answer(lambda target: target.embed(given, once))
        except CapabilityNotSupportedError as error:
            raise self._advised(error) from None
        return replace(found, attempts=tuple(call.attempts))

    def _call(self, settings: GenerationSettings) -> Call:
        configured = self.config.get("timeout")
        seconds = configured if settings.timeout is None else settings.timeout
        return Call(self._targets, checked_timeout(seconds))

    def _advised(self, error: CapabilityNotSupportedError) -> CapabilityNotSupportedError:
        """Name the models that could, where some are configured."""
        able = self._capable(error.capability)
        if able:
            told = f"{error.args[0]} Configured models that can: {', '.join(able)}."
            error.args = (told,)
        return error

    def __repr__(self) -> str:
        names = " → ".join(str(target.reference) for target in self._targets)
        return f"<ModelHandle '{names}'>"
