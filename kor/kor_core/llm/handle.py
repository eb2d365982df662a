"""The lasting model that callers hold: it finds the provider's own object and keeps its promises.

Whatever a provider does, a call through a handle ends in a text or in a typed error, before
its deadline.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from kor_core.errors import KorError, LLMTimeoutError, ProviderError
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.reference import Reference

__all__ = ["ModelHandle"]


class ModelHandle(BaseLLMModel):
    """One reference or purpose with its settings, as a model.

    Args:
        reference: the provider and model it stands for.
        config: the merged settings, as the provider gets them.
        find: returns the provider's own object; asked at each call, so that a provider
            registered in another's place is used from then on.
    """

    def __init__(
        self, reference: Reference, config: dict[str, Any], find: Callable[[], BaseLLMModel]
    ) -> None:
        super().__init__(reference.model, config)
        self.reference = reference
        self._find = find

    @property
    def inner(self) -> BaseLLMModel:
        """The provider's own object, as its ``create_model`` returned it."""
        return self._find()

    async def agenerate(self, prompt: str, **kwargs: Any) -> str:
        """Answer one prompt.

        Args:
            prompt: the user's message, verbatim.
            **kwargs: generation settings for this call. ``timeout`` (seconds) is the deadline
                of the whole call; by default the configured one, or none.

        Raises:
            LLMError: of the class that says what happened; nothing else escapes.
        """
        deadline = kwargs.pop("timeout", self.config.get("timeout"))
        async with self._promises(deadline):
            answer: object = await self.inner.agenerate(prompt, **kwargs)
            return self._checked(answer)

    @asynccontextmanager
    async def _promises(self, deadline: float | None) -> AsyncGenerator[None]:
        provider, model = self.reference
        limit = asyncio.timeout(deadline)
        try:
            async with limit:
                yield
        except KorError:
            raise
        except TimeoutError as error:
            words = (
                f"No answer within the deadline of {deadline:g} s. Raise `timeout` if that is "
                "too short."
                if limit.expired() and deadline is not None
                else f"The provider timed out: {str(error) or 'it gave no reason'}."
            )
            raise LLMTimeoutError(words, provider=provider, model=model) from error
        except Exception as error:
            # A custom provider may raise anything; callers are promised typed errors.
            message = f"{type(error).__name__}: {error}"
            raise ProviderError(message, provider=provider, model=model) from error

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

    def __repr__(self) -> str:
        return f"<ModelHandle '{self.reference}'>"
