"""An example plugin for the KOR SDK: a provider that answers backwards."""

from typing import Any

from kor_core.llm.base import BaseLLMModel, BaseLLMProvider
from kor_core.plugin import KorContext, KorPlugin

__all__ = ["ReverseModel", "ReversePlugin", "ReverseProvider"]


class ReverseModel(BaseLLMModel):
    """Answers with the prompt backwards, by letter or by the configured ``separator``."""

    async def agenerate(self, prompt: str, **_: Any) -> str:
        """Return the parts of the prompt in reverse order."""
        separator: str = self.config.get("separator", "")
        parts = prompt.split(separator) if separator else list(prompt)
        return separator.join(reversed(parts))


class ReverseProvider(BaseLLMProvider):
    """Serves any model name."""

    id = "reverse"

    def create_model(self, model_name: str, config: dict[str, Any]) -> BaseLLMModel:
        """Make the model; ``config`` holds what the configuration says for it."""
        return ReverseModel(model_name, config)


class ReversePlugin(KorPlugin):
    """Registers the provider."""

    id = "reverse"

    def initialize(self, context: KorContext) -> None:
        """Called once, when KOR builds its catalogue of providers."""
        context.get_llm_registry().register(ReverseProvider())
