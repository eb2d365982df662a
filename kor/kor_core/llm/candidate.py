"""A candidate: a model that was asked for, with its settings and the place that asked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kor_core.llm.generation import GENERATION, GenerationSettings
from kor_core.llm.reference import Reference
from kor_core.redaction import Config
from kor_core.settings import ModelSettings

__all__ = [
    "Candidate",
    "checked_settings",
    "generation_settings",
]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that was asked for.

    Args:
        reference: the provider and the model's name.
        settings: the settings given with it, flat: generation settings and ``extra``.
        key: the key path in the configuration that asked; empty for code.
    """

    reference: Reference
    settings: Mapping[str, Any]
    key: tuple[str, ...] = ()

    @classmethod
    def configured(
        cls, model: ModelSettings, key: tuple[str, ...], known: Iterable[str]
    ) -> "tuple[Candidate, ...]":
        """Read those of a table of the configuration, in the order in which they are asked.

        With ``provider``, ``model`` is verbatim; without, it is a reference.

        Raises:
            ProviderNotFoundError: a reference names no registered provider.
        """
        ids = tuple(known)
        settings = generation_settings(model)
        first = [Reference(model.provider, model.model)] if model.provider else []
        texts = [text for _, text in model.references()]
        references = [*first, *(Reference.parse(text, ids) for text in texts)]
        return tuple(cls(reference, settings, key) for reference in references)

    @classmethod
    def asked(cls, text: str, settings: Mapping[str, Any], known: Iterable[str]) -> "Candidate":
        """Read one from a reference and keyword arguments in code.

        Raises:
            ConfigurationError: a setting has an unknown name.
        """
        return cls(Reference.parse(text, known), checked_settings(settings))

    def with_settings(self, settings: Mapping[str, Any]) -> "Candidate":
        """Return the same model with more settings, which win."""
        merged = {**self.settings, **checked_settings(settings)}
        return Candidate(self.reference, merged, self.key)


def generation_settings(model: ModelSettings) -> dict[str, Any]:
    """Return what a table sets for the call, as one flat dict, ``extra`` merged in.

    >>> generation_settings(ModelSettings(model="echo:m", seed=7, extra={"top_k": 4}))
    {'seed': 7, 'top_k': 4}
    """
    given = {name: getattr(model, name) for name in GENERATION}
    return {name: value for name, value in given.items() if value is not None} | dict(model.extra)


def checked_settings(settings: Mapping[str, Any]) -> Config:
    """Return settings given in code as one flat dict, ``extra`` merged in, None left out.

    Raises:
        ConfigurationError: a setting has an unknown name, or a wrong value.

    >>> checked_settings({"temperature": 0.2, "seed": None, "extra": {"top_k": 4}})
    Config({'temperature': 0.2, 'top_k': 4})
    """
    return GenerationSettings.of(settings).flat()
