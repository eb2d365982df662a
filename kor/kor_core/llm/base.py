"""What a custom model and a custom provider implement.

A model must implement ``agenerate``; a provider an ``id`` and ``create_model``. All else has
a default.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from kor_core.llm.profile import UNKNOWN, ModelProfile
from kor_core.llm.runner import run

__all__ = ["BaseLLMModel", "BaseLLMProvider", "Credentials"]


class BaseLLMModel(ABC):
    """A model of a provider, ready to be called.

    Args:
        model_name: the name the provider knows the model by.
        config: the settings for this model as one flat dict: those of the provider, then
            those of the model. Settings that are not set are absent.

    >>> class Shouting(BaseLLMModel):
    ...     async def agenerate(self, prompt: str, **kwargs: object) -> str:
    ...         return prompt.upper()
    >>> Shouting("loud-v1", {}).generate("hello")
    'HELLO'
    """

    def __init__(self, model_name: str, config: dict[str, Any]) -> None:
        self.model_name = model_name
        self.config = config

    @abstractmethod
    async def agenerate(self, prompt: str, **kwargs: Any) -> str:
        """Answer one prompt.

        Args:
            prompt: the user's message, verbatim.
            **kwargs: generation settings for this call, such as ``temperature``.
        """

    def generate(self, prompt: str, **kwargs: Any) -> str:
        """Answer one prompt from sync code; works inside a running event loop too.

        The call runs on an event loop of its own in another thread, and blocks this one.
        """
        return run(self.agenerate(prompt, **kwargs))

    async def aclose(self) -> None:  # noqa: B027  # a model that holds nothing needs none
        """Release what the model holds. By default it holds nothing."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.model_name!r}>"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where a provider's key may come from when the configuration gives none.

    Args:
        key_variables: environment variables that may hold the key, in order of precedence.
        url_variables: environment variables that may hold the endpoint; they are read only
            where neither a key nor a ``base_url`` is configured, so that a configured key
            never reaches an endpoint that the configuration does not name.
        required: refuse ``get_model`` when there is neither a key nor a ``base_url``.
            (A ``base_url`` alone is a keyless local server.)
        vendor: which of several vendors the model belongs to; empty where the provider has
            but one. What an operator configured for one vendor serves no tenant at another.
        ambient: whether the SDK may find an identity of the host by itself, such as a cloud's
            role. A tenant uses such a vendor only where the operator's configuration does.
    """

    key_variables: tuple[str, ...] = ()
    url_variables: tuple[str, ...] = ()
    required: bool = False
    vendor: str = ""
    ambient: bool = False


class BaseLLMProvider(ABC):
    """Makes the models of one vendor, API or server.

    A provider is shared by every tenant and holds no credential: keys arrive in the
    ``config`` of ``create_model``.

    >>> class Shouting(BaseLLMModel):
    ...     async def agenerate(self, prompt: str, **kwargs: object) -> str:
    ...         return prompt.upper()
    >>> class ShoutingProvider(BaseLLMProvider):
    ...     id = "shouting"
    ...     def create_model(self, model_name: str, config: dict[str, object]) -> BaseLLMModel:
    ...         return Shouting(model_name, config)
    """

    # The name in references (`id:model`) and in `[llm.providers.<id>]`: a str. It is typed Any
    # because that is the one type under which mypy and pyright both accept a subclass that
    # sets a class attribute and one that defines a property.
    id: Any = ""

    @abstractmethod
    def create_model(self, model_name: str, config: dict[str, Any]) -> BaseLLMModel:
        """Make the model of that name.

        Args:
            model_name: verbatim from the reference or the configuration.
            config: one flat dict: the provider's settings, its ``extra``, the model's
                settings, its ``extra``. Values are plain; its repr masks secrets.
        """

    def credentials(self, model_name: str) -> Credentials:  # noqa: ARG002  # for overriding
        """Say where the key for a model may come from. By default none is needed."""
        return Credentials()

    def profile(self, model_name: str) -> ModelProfile:  # noqa: ARG002  # for overriding
        """Say what is known of a model. By default nothing is.

        What the configuration and the table of profiles know goes before it.
        """
        return UNKNOWN

    def close(self) -> None:  # noqa: B027  # a provider that holds nothing needs none
        """Release what the provider holds. By default it holds nothing."""

    async def aclose(self) -> None:
        """Release what the provider holds, from async code."""
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r}>"
