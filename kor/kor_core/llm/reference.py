"""References: ``provider:model`` or ``provider/model``, as written in code and configuration."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple, Self

from kor_core.errors import ConfigurationError, Problem, ProviderNotFoundError
from kor_core.settings.llm import provider_in
from kor_core.suggestions import through_litellm

__all__ = ["SEPARATORS", "Reference", "spelled"]

SEPARATORS: Final = (":", "/")
_UNPRINTED: Final = "some of it does not print. Write it on one line."


class Reference(NamedTuple):
    """A model of a provider.

    >>> str(Reference("openai", "gpt-4"))
    'openai:gpt-4'
    """

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}:{self.model}"

    @classmethod
    def parse(cls, text: str, known: Iterable[str]) -> Self:
        """Split at the first ``:`` or ``/``; what stands behind it is the model, verbatim.

        Args:
            text: such as ``openai:gpt-4`` or ``litellm/ollama/llama3:8b``.
            known: ids of the registered providers.

        Raises:
            ProviderNotFoundError: what stands before is no registered provider.
            ConfigurationError: nothing stands behind, or some of it does not print.
            TypeError: it is no text.

        >>> Reference.parse("litellm/ollama/llama3:8b", ["litellm", "openai"])
        Reference(provider='litellm', model='ollama/llama3:8b')
        """
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # users pass anything
            kind = type(text).__name__
            raise TypeError(f"A reference is a text such as 'openai:gpt-4', not {kind}.")
        if not text.isprintable():  # it would forge lines of logs
            raise ConfigurationError([Problem(f"{text!r} is no reference: {_UNPRINTED}")])
        known = tuple(known)
        provider = provider_in(text)
        model = text[len(provider) + 1 :]
        if provider in known and model:
            return cls(provider, model)
        if provider in known:
            words = f"'{text}' names no model: write '{provider}:<model>'."
            raise ConfigurationError([Problem(words)])
        raise ProviderNotFoundError(provider, known, _cure(text, model, known))


@lru_cache(maxsize=1024)
def spelled(provider: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return all that the configuration may call a model, the most exact last.

    Args:
        provider: its id.
        names: what the provider calls the model, the most exact last.

    >>> spelled("openai", ("gpt-4o",))
    ('gpt-4o', 'openai/gpt-4o', 'openai:gpt-4o')
    """
    return (*names, *(f"{provider}{each}{name}" for name in names for each in "/:"))


def _cure(text: str, model: str, known: tuple[str, ...]) -> str:
    if not model:
        example = "openai" if "openai" in known else min(known, default="openai")
        return f"A reference is written 'provider:model', such as '{example}:{text or 'model'}'."
    return f"Register one with registry.register().{through_litellm(text, known)}"
