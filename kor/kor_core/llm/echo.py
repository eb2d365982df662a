"""The built-in provider that needs no network: it gives the prompt back."""

from typing import Any

from kor_core.llm.base import BaseLLMModel, BaseLLMProvider

__all__ = ["EchoModel", "EchoProvider"]


class EchoModel(BaseLLMModel):
    """Answers every prompt with itself."""

    async def agenerate(self, prompt: str, **_: Any) -> str:
        """Return the prompt after ``Echo:``."""
        return f"Echo: {prompt}"


class EchoProvider(BaseLLMProvider):
    """Serves offline, for first steps and tests; any model name will do.

    >>> EchoProvider().create_model("echo", {}).generate("Hello!")
    'Echo: Hello!'
    """

    id = "echo"

    def create_model(self, model_name: str, config: dict[str, Any]) -> BaseLLMModel:
        """Return an echo under that name."""
        return EchoModel(model_name, config)
