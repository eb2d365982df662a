"""The lasting model that callers hold: it asks the candidates and keeps its promises.

Whatever a provider does, a call through a handle ends in a text or in a typed error, before
its deadline.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import Any, Final, NamedTuple, cast

from kor_core.errors import (
    AllModelsFailedError,
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    ContentFilterError,
    KorError,
    LLMError,
    LLMTimeoutError,
    ProviderError,
    RealCallsBlockedError,
)
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.generation import checked_timeout
from kor_core.llm.reference import Reference
from kor_core.redaction import redact, secrets_in

__all__ = ["ModelHandle", "Target"]

# The next candidate is not asked after these: it would be as wrong, as unwanted or as blocked.
_FINAL: Final = (
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    ContentFilterError,
    RealCallsBlockedError,
)


class Target(NamedTuple):
    """One candidate of a handle.

    Args:
        reference: the provider and model.
        config: the merged settings, as the provider gets them.
        find: returns the provider's own object; asked at each call, so that a provider
            registered in another's place is used from then on.
    """

    reference: Reference
    config: dict[str, Any]
    find: Callable[[], BaseLLMModel]

    async def ask(self, prompt: str, settings: dict[str, Any]) -> str:
        """Answer, or raise an error of KOR."""
        async with self._typed_errors():
            answer = await _awaited(self.find().agenerate(prompt, **settings))
        return self._checked(answer)

    def _checked(self, answer: object) -> str:
        if isinstance(answer, str):
            return answer
        provider, model = self.reference
        raise ProviderError(
            f"agenerate() returned {type(answer).__name__}, not a text. "
            "A model's agenerate must return a str.",
            provider=provider,
            model=model,
        )

    @asynccontextmanager
    async def _typed_errors(self) -> AsyncGenerator[None]:
        provider, model = self.reference
        try:
            yield
        except KorError:
            raise
        except TimeoutError as error:
            words = f"The provider timed out: {str(error) or 'it gave no reason'}."
            raise LLMTimeoutError(words, provider=provider, model=model) from error
        except Exception as error:
            # A custom provider may raise anything; callers are promised typed errors.
            words = redact(f"{type(error).__name__}: {error}", secrets_in(self.config))
            raise ProviderError(words, provider=provider, model=model) from error


async def _awaited(answer: object) -> object:
    """Let a custom model get away with an ``agenerate`` that is not async."""
    return await cast("Awaitable[object]", answer) if isawaitable(answer) else answer


class ModelHandle(BaseLLMModel):
    """One reference or purpose with its settings, as a model.

    Args:
        targets: the candidates in the order in which they are asked; at least one.
    """

    def __init__(self, *targets: Target) -> None:
        first = targets[0]
        super().__init__(first.reference.model, first.config)
        self._targets = targets

    @property
    def reference(self) -> Reference:
        """The provider and model that are asked first."""
        return self._targets[0].reference

    @property
    def inner(self) -> BaseLLMModel:
        """The object that is asked first, as its provider's ``create_model`` returned it."""
        return self._targets[0].find()

    async def agenerate(self, prompt: str, **kwargs: Any) -> str:
        """Answer one prompt; where a candidate fails, the next one is asked.

        Args:
            prompt: the user's message, verbatim.
            **kwargs: generation settings for this call. ``timeout`` (seconds) is the deadline
                of the whole call; by default the configured one, or none.

        Raises:
            LLMError: of the class that says what happened; nothing else escapes the provider.
            TypeError: the prompt is no text.
            ConfigurationError: the timeout is no number of seconds.
            AllModelsFailedError: several candidates were asked and failed.
        """
        if not isinstance(prompt, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # users pass anything
            raise TypeError(f"A prompt is a text, not {type(prompt).__name__}.")
        deadline = checked_timeout(kwargs.pop("timeout", self.config.get("timeout")))
        limit = asyncio.timeout(deadline)
        try:
            async with limit:
                return await self._first_answer(prompt, kwargs)
        except TimeoutError:
            if deadline is None or not limit.expired():
                raise
        # Raised out here: a deadline needs no cause, and that one's frames may hold keys.
        raise self._too_late(deadline)

    def _too_late(self, deadline: float) -> LLMTimeoutError:
        provider, model = self.reference
        return LLMTimeoutError(
            f"No answer within the deadline of {deadline:g} s. Raise `timeout` if that is "
            "too short.",
            provider=provider,
            model=model,
        )

    async def _first_answer(self, prompt: str, settings: dict[str, Any]) -> str:
        errors: list[LLMError] = []
        for target in self._targets:
            try:
                return await target.ask(prompt, settings)
            except LLMError as error:
                errors.append(error)
                if isinstance(error, _FINAL):
                    break
        if len(errors) == 1:
            raise errors[0]
        raise AllModelsFailedError(f"All {len(errors)} models that were asked failed.", errors)

    def __repr__(self) -> str:
        names = " → ".join(str(target.reference) for target in self._targets)
        return f"<ModelHandle '{names}'>"
